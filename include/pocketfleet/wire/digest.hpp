// SHA-256, by OpenSSL.
#pragma once

#include <array>
#include <string>
#include <string_view>

namespace pocketfleet {

std::array<unsigned char, 32> sha256(std::string_view text);

/// In a time that does not tell where they differ.
bool same_digest(const std::array<unsigned char, 32>& a, const std::array<unsigned char, 32>& b);

std::string sha256_hex(std::string_view text);  ///< 64 lower-case digits

}  // namespace pocketfleet
