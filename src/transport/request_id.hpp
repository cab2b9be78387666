// Request ids; private to this layer.
#pragma once

#include <string>
#include <string_view>

namespace pocketfleet {

/// The client's own id if it is 1 to 64 of [A-Za-z0-9._-], else empty: it goes into headers and logs.
std::string accepted_request_id(std::string_view given);

/// 16 hexadecimal digits, unlikely to come twice.
std::string new_request_id();

/// "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" (W3C Trace Context, level 1): as it is, or empty
/// if it is no such thing. Of a newer version only what this one has is kept.
std::string accepted_traceparent(std::string_view given);

/// The trace's id in it.
std::string_view trace_id_of(std::string_view traceparent);

}  // namespace pocketfleet
