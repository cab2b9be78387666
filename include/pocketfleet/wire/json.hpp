// Strict reading and safe writing of JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "pocketfleet/core/error.hpp"

namespace pocketfleet {

using json = nlohmann::json;

/// Deepest nesting that is read. Deeper text crashes copies of the value, and llama-server (llama.cpp
/// #27434).
inline constexpr std::size_t max_json_depth = 64;

/// Parses one document. Refused with errc::bad_request and where it is: anything that is not JSON (RFC 8259),
/// nesting over max_json_depth, a key twice in one object, numbers out of range, bad UTF-8, anything behind
/// the document. The message never repeats the text.
result<json> parse_json(std::string_view text);

/// Text of a value, without spaces, keys in order; what is in strings as append_json_string() writes it, so
/// it never throws. Numbers read back as the same value; one that is not finite is null.
std::string dump_json(const json& value);
void append_json(std::string& out, const json& value);

/// Appends `text` as a JSON string with its quotes. Control characters and those at which some clients split
/// lines (U+0085, U+2028, U+2029) are escaped; bytes that are not UTF-8 become U+FFFD.
void append_json_string(std::string& out, std::string_view text);

}  // namespace pocketfleet
