#include "json.hpp"

#include <cstdio>
#include <ctime>

namespace pocketfleet::sim {
namespace {

constexpr int most_nesting = 64;

template <class T>
std::string write(const T& value) {
  return value.dump(-1, ' ', false, T::error_handler_t::replace);
}

bool too_deep(std::string_view text) {
  int depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') ++i;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      if (++depth > most_nesting) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

}  // namespace

std::optional<json> read_json(std::string_view text) {
  if (too_deep(text)) return std::nullopt;
  json value = json::parse(text, nullptr, false);
  if (value.is_discarded()) return std::nullopt;
  return value;
}

std::string write_json(const json& value) {
  return write(value);
}
std::string write_json(const ordered& value) {
  return write(value);
}

const json& member(const json& from, const char* name) {
  static const json nothing;
  if (!from.is_object()) return nothing;
  const auto found = from.find(name);
  return found == from.end() ? nothing : *found;
}

std::string text_member(const json& from, const char* name, std::string_view otherwise) {
  const json& value = member(from, name);
  return value.is_string() ? value.get<std::string>() : std::string(otherwise);
}

bool bool_member(const json& from, const char* name, bool otherwise) {
  const json& value = member(from, name);
  return value.is_boolean() ? value.get<bool>() : otherwise;
}

std::string utc_now(nanoseconds later) {
  const auto now = std::chrono::time_point_cast<nanoseconds>(std::chrono::system_clock::now()) + later;
  const auto whole = std::chrono::floor<seconds>(now);
  const std::time_t time = std::chrono::system_clock::to_time_t(whole);
  std::tm parts{};
  gmtime_r(&time, &parts);
  char text[64];
  const std::size_t size = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  std::string result(text, size);
  const auto fraction = static_cast<long long>((now - whole).count());
  std::snprintf(text, sizeof text, ".%09lldZ", fraction);
  return result + text;
}

}  // namespace pocketfleet::sim
