#include "request_id.hpp"

#include <algorithm>
#include <cstdint>
#include <random>

namespace pocketfleet {

std::string accepted_request_id(std::string_view given) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  if (given.empty() || given.size() > 64 || !std::all_of(given.begin(), given.end(), plain)) return {};
  return std::string(given);
}

std::string new_request_id() {
  thread_local std::mt19937_64 random(std::random_device{}());
  std::uint64_t value = random();
  std::string out(16, '0');
  for (char& c : out) {
    c = "0123456789abcdef"[value & 15U];
    value >>= 4U;
  }
  return out;
}

}  // namespace pocketfleet
