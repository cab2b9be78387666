#include "pocketfleet/wire/json.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <utility>
#include <vector>

#include "pocketfleet/wire/fast_json.hpp"
#include "pocketfleet/wire/json_fault.hpp"

namespace pocketfleet {
namespace {

/// Reads through a place that the handler can see: the library tells a handler where it is only when the text
/// is not JSON, not when the handler itself refuses something.
class watched_iterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  explicit watched_iterator(const char** place) : place_(place) {}

  reference operator*() const { return **place_; }
  watched_iterator& operator++() {
    ++*place_;
    return *this;
  }
  bool operator==(const watched_iterator& other) const { return *place_ == *other.place_; }
  bool operator!=(const watched_iterator& other) const { return *place_ != *other.place_; }

 private:
  const char** place_;
};

constexpr auto too_large = "a number that is too large";
constexpr auto too_small = "a number that is too small";

bool part_of_number_or_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '+' || c == '-' || c == '.';
}

/// Where the token that ends before `end` begins: people look for a mistake at its first character.
std::size_t token_start(std::string_view text, std::size_t end) {
  if (end == 0) return 0;
  std::size_t at = end - 1;
  if (text[at] == '"') {
    while (at > 0) {
      --at;
      if (text[at] != '"') continue;
      std::size_t before = at;
      while (before > 0 && text[before - 1] == '\\') --before;
      if ((at - before) % 2 == 0) return at;
      at = before;
    }
    return at;
  }
  while (at > 0 && part_of_number_or_word(text[at]) && part_of_number_or_word(text[at - 1])) --at;
  return at;
}

/// What is wrong, and what would have been right.
struct reason {
  std::string what;
  std::string expected{};
};

/// The library's words for a text that is not JSON, without the piece of the text that they quote.
reason reason_of(const json::exception& e) {
  constexpr int number_out_of_range = 406;
  if (e.id == number_out_of_range) return {too_large};
  std::string_view words = e.what();
  const auto begin = words.find(" - ");
  if (begin == std::string_view::npos) return {"something that is not JSON"};
  words.remove_prefix(begin + 3);
  words = words.substr(0, words.find("; last read: "));
  constexpr std::string_view separator = "; expected ";
  const auto end = words.rfind(separator);
  // "invalid number; expected digit after '-'" is one piece.
  if (end == std::string_view::npos || words.starts_with("invalid")) return {std::string(words)};
  return {std::string(words.substr(0, end)), std::string(words.substr(end + separator.size()))};
}

/// Builds the value and refuses what the grammar allows but we do not. Lives for one parse.
class builder final : public nlohmann::json_sax<json> {
 public:
  builder(std::string_view text, const char* const& place, json& root)
      : text_(text), place_(&place), root_(&root) {}

  bool null() override { return add(json(nullptr)); }
  bool boolean(bool v) override { return add(json(v)); }
  bool number_integer(number_integer_t v) override { return add(json(v)); }
  bool number_unsigned(number_unsigned_t v) override { return add(json(v)); }
  bool number_float(number_float_t v, const string_t& spelt) override {
    // What comes here without a fraction or an exponent is a whole number of more than 64 bits; what became 0
    // was too small. Both would be passed on as another number than the one that was written.
    const bool whole = spelt.find_first_of(".eE") == string_t::npos;
    const auto digits = std::string_view(spelt).substr(0, spelt.find_first_of("eE"));
    const bool vanished = v == 0 && digits.find_first_of("123456789") != std::string_view::npos;
    if (!std::isfinite(v) || whole) return refuse_token({too_large});
    if (vanished) return refuse_token({too_small});
    return add(json(v));
  }
  bool string(string_t& v) override { return add(json(std::move(v))); }
  bool binary(binary_t& /*v*/) override { return false; }

  bool start_object(std::size_t /*size*/) override { return open(json::object()); }
  bool key(string_t& name) override {
    auto& members = open_.back()->get_ref<json::object_t&>();
    const auto [member, fresh] = members.try_emplace(std::move(name));
    if (!fresh) return refuse_token({"a key that this object has already", "each key once"});
    member_ = &member->second;
    return true;
  }
  bool end_object() override { return close(); }
  bool start_array(std::size_t /*size*/) override { return open(json::array()); }
  bool end_array() override { return close(); }

  bool parse_error(std::size_t read, const std::string& /*token*/, const json::exception& e) override {
    const bool at_end = read > text_.size();
    auto why = reason_of(e);
    // A character inside a token is wrong: that one. Otherwise a whole token is out of place: its beginning.
    const bool inside = why.what.starts_with("invalid");
    refuse(at_end ? text_.size() : (inside ? read - (read > 0 ? 1 : 0) : token_start(text_, read)),
           std::move(why));
    return false;
  }

  std::size_t fault_at() const { return fault_at_; }
  const reason& fault() const { return fault_; }

 private:
  bool open(json&& container) {
    if (open_.size() == max_json_depth) {
      return refuse_token(
          {"nesting that is too deep", "at most " + std::to_string(max_json_depth) + " levels"});
    }
    open_.push_back(place(std::move(container)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }
  bool add(json&& v) {
    place(std::move(v));
    return true;
  }

  // A container that is open is the last of its parent, so the pointers in open_ stay good while it grows.
  json* place(json&& v) {
    if (open_.empty()) return &(*root_ = std::move(v));
    if (open_.back()->is_object()) return &(*member_ = std::move(v));
    return &open_.back()->get_ref<json::array_t&>().emplace_back(std::move(v));
  }

  bool refuse_token(reason why) {
    auto end = static_cast<std::size_t>(*place_ - text_.data());
    // The end of a number is known only when the character behind it has been read.
    const bool number = why.what.starts_with("a number");
    if (number && end > 0 && !part_of_number_or_word(text_[end - 1])) --end;
    refuse(token_start(text_, end), std::move(why));
    return false;
  }
  void refuse(std::size_t at, reason why) {
    fault_at_ = std::min(at, text_.size());
    fault_ = std::move(why);
  }

  std::string_view text_;
  const char* const* place_;
  json* root_;
  json* member_ = nullptr;    // where the value of the last key goes
  std::vector<json*> open_;   // containers that are not closed yet, the outermost first
  std::size_t fault_at_ = 0;  // offset in the text
  reason fault_{};
};

json_fault fault_at(std::string_view text, std::size_t at, reason why) {
  const auto before = text.substr(0, at);
  const auto newline = before.rfind('\n');
  const auto line = newline == std::string_view::npos ? before : before.substr(newline + 1);
  const auto continues = [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U; };
  return {static_cast<std::size_t>(std::count(before.begin(), before.end(), '\n')) + 1,
          line.size() - static_cast<std::size_t>(std::count_if(line.begin(), line.end(), continues)) + 1,
          std::move(why.what), std::move(why.expected)};
}

/// False for what the strict reader must decide: too deep, a key twice, a number that may have been rounded
/// to 0.
bool copy(const simdjson::dom::element& from, json& to, std::size_t depth) {
  using simdjson::dom::element_type;
  switch (from.type()) {
    case element_type::OBJECT: {
      if (depth > max_json_depth) return false;
      to = json::object();
      auto& members = to.get_ref<json::object_t&>();
      for (const auto& [key, member] : simdjson::dom::object(from)) {
        const auto [place, fresh] = members.try_emplace(std::string(key));
        if (!fresh || !copy(member, place->second, depth + 1)) return false;
      }
      return true;
    }
    case element_type::ARRAY: {
      if (depth > max_json_depth) return false;
      to = json::array();
      auto& elements = to.get_ref<json::array_t&>();
      for (const auto element : simdjson::dom::array(from)) {
        if (!copy(element, elements.emplace_back(), depth + 1)) return false;
      }
      return true;
    }
    case element_type::STRING: to = std::string_view(from); return true;
    case element_type::BOOL: to = bool(from); return true;
    case element_type::UINT64: to = std::uint64_t(from); return true;
    case element_type::INT64: {
      const std::int64_t number(from);
      if (number >= 0) {
        to = static_cast<std::uint64_t>(number);  // as nlohmann has it
      } else {
        to = number;
      }
      return true;
    }
    case element_type::DOUBLE: to = double(from); return to.get<double>() != 0.0;
    case element_type::NULL_VALUE: to = nullptr; return true;
  }
  return false;
}

}  // namespace

std::optional<json_fault> read_json(std::string_view text, json& value) {
  value = nullptr;
  if (text.starts_with("\xEF\xBB\xBF")) return fault_at(text, 0, {"a byte order mark", "UTF-8 without one"});
  // The library takes a NUL byte for the end of the text and would pass over what follows.
  if (const auto nul = text.find('\0'); nul != std::string_view::npos) {
    return fault_at(text, nul, {"a NUL byte"});
  }
  if (text.empty()) return fault_at(text, 0, {"an empty text"});  // its data() may be null

  const char* place = text.data();
  const char* end = text.data() + text.size();
  builder handler(text, place, value);
  if (json::sax_parse(watched_iterator(&place), watched_iterator(&end), &handler)) return std::nullopt;
  value = nullptr;
  return fault_at(text, handler.fault_at(), handler.fault());
}

result<json> parse_json(std::string_view text) {
  json value;
  // What is plain is read fast. What is not, or is wrong, is left to the reader that can say where and why.
  if (const auto document = parse_fast(text); document && copy(*document, value, 1)) {
    return {boost::system::in_place_value, std::move(value)};
  }
  const auto fault = read_json(text, value);
  // Spelt out because json converts to and from nearly everything.
  if (!fault) return {boost::system::in_place_value, std::move(value)};
  auto text_of_it = "invalid JSON at line " + std::to_string(fault->line) + ", column " +
                    std::to_string(fault->column) + ": " + fault->what;
  if (!fault->expected.empty()) text_of_it += ", expected " + fault->expected;
  return error(errc::bad_request, std::move(text_of_it));
}

}  // namespace pocketfleet
