#include "request_parts.hpp"

#include <algorithm>
#include <cmath>

#include "pocketfleet/wire/nearest.hpp"

namespace pocketfleet {
namespace {

bool is_think(const json& value) {
  if (value.is_boolean()) return true;
  return value == "low" || value == "medium" || value == "high" || value == "max";
}

constexpr std::size_t longest_pattern = 512;

bool has_long_pattern(const json& schema) {
  if (schema.is_array()) return std::any_of(schema.begin(), schema.end(), has_long_pattern);
  if (!schema.is_object()) return false;
  for (const auto& [name, value] : schema.items()) {
    if (name == "pattern" && value.is_string() &&
        value.get_ref<const std::string&>().size() > longest_pattern)
      return true;
    if (has_long_pattern(value)) return true;
  }
  return false;
}

}  // namespace

error bad(std::string text) {
  return {errc::bad_request, std::move(text)};
}

std::string plain_name(std::string_view name) {
  const bool plain = name.size() <= 40 && std::all_of(name.begin(), name.end(), [](char c) {
                       return c > ' ' && c < 0x7f && c != '"' && c != '\\';
                     });
  return plain ? std::string(name) : std::string{};
}

error unknown_field(std::string_view where, std::string_view name, std::span<const std::string_view> known) {
  std::string text = "unknown " + std::string(where);
  if (const std::string plain = plain_name(name); !plain.empty())
    text.append(" \"").append(plain).append("\"");
  if (const auto meant = nearest(name, known); !meant.empty()) {
    text.append("; did you mean \"").append(meant).append("\"?");
  }
  return bad(std::move(text));
}

json* find(json& object, std::string_view name) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

const json* find(const json& object, std::string_view name) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

void add_message(json& messages, const char* role, json& content) {
  json message = json::object();
  message["role"] = role;
  message["content"] = std::move(content);
  messages.push_back(std::move(message));
}

bool is_keep_alive(const json& value) {
  if (value.is_number()) return std::isfinite(value.get<double>());
  if (!value.is_string()) return false;
  std::string_view text = value.get_ref<const std::string&>();
  if (text == "0") return true;
  if (text.starts_with('-')) text.remove_prefix(1);
  bool any = false;
  while (!text.empty()) {
    const auto digits = text.find_first_not_of("0123456789.");
    if (digits == 0 || digits == std::string_view::npos) return false;
    text.remove_prefix(digits);
    std::size_t unit = 0;
    for (const std::string_view known : {"ms", "us", "ns", "h", "m", "s"}) {
      if (text.starts_with(known)) {
        unit = known.size();
        break;
      }
    }
    if (unit == 0) return false;
    text.remove_prefix(unit);
    any = true;
  }
  return any;
}

result<json> read_object(std::string_view text) {
  auto body = parse_json(text);
  if (body && !body->is_object()) return bad("expected a JSON object");
  return body;
}

void only_native(question& q, std::string field) {
  q.resumable = false;
  if (q.native_only.empty()) q.native_only = std::move(field);
}

std::string native_name(std::string_view before, std::string_view name) {
  const std::string plain = plain_name(name);
  return std::string(before) + (plain.empty() ? "a field" : plain);
}

bool is_one_of(std::string_view name, std::span<const std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool is_empty_string(const json& value) {
  return value.is_string() && value.get_ref<const std::string&>().empty();
}

bool is_empty(const json& value) {
  return value.is_null() || (value.is_structured() && value.empty());
}

result<std::string> read_model(const json& value) {
  if (!value.is_string() || value.get_ref<const std::string&>().size() > 256)
    return bad("model: expected a name");
  return value.get<std::string>();
}

result<json> read_images(const json& images, const std::string& where) {
  if (!images.is_array() || images.empty()) return bad(where + ": expected an array of base64 strings");
  for (const auto& image : images) {
    if (!image.is_string() || image.get_ref<const std::string&>().empty() ||
        image.get_ref<const std::string&>().starts_with("data:")) {
      return bad(where + ": expected base64 strings, without \"data:\" before them");
    }
  }
  return images;
}

result<json> read_tools(const json& tools) {
  if (!tools.is_array() || tools.size() > 128) return bad("tools: expected an array of at most 128 tools");
  for (std::size_t i = 0; i < tools.size(); ++i) {
    const std::string where = "tools[" + std::to_string(i) + "]";
    const json& tool = tools[i];
    if (!tool.is_object() || !tool.contains("function") || !tool["function"].is_object())
      return bad(where + ".function: expected an object");
    if (const json* type = find(tool, "type"); type != nullptr && *type != "function")
      return bad(where + ".type: expected \"function\"");
    const json* name = find(tool["function"], "name");
    if (name == nullptr || !name->is_string() || name->get_ref<const std::string&>().empty())
      return bad(where + ".function.name: expected a name");
    if (const json* parameters = find(tool["function"], "parameters")) {
      if (!parameters->is_object()) return bad(where + ".function.parameters: expected a JSON Schema object");
      if (auto sound = check_schema(*parameters, where + ".function.parameters"); !sound)
        return sound.error();
    }
  }
  return tools;
}

result<void> check_schema(const json& schema, const std::string& where) {
  if (has_long_pattern(schema))
    return bad(where + ": a pattern is longer than " + std::to_string(longest_pattern) + " bytes");
  return {};
}

result<void> read_shape(const json& body, question& q) {
  if (const json* format = find(body, "format"); format != nullptr && !is_empty_string(*format)) {
    if (*format != "json" && !format->is_object())
      return bad("format: expected \"json\" or a JSON Schema object");
    if (auto sound = check_schema(*format, "format"); !sound) return sound;
    q.format = *format;
  }
  if (const json* think = find(body, "think")) {
    if (!is_think(*think))
      return bad("think: expected true, false, \"low\", \"medium\", \"high\" or \"max\"");
    q.think = *think;
  }
  if (const json* keep_alive = find(body, "keep_alive")) {
    if (!is_keep_alive(*keep_alive)) {
      return bad("keep_alive: expected seconds as a number, or a time with its unit, as \"10m\"");
    }
    q.keep_alive = *keep_alive;
  }
  return {};
}

result<bool> read_flag(const json& body, const char* name, bool otherwise) {
  const json* const value = find(body, name);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) return bad(std::string(name) + ": expected true or false");
  return value->get<bool>();
}

}  // namespace pocketfleet
