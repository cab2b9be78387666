// Each phone once.
#pragma once

#include <vector>

#include "pocketfleet/core/dispatcher.hpp"

namespace pocketfleet {

/// A phone that has moved is there twice while its last requests at the old address end: then the one that
/// gets new requests. In their order; views into `all`.
std::vector<const phone_status*> once_each(const std::vector<phone_status>& all);

}  // namespace pocketfleet
