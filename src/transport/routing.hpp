// From a request's target to its route; private to this layer.
#pragma once

#include <string>
#include <string_view>

#include "pocketfleet/service/ports.hpp"

namespace pocketfleet {

/// Without what stands behind a `?`.
std::string_view path_of(std::string_view target);

bool is_for(const route& r, std::string_view path);

/// What stands in the path for the route's "/*" or "{...}", percent-decoded; empty if it has neither.
std::string below_of(const route& r, std::string_view path);

/// What is not a sound escape stays as it is.
std::string percent_decoded(std::string_view text);

}  // namespace pocketfleet
