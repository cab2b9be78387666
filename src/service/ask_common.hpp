// What the handlers of this folder share; private to them.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/core/time.hpp"
#include "pocketfleet/service/ports.hpp"

namespace pocketfleet {

inline constexpr std::string_view json_type = "application/json";
inline constexpr std::string_view ndjson_type = "application/x-ndjson";

inline milliseconds milliseconds_since(time_point then) {
  return std::chrono::duration_cast<milliseconds>(clock::now() - then);
}

/// Names, for a header.
inline std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names) out.append(out.empty() ? "" : ", ").append(name);
  return out;
}

/// A key may be for some models only: errc::forbidden for another one. Who names none gets the key's first.
result<void> choose_allowed(const http_call& call, std::string& model);

/// Who asks: the client's key, or its address. Those who wait for a phone take turns by it.
std::uint64_t owner_of(const http_call& call);

/// Tells the client why not, in our dialect's form.
task<> refuse(http_call& call, const error& why, header_list headers = {});

}  // namespace pocketfleet
