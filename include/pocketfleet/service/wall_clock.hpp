// The time of day, only ever shown to people and clients.
#pragma once

#include <string>

namespace pocketfleet {

/// Now, as RFC 3339 in UTC with nanoseconds: "2026-11-20T13:00:00.123456789Z".
std::string rfc3339_now();

}  // namespace pocketfleet
