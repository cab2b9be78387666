// The settings as the file would say them.
#pragma once

#include "pocketfleet/app/settings.hpp"
#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {

/// The `gateway` object with every key there is, also those that stand at their default.
json settings_to_json(const gateway_settings& settings);

}  // namespace pocketfleet
