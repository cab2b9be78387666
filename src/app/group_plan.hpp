// A group without one of its workers, planned anew; private to this layer.
#pragma once

#include <optional>
#include <string>

#include "group_file.hpp"

namespace pocketfleet {

/// The same group without that worker: order, layers and place of the output layer by the best split over the
/// others. Errors: errc::bad_request, what is missing, for people.
result<group_config> planned_without(const group_config& group, std::size_t worker);

}  // namespace pocketfleet
