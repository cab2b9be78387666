#include "config_reader.hpp"

#include "pocketfleet/wire/json_fault.hpp"
#include "pocketfleet/wire/nearest.hpp"

namespace pocketfleet {
namespace {

constexpr std::size_t longest_shown = 48;  // characters

/// Quoted and escaped, so that a file cannot write to the terminal; long text is cut.
std::string shown(std::string_view text) {
  std::size_t at = 0;
  std::size_t characters = 0;
  for (; at < text.size(); ++at) {
    const bool begins = (static_cast<unsigned char>(text[at]) & 0xC0U) != 0x80U;
    if (begins && characters++ == longest_shown) break;
  }
  std::string out;
  append_json_string(out, text.substr(0, at));
  if (at < text.size()) out.insert(out.size() - 1, "...");
  return out;
}

}  // namespace

std::string describe(const json& value) {
  switch (value.type()) {
    case json::value_t::string: return shown(value.get_ref<const std::string&>()) + " (a string)";
    case json::value_t::object: return value.empty() ? "{} (an object)" : "{...} (an object)";
    case json::value_t::array: return value.empty() ? "[] (an array)" : "[...] (an array)";
    default: return dump_json(value);
  }
}

void mistake_list::add(std::string path, std::string found, std::string expected) {
  if (!full()) {
    list_.push_back({std::move(path), std::move(found), std::move(expected)});
  } else {
    ++unlisted_;
  }
}

std::optional<mistake> json_mistake(std::string_view text, json& into) {
  auto fault = read_json(text, into);
  if (!fault) return std::nullopt;
  return mistake{"line " + std::to_string(fault->line) + ", column " + std::to_string(fault->column),
                 std::move(fault->what), fault->expected.empty() ? "JSON" : std::move(fault->expected)};
}

std::vector<mistake> mistake_list::take() {
  if (unlisted_ > 0) {
    list_.push_back({"", std::to_string(unlisted_) + " more mistakes that are not listed", "none"});
    unlisted_ = 0;
  }
  return std::exchange(list_, {});
}

std::string place::path_to(std::string_view key) const {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  };
  if (key.empty() || key.size() > longest_shown || !std::all_of(key.begin(), key.end(), plain)) {
    return path + "[" + shown(key) + "]";
  }
  return path.empty() ? std::string(key) : path + "." + std::string(key);
}

void refuse_unknown_key(const place& object, const std::string& key, std::vector<std::string_view> known) {
  if (object.mistakes.full()) return object.mistakes.add({}, {}, {});  // only counted; nearest() is slow
  const auto meant = nearest(key, known);
  std::sort(known.begin(), known.end());
  object.mistakes.add(
      object.path_to(key), "an unknown key",
      meant.empty() ? one_of(known) : "a known one; did you mean \"" + std::string(meant) + "\"?");
}

std::optional<std::uint64_t> as_whole(const json& value) {
  if (value.is_number_unsigned()) return value.get<std::uint64_t>();
  if (value.is_number_integer() && value.get<std::int64_t>() == 0) return 0;  // "-0"
  if (!value.is_number_float()) return std::nullopt;
  constexpr double exact = 9007199254740992;  // 2^53: beyond it a double no longer tells every whole number
  const auto v = value.get<double>();
  if (v < 0 || v > exact || v != std::floor(v)) return std::nullopt;
  return static_cast<std::uint64_t>(v);
}

bool is_plain_name(std::string_view text, std::size_t longest) {
  const auto plain = [](char c) { return c >= 0x20 && c < 0x7F && c != '"' && c != '\\'; };
  return !text.empty() && text.size() <= longest && text.front() != ' ' && text.back() != ' ' &&
         std::all_of(text.begin(), text.end(), plain);
}

json number(double value) {
  const bool whole = value == std::floor(value) && std::abs(value) < 1e15;
  return whole ? json(static_cast<std::int64_t>(value)) : json(value);
}

std::string one_of(const std::vector<std::string_view>& names) {
  std::string out = names.size() > 1 ? "one of " : "";
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (i > 0) out += i + 1 == names.size() ? " or " : ", ";
    out += '"' + std::string(names[i]) + '"';
  }
  return out;
}

void read_path(std::string& into, const place& from) {
  constexpr std::size_t longest = 4096;
  const auto* text = from.value.get_ptr<const std::string*>();
  if (text == nullptr || text->size() > longest || text->find('\0') != std::string::npos)
    return from.refuse("the path of a file, from the folder of this one");
  into = *text;
}

}  // namespace pocketfleet
