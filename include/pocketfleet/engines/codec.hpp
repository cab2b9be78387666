// An engine as a codec: a question in, an HTTP request out; bytes in, the pieces of an answer out. No I/O.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "pocketfleet/core/error.hpp"
#include "pocketfleet/core/phone.hpp"
#include "pocketfleet/wire/answer.hpp"
#include "pocketfleet/wire/question.hpp"

namespace pocketfleet {

/// What goes to a phone.
struct phone_request {
  std::string_view method;  ///< a literal
  std::string_view target;  ///< a literal
  std::string body;         ///< JSON, or empty for GET
};

/// Where a decoder puts what it reads. Views are valid during the call.
class answer_sink {
 public:
  answer_sink() = default;
  answer_sink(const answer_sink&) = delete;
  answer_sink& operator=(const answer_sink&) = delete;
  virtual ~answer_sink() = default;

  /// Pieces of tool_call and logprobs are JSON, as piece_kind has them.
  virtual void on_text(piece_kind kind, std::string_view text) = 0;

  /// The phone works on the prompt: it is alive.
  virtual void on_progress() = 0;
};

/// Reads one response body. Created for each attempt, used by it alone.
class answer_decoder {
 public:
  answer_decoder() = default;
  answer_decoder(const answer_decoder&) = delete;
  answer_decoder& operator=(const answer_decoder&) = delete;
  virtual ~answer_decoder() = default;

  /// Bytes of the body, cut anywhere. An error ends the attempt: errc::phone_error, bad_response or, where
  /// the phone blames the request, rejected.
  virtual result<void> feed(std::string_view bytes, answer_sink& sink) = 0;

  /// The body has ended. Unless the engine's own end marker was seen: errc::truncated, or bad_response if
  /// nothing in the engine's form has come at all.
  virtual result<void> finish(answer_sink& sink) = 0;

  /// The end marker has been seen; what may follow is of no interest.
  virtual bool done() const = 0;

  // Valid when done().
  std::string done_reason;  ///< "stop", "length", ... ; empty if the engine gave none
  usage counts{};
  extras more{};
};

/// Going on with a begun answer on a phone: first some questions to it, then a request whose answer is the
/// rest. Created for each attempt, used by it alone.
class resumption {
 public:
  resumption() = default;
  resumption(const resumption&) = delete;
  resumption& operator=(const resumption&) = delete;
  virtual ~resumption() = default;

  /// The next question; nothing when there is none left and request() may be called.
  virtual std::optional<phone_request> next() = 0;

  /// The whole answer to it, of status 200. An error (errc::unsupported): this phone cannot go on with it.
  virtual result<void> heard(std::string_view body) = 0;

  /// Nothing if the answer has already all the tokens that were asked for.
  virtual std::optional<phone_request> request() = 0;

  virtual std::unique_ptr<answer_decoder> decoder() const = 0;

  /// How many tokens the beginning has: what the phone counts as prompt and did not generate.
  virtual std::uint64_t tokens_before() const = 0;

  /// Those of the prompt and the beginning, as far as they are known without asking for more.
  virtual std::uint64_t prompt_tokens() const { return tokens_before(); }
};

/// Stateless; the two there are live as long as the process.
class engine {
 public:
  engine() = default;
  engine(const engine&) = delete;
  engine& operator=(const engine&) = delete;
  virtual ~engine() = default;

  /// Why this engine cannot do what is asked, naming the field; nothing if it can.
  virtual std::optional<std::string> cannot(const question& q) const = 0;

  /// The request that asks for a streamed answer: the client's own words where the engine speaks its dialect.
  /// `model` as the phone calls it.
  virtual phone_request encode(const question& q, std::string_view model) const = 0;

  /// Of the answer to that request.
  virtual std::unique_ptr<answer_decoder> decoder(const question& q) const = 0;

  /// True if an answer to this may be gone on with at all: not what has to fit a grammar from its first
  /// token, nor what may turn into a call of a tool.
  virtual bool can_resume(const question& q) const {
    return q.resumable && q.format.is_null() && q.tools.is_null() && !q.has_images;
  }

  /// To go on with it, without a token lost, repeated or changed. Call only after can_resume(), and with some
  /// content. Question and beginning outlive it.
  virtual std::unique_ptr<resumption> resume(const question& q, std::string_view model,
                                             const begun_answer& begun) const = 0;

  /// The request that makes a phone read its model into memory; `keep_alive` may be null.
  virtual phone_request warm_up(std::string_view model, const json& keep_alive) const = 0;
};

/// Never called with engine_kind::unknown.
const engine& engine_of(engine_kind kind);

/// What a response other than 200 means. `body` may be cut short.
error phone_failure(int status, std::string_view body);

/// Of a 404: the phone's build has no such route, rather than no such model.
bool no_such_route(std::string_view body);

}  // namespace pocketfleet
