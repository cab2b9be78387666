// nlohmann's own dump() makes a serializer with a locale's decimal point for each call, which costs more than
// the short values that are written here for each request.
#include <charconv>
#include <cmath>

#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {
namespace {

template <class Number>
void append_number(std::string& out, Number value) {
  char digits[32];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

void append_float(std::string& out, double value) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  const std::size_t begin = out.size();
  append_number(out, value);
  // A whole number stays a floating one when it is read again.
  if (out.find_first_of(".e", begin) == std::string::npos) out += ".0";
}

}  // namespace

void append_json(std::string& out, const json& value) {
  switch (value.type()) {
    case json::value_t::object: {
      char separator = '{';
      for (const auto& [name, member] : value.get_ref<const json::object_t&>()) {
        out += separator;
        append_json_string(out, name);
        out += ':';
        append_json(out, member);
        separator = ',';
      }
      out += separator == '{' ? "{}" : "}";
      return;
    }
    case json::value_t::array: {
      char separator = '[';
      for (const auto& element : value.get_ref<const json::array_t&>()) {
        out += separator;
        append_json(out, element);
        separator = ',';
      }
      out += separator == '[' ? "[]" : "]";
      return;
    }
    case json::value_t::string: append_json_string(out, value.get_ref<const std::string&>()); return;
    case json::value_t::boolean: out += value.get<bool>() ? "true" : "false"; return;
    case json::value_t::number_integer: append_number(out, value.get<std::int64_t>()); return;
    case json::value_t::number_unsigned: append_number(out, value.get<std::uint64_t>()); return;
    case json::value_t::number_float: append_float(out, value.get<double>()); return;
    case json::value_t::null:
    case json::value_t::binary:
    case json::value_t::discarded: break;
  }
  out += "null";
}

std::string dump_json(const json& value) {
  std::string out;
  append_json(out, value);
  return out;
}

}  // namespace pocketfleet
