// JSON for the simulated engines: lenient reading as theirs, fields in the order that they are written in.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/core/time.hpp"

namespace pocketfleet::sim {

using json = nlohmann::json;
using ordered = nlohmann::ordered_json;

std::optional<json> read_json(std::string_view text);  ///< absent: no JSON, or nested over 64 deep
std::string write_json(const json& value);             ///< bytes that are not UTF-8 become U+FFFD
std::string write_json(const ordered& value);

/// The member, or null when there is none or `from` is no object.
const json& member(const json& from, const char* name);
/// The text of a string member, otherwise the other text.
std::string text_member(const json& from, const char* name, std::string_view otherwise = {});
bool bool_member(const json& from, const char* name, bool otherwise);

std::string utc_now(nanoseconds later = nanoseconds(0));  ///< RFC 3339 with nanoseconds, as Go writes it

}  // namespace pocketfleet::sim
