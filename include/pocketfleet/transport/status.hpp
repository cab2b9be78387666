// The one place where errors become HTTP.
#pragma once

#include <string_view>

#include "pocketfleet/core/error.hpp"

namespace pocketfleet {

/// The status a client gets.
int http_status(const error& why);

/// The standard text of a status, for the status line.
std::string_view reason_phrase(int status);

}  // namespace pocketfleet
