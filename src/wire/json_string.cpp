// Every token that is relayed passes through here.
#include <array>
#include <cstdint>

#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {
namespace {

constexpr auto plain = [] {
  std::array<bool, 256> table{};
  for (std::size_t c = 0x20; c < 0x7F; ++c) table[c] = c != '"' && c != '\\';
  return table;
}();

unsigned byte_at(std::string_view text, std::size_t at) {
  return static_cast<unsigned char>(text[at]);
}

void append_escape(std::string& out, unsigned code) {
  constexpr std::string_view digits = "0123456789abcdef";
  const std::array<char, 6> escape{'\\',
                                   'u',
                                   digits[code >> 12U & 15U],
                                   digits[code >> 8U & 15U],
                                   digits[code >> 4U & 15U],
                                   digits[code & 15U]};
  out.append(escape.data(), escape.size());
}

void append_ascii(std::string& out, unsigned c) {
  switch (c) {
    case '"': out += "\\\""; break;
    case '\\': out += "\\\\"; break;
    case '\b': out += "\\b"; break;
    case '\f': out += "\\f"; break;
    case '\n': out += "\\n"; break;
    case '\r': out += "\\r"; break;
    case '\t': out += "\\t"; break;
    default: append_escape(out, c); break;
  }
}

struct character {
  std::size_t size;  // bytes read
  unsigned code;
  bool good;
};

/// The character of two to four bytes at `at`. A bad one is as long as the part that could have become good,
/// so that the next character is not swallowed with it.
character decode(std::string_view text, std::size_t at) {
  const unsigned first = byte_at(text, at);
  if (first < 0xC2 || first > 0xF4) return {1, 0, false};
  const std::size_t size = first < 0xE0 ? 2 : (first < 0xF0 ? 3 : 4);
  // The second byte alone tells overlong forms, surrogates and what lies beyond U+10FFFF.
  unsigned low = first == 0xE0 ? 0xA0 : (first == 0xF0 ? 0x90 : 0x80);
  unsigned high = first == 0xED ? 0x9F : (first == 0xF4 ? 0x8F : 0xBF);
  unsigned code = first & (0xFFU >> (size + 1));
  for (std::size_t i = 1; i < size; ++i) {
    if (at + i >= text.size()) return {i, 0, false};
    const unsigned next = byte_at(text, at + i);
    if (next < low || next > high) return {i, 0, false};
    code = code << 6U | (next & 0x3FU);
    low = 0x80;
    high = 0xBF;
  }
  return {size, code, true};
}

}  // namespace

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  std::size_t copied = 0;  // what is before this is in `out`
  std::size_t at = 0;
  const auto flush = [&] { out.append(text.data() + copied, at - copied); };
  while (at < text.size()) {
    const unsigned c = byte_at(text, at);
    if (plain[c]) {
      ++at;
      continue;
    }
    if (c < 0x80) {
      flush();
      append_ascii(out, c);
      copied = ++at;
      continue;
    }
    const auto [size, code, good] = decode(text, at);
    const bool splits_lines = code < 0xA0 || code == 0x2028 || code == 0x2029;  // with U+0085 all of C1
    if (good && !splits_lines) {
      at += size;
      continue;
    }
    flush();
    if (good) {
      append_escape(out, code);
    } else {
      out += "\xEF\xBF\xBD";
    }
    copied = at += size;
  }
  flush();
  out += '"';
}

}  // namespace pocketfleet
