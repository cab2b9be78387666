// How fast a phone has shown itself, as people are told.
#pragma once

#include <optional>

#include "pocketfleet/core/dispatcher.hpp"
#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {

/// With the phone's own model or, where nobody has named one or it has never answered, with the one that it
/// has answered with most. One a phone, whatever clients ask for.
std::optional<model_speed> shown_speed(const phone_status& p);

/// With every model: [{"model","prefill_tokens_per_s","decode_tokens_per_s","load_s","slowdown","answers"}],
/// null where it is not known.
json speeds_as_json(const phone_status& p);

}  // namespace pocketfleet
