// Text as a simulated model sees it: tokens, numbers, the chat template, stop strings. Plain functions, no
// state.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pocketfleet::sim {

using token_id = std::int64_t;

/// A number with the space before it is one token, as in the answers; other text has up to four ASCII
/// characters, or one byte, in a token. Concatenating text_of() of the ids gives the text again.
std::vector<token_id> tokenize(std::string_view text);
std::string text_of(token_id id);  ///< empty for an id that is none
token_id token_of_number(std::uint64_t number);

/// The number that ends the text, if a digit does and it has at most seven of them.
std::optional<std::uint64_t> number_at_end(std::string_view text);

struct message {
  std::string role;
  std::string content;
};

/// The ChatML prompt. `open_last` leaves the last message without its end mark, for the model to go on;
/// `generation_prompt` begins the assistant's turn.
std::string chatml(const std::vector<message>& messages, bool open_last, bool generation_prompt);

/// Looks for stop strings in text that comes in pieces, and holds back what may become one.
class stop_filter {
 public:
  explicit stop_filter(std::vector<std::string> stops);
  std::string take(
      std::string_view piece);  ///< what may be shown now; nothing more once a stop string was met
  std::string rest();           ///< what was held back, when no more comes
  bool hit() const { return !word_.empty(); }
  const std::string& word() const { return word_; }  ///< the stop string that was met

 private:
  std::vector<std::string> stops_;
  std::string held_;
  std::string word_;
};

}  // namespace pocketfleet::sim
