#include "text.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

namespace pocketfleet::sim {
namespace {

// Ids below this are numbers; then the single bytes, then packed ASCII. All fit 32 bits, as the engines' ids
// do.
constexpr token_id first_byte = token_id{1} << 24;
constexpr token_id first_packed = token_id{1} << 28;
constexpr token_id end_of_ids = token_id{1} << 29;
constexpr std::size_t most_digits = 7;

bool digit(char c) {
  return c >= '0' && c <= '9';
}

// Length of " 123" at the front of the text, 0 if there is none that becomes one token.
std::size_t number_token(std::string_view text) {
  if (text.size() < 2 || text[0] != ' ' || !digit(text[1])) return 0;
  std::size_t end = 2;
  while (end < text.size() && digit(text[end])) ++end;
  const std::size_t digits = end - 1;
  if (digits > most_digits || (digits > 1 && text[1] == '0')) return 0;
  return end;
}

}  // namespace

std::vector<token_id> tokenize(std::string_view text) {
  std::vector<token_id> ids;
  ids.reserve(text.size() / 3 + 1);
  while (!text.empty()) {
    if (const std::size_t size = number_token(text); size != 0) {
      token_id number = 0;
      std::from_chars(text.data() + 1, text.data() + size, number);
      ids.push_back(number);
      text.remove_prefix(size);
      continue;
    }
    token_id packed = 0;
    std::size_t size = 0;
    while (size < 4 && size < text.size()) {
      const auto byte = static_cast<unsigned char>(text[size]);
      if (byte == 0 || byte > 0x7F) break;
      if (size > 0 && number_token(text.substr(size)) != 0) break;
      packed |= token_id{byte} << (7 * size);
      ++size;
    }
    if (size == 0) {
      ids.push_back(first_byte + static_cast<unsigned char>(text[0]));
      size = 1;
    } else {
      ids.push_back(first_packed + packed);
    }
    text.remove_prefix(size);
  }
  return ids;
}

std::string text_of(token_id id) {
  std::string text;
  if (id < 0 || id >= end_of_ids) return text;
  if (id < first_byte) return ' ' + std::to_string(id);
  if (id < first_byte + 256) return std::string(1, static_cast<char>(id - first_byte));
  if (id < first_packed) return text;
  for (token_id packed = id - first_packed; packed != 0; packed >>= 7)
    text.push_back(static_cast<char>(packed & 0x7F));
  return text;
}

token_id token_of_number(std::uint64_t number) {
  return static_cast<token_id>(number % first_byte);
}

std::optional<std::uint64_t> number_at_end(std::string_view text) {
  std::size_t begin = text.size();
  while (begin > 0 && digit(text[begin - 1]) && text.size() - begin <= most_digits) --begin;
  if (begin == text.size() || text.size() - begin > most_digits) return std::nullopt;
  std::uint64_t number = 0;
  std::from_chars(text.data() + begin, text.data() + text.size(), number);
  return number;
}

std::string chatml(const std::vector<message>& messages, bool open_last, bool generation_prompt) {
  std::string prompt;
  for (const message& each : messages) {
    prompt += "<|im_start|>" + each.role + '\n' + each.content;
    if (open_last && &each == &messages.back()) return prompt;
    prompt += "<|im_end|>\n";
  }
  if (generation_prompt) prompt += "<|im_start|>assistant\n";
  return prompt;
}

stop_filter::stop_filter(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase(stops_, std::string());
}

std::string stop_filter::take(std::string_view piece) {
  if (hit()) return {};
  if (stops_.empty()) return std::string(piece);
  held_ += piece;

  std::size_t found = std::string::npos;
  for (const std::string& stop : stops_) {
    if (const std::size_t at = held_.find(stop); at < found) {
      found = at;
      word_ = stop;
    }
  }
  if (hit()) return std::exchange(held_, {}).substr(0, found);

  std::size_t keep = 0;  // the longest end of the text that begins a stop string
  for (const std::string& stop : stops_) {
    for (std::size_t size = std::min(stop.size() - 1, held_.size()); size > keep; --size)
      if (held_.ends_with(std::string_view(stop).substr(0, size))) keep = size;
  }
  std::string shown = held_.substr(0, held_.size() - keep);
  held_.erase(0, shown.size());
  return shown;
}

std::string stop_filter::rest() {
  return std::exchange(held_, {});
}

}  // namespace pocketfleet::sim
