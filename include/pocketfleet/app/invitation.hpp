// What a person types, or scans, on a phone that is to join the fleet.
#pragma once

#include <string>
#include <string_view>

#include "pocketfleet/app/settings.hpp"

namespace pocketfleet {

/// A new token: 192 bits of the kernel's randomness, in letters that a command line takes as they are.
std::string new_token();

/// Where phones reach a gateway that listens there: the address itself, or for 0.0.0.0 and :: this machine's
/// first address in a private network. An error says what to do.
result<std::string> address_for_phones(const listener_settings& listener);

/// The one line for Termux.
std::string join_command(std::string_view address, std::string_view token, std::string_view model);

/// A QR code for a terminal, two rows of it in a line of text; light on dark and dark on light both scan.
/// Empty if the text is too long for one.
std::string qr_code(const std::string& text);

}  // namespace pocketfleet
