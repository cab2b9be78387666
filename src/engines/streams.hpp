// The streams that engines answer with, read; and how an answer is gone on with. Private to this layer.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "pocketfleet/engines/codec.hpp"
#include "pocketfleet/wire/fast_json.hpp"
#include "pocketfleet/wire/lines.hpp"

namespace pocketfleet {

/// OpenAI's SSE: /v1/chat/completions and /v1/completions. For a client of the same dialect, `of`, it keeps
/// what the phone says beyond the neutral.
std::unique_ptr<answer_decoder> openai_decoder(dialect of);

/// llama-server's own: /completion.
std::unique_ptr<answer_decoder> completion_decoder();

/// Anthropic's SSE: /v1/messages.
std::unique_ptr<answer_decoder> anthropic_decoder();

/// Ollama's NDJSON; `generated`: of /api/generate, where the text stands beside the other fields.
std::unique_ptr<answer_decoder> ollama_decoder(dialect of, bool generated);

std::unique_ptr<resumption> resume_on_llama_server(const question& q, const begun_answer& begun);
std::unique_ptr<resumption> resume_on_ollama(const question& q, std::string_view model,
                                             const begun_answer& begun);

/// The conversation as OpenAI has it.
json openai_messages(const question& q);

// ---- parts of the decoders

/// A count; 0 if it is none. What a phone says is not always so: bounded.
std::uint64_t number(const simdjson::simdjson_result<simdjson::dom::element>& field);
std::uint64_t number(const simdjson::dom::element& field);
nanoseconds from_milliseconds(const simdjson::dom::element& field);
nanoseconds from_milliseconds(const simdjson::simdjson_result<simdjson::dom::element>& field);

/// Appends "name":value to members of an object.
void add_member(std::string& members, std::string_view name, const simdjson::dom::element& value);

/// What event streams have in common.
class event_decoder : public answer_decoder {
 public:
  result<void> feed(std::string_view bytes, answer_sink& sink) override;
  result<void> finish(answer_sink& sink) override;
  bool done() const override { return done_; }

 protected:
  virtual result<void> one(std::string_view data, answer_sink& sink) = 0;
  virtual error unfinished() const {
    return error(errc::truncated, "the phone ended its answer without an end");
  }

  bool done_ = false;

 private:
  sse_reader events_;
};

}  // namespace pocketfleet
