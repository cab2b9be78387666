// How a dialect writes an answer down, whole or as a stream.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "pocketfleet/core/error.hpp"
#include "pocketfleet/wire/answer.hpp"

namespace pocketfleet {

/// What the gateway adds to an answer.
struct answer_notes {
  std::string_view phone;
  bool cached = false;
  unsigned attempts = 1;
  unsigned rescues = 0;  ///< times that another phone has gone on
  milliseconds queued{0};
  nanoseconds total{0};
  std::string_view stand_in{};  ///< the model that answered for one whose group could not; empty: none did
};

/// Made for one request, used by it alone: it may remember what it has written.
class answer_form {
 public:
  answer_form() = default;
  answer_form(const answer_form&) = delete;
  answer_form& operator=(const answer_form&) = delete;
  virtual ~answer_form() = default;

  /// The body of a response with all choices. Content-Type is application/json.
  virtual std::string whole(std::span<const answer* const> choices, const answer_notes& notes) = 0;

  // ---- as a stream; each call appends to `out`

  virtual std::string_view stream_type() const = 0;  ///< Content-Type

  /// The pieces of a choice from `first` on; returns up to which piece it could write.
  virtual std::size_t pieces(std::string& out, const answer& a, std::size_t first, std::size_t choice) = 0;

  /// A sign of life that clients pass over; no answer may have begun yet.
  virtual void keepalive(std::string& out, const answer& a) = 0;

  /// A choice is complete; pieces() has written all of it.
  virtual void end_choice(std::string& out, const answer& a, std::size_t choice,
                          const answer_notes& notes) = 0;

  /// All choices are.
  virtual void end(std::string& out, std::span<const answer* const> choices, const answer_notes& notes) = 0;

  /// What is said when a stream that has begun ends without its end.
  virtual void failed(std::string& out, const error& why) = 0;
};

/// What a client is told back: how it asked.
struct asked_how {
  std::string model{};         ///< as it wrote it; empty: as the phone calls it
  std::string id{};            ///< unique, without a prefix
  std::string created_at{};    ///< RFC 3339
  std::int64_t created = 0;    ///< the same, Unix time
  bool include_usage = false;  ///< OpenAI's stream_options
  std::size_t each = 1;        ///< choices that share a prompt, which is counted once
};

std::unique_ptr<answer_form> openai_chat_form(asked_how how);
std::unique_ptr<answer_form> openai_completion_form(asked_how how);
std::unique_ptr<answer_form> ollama_chat_form(asked_how how);
std::unique_ptr<answer_form> ollama_generate_form(asked_how how);
std::unique_ptr<answer_form> anthropic_form(asked_how how);

}  // namespace pocketfleet
