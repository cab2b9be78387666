// Our own dialect: /ask, /ask_stream, /ask_batch.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/wire/answer.hpp"
#include "pocketfleet/wire/answer_form.hpp"
#include "pocketfleet/wire/question.hpp"

namespace pocketfleet {

struct ask_request {
  question what;
  bool use_cache = true;  ///< "cache": false goes past it
  bool rescue = true;     ///< "rescue": false: no other phone may go on with what one has begun
};

/// What reading a body may depend on.
struct ask_rules {
  bool stream_route = false;       ///< "stream", if said, must agree with the route
  bool pass_load_options = false;  ///< options that make Ollama reload its model are refused unless true
};

/// {prompt | messages, system?, model?, options?, images?, format?, think?, keep_alive?, cache?, rescue?}. A
/// mistake is errc::bad_request with a text that names the field.
result<ask_request> parse_ask(std::string_view body, const ask_rules& rules);
result<ask_request> read_ask(json body, const ask_rules& rules);

/// The items of {"requests":[...]} or {"prompts":[...], and what they share}. Each item fails on its own.
result<std::vector<result<ask_request>>> parse_batch(std::string_view body, std::size_t most,
                                                     const ask_rules& rules);

/// A whole answer, as Ollama's /api/chat gives it, and the object "pocketfleet".
std::string render_answer(const answer& a, const answer_notes& notes);

/// Appends stream lines for the pieces from `first` on; returns how many pieces there are now.
std::size_t render_pieces(std::string& out, const answer& a, std::size_t first);

/// Appends a line with an empty piece: a sign of life that every client of such streams passes over.
void render_keepalive(std::string& out, const answer& a);

/// Appends the last line of a stream.
void render_end(std::string& out, const answer& a, const answer_notes& notes);

/// {"error":"text"}, without a line end.
std::string render_error(std::string_view text);

/// The form of /ask and /ask_stream, of those functions.
std::unique_ptr<answer_form> ask_form();

}  // namespace pocketfleet
