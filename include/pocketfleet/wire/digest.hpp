// SHA-256, by OpenSSL.
#pragma once

#include <array>
#include <string>
#include <string_view>

namespace pocketfleet {

std::array<unsigned char, 32> sha256(std::string_view text);
std::string sha256_hex(std::string_view text);  ///< 64 lower-case digits

}  // namespace pocketfleet
