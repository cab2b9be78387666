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

std::string accepted_traceparent(std::string_view given) {
  constexpr std::size_t size = 55;
  constexpr std::string_view digits = "0123456789abcdef";
  if (given.size() < size || (given.size() > size && (given[size] != '-' || given.starts_with("00"))))
    return {};
  const std::string_view ours = given.substr(0, size);
  for (std::size_t i = 0; i < size; ++i) {
    const bool dash = i == 2 || i == 35 || i == 52;
    if (dash ? ours[i] != '-' : digits.find(ours[i]) == std::string_view::npos) return {};
  }
  const auto nothing = [](std::string_view id) {
    return id.find_first_not_of('0') == std::string_view::npos;
  };
  if (ours.starts_with("ff") || nothing(ours.substr(3, 32)) || nothing(ours.substr(36, 16))) return {};
  return "00" + std::string(ours.substr(2));
}

std::string_view trace_id_of(std::string_view traceparent) {
  return traceparent.empty() ? traceparent : traceparent.substr(3, 32);
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
