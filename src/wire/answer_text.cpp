#include "answer_text.hpp"

#include <charconv>

#include "pocketfleet/wire/fast_json.hpp"
#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {

void append_number(std::string& out, std::int64_t value) {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  out.append(digits, end);
}

void append_field(std::string& out, std::string_view name, std::int64_t value) {
  out.append(",\"").append(name).append("\":");
  append_number(out, value);
}

void add_logprobs(std::string& entries, std::string_view piece) {
  const auto begin = piece.find('[');
  const auto end = piece.rfind(']');
  if (begin == std::string_view::npos || end == std::string_view::npos || end <= begin + 1) return;
  if (!entries.empty()) entries += ',';
  entries.append(piece.substr(begin + 1, end - begin - 1));
}

namespace {

std::string logprobs_from(const answer& a, std::size_t first) {
  std::string entries;
  for (std::size_t i = first; i < a.pieces.size(); ++i) {
    if (a.pieces[i].kind == piece_kind::logprobs) add_logprobs(entries, a.piece_text(i));
  }
  return entries;
}

}  // namespace

std::string all_logprobs(const answer& a) {
  return logprobs_from(a, 0);
}

std::string last_logprobs(const answer& a) {
  std::size_t first = a.pieces.size();
  while (first > 0) {
    const piece_kind kind = a.pieces[first - 1].kind;
    if (kind == piece_kind::content || kind == piece_kind::reasoning) break;
    --first;
  }
  return logprobs_from(a, first);
}

std::vector<whole_call> calls_of(const answer& a) {
  std::vector<whole_call> calls;
  for (std::size_t i = 0; i < a.pieces.size(); ++i) {
    if (a.pieces[i].kind != piece_kind::tool_call) continue;
    const auto deltas = parse_fast(a.piece_text(i));
    if (!deltas || !deltas->is_array()) continue;
    for (const auto delta : simdjson::dom::array(*deltas)) {
      std::uint64_t index = 0;
      if (delta["index"].get(index) != simdjson::SUCCESS || index > 127) continue;
      if (calls.size() <= index) calls.resize(index + 1);
      whole_call& call = calls[index];
      std::string_view text;
      if (delta["id"].get(text) == simdjson::SUCCESS) call.id = text;
      if (delta["function"]["name"].get(text) == simdjson::SUCCESS) call.name += text;
      if (delta["function"]["arguments"].get(text) == simdjson::SUCCESS) call.arguments += text;
    }
  }
  return calls;
}

std::vector<whole_call> sound_calls_of(const answer& a) {
  std::vector<whole_call> calls = calls_of(a);
  if (a.done_reason != "length") return calls;
  std::erase_if(calls, [](const whole_call& call) {
    const auto arguments = parse_json(call.arguments);
    return !arguments || !arguments->is_object();
  });
  return calls;
}

}  // namespace pocketfleet
