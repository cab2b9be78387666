// Request ids; private to this layer.
#pragma once

#include <string>
#include <string_view>

namespace pocketfleet {

/// The client's own id if it is 1 to 64 of [A-Za-z0-9._-], else empty: it goes into headers and logs.
std::string accepted_request_id(std::string_view given);

/// 16 hexadecimal digits, unlikely to come twice.
std::string new_request_id();

}  // namespace pocketfleet
