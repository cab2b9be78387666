// Strict reading of JSON for those who tell a person where the text is wrong.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {

/// Why a text is refused. Lines and columns count from 1, columns in characters.
struct json_fault {
  std::size_t line = 1;
  std::size_t column = 1;
  std::string what{};      ///< what stands there; never repeats the text
  std::string expected{};  ///< what should, where that can be said
};

/// As parse_json(). `value` is null where a fault comes back.
std::optional<json_fault> read_json(std::string_view text, json& value);

}  // namespace pocketfleet
