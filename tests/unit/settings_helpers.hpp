// Short ways to ask what a configuration is refused for.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/app/settings.hpp"
#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {

/// The mistakes as the person sees them.
inline std::vector<std::string> mistakes(std::string_view text) {
  std::vector<std::string> lines;
  for (const auto& m : parse_configuration(text).mistakes) lines.push_back(to_string(m, "F"));
  return lines;
}

/// The single mistake that there is, or all of them.
inline std::string mistake_in(std::string_view text) {
  std::string all;
  for (const auto& line : mistakes(text)) all += (all.empty() ? "" : "\n") + line;
  return all;
}

inline std::string in_phone(const std::string& members) {
  return mistake_in(R"([{"host":"10.0.0.1",)" + members + "}]");
}
inline std::string in_host(const std::string& host) {
  return mistake_in(R"([{"host":)" + json(host).dump() + "}]");
}
inline std::string in_gateway(const std::string& members) {
  return mistake_in(R"({"gateway":{)" + members + R"(},"phones":[{"host":"10.0.0.1"}]})");
}
inline configuration good(std::string_view text) {
  auto loaded = parse_configuration(text);
  EXPECT_TRUE(loaded.ok()) << mistake_in(text);
  return std::move(loaded.value);
}
inline gateway_settings good_gateway(const std::string& members) {
  return good(R"({"gateway":{)" + members + R"(},"phones":[{"host":"10.0.0.1"}]})").gateway;
}

}  // namespace pocketfleet
