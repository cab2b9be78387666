// OpenAI's streams, as llama-server sends them.
#include <algorithm>

#include "engines.hpp"
#include "streams.hpp"

namespace pocketfleet {
namespace {

using simdjson::dom::element;

class openai_stream final : public event_decoder {
 public:
  explicit openai_stream(dialect of) : keep_(of == dialect::openai_chat || of == dialect::openai_completion) {
    more.of = of;
  }

 private:
  static error odd() { return {errc::bad_response, "the phone did not answer in OpenAI's form"}; }

  error unfinished() const override { return heard_ ? event_decoder::unfinished() : odd(); }

  result<void> one(std::string_view data, answer_sink& sink) override {
    if (data.starts_with("[DONE]")) {
      // Only after a finish_reason is the answer whole.
      if (!finished_) return event_decoder::unfinished();
      done_ = true;
      return {};
    }
    const auto document = parse_fast(data);
    if (!document || !document->is_object()) return odd();
    heard_ = true;
    bool of_use = false;
    if (keep_) more.members.clear();  // what counts is the last object's
    for (const auto [name, value] : simdjson::dom::object(*document)) {
      if (name == "choices") {
        of_use = true;
        if (element choice; value.at(0).get(choice) == simdjson::SUCCESS) read_choice(choice, sink);
      } else if (name == "error") {
        std::string_view text;
        if (value["message"].get(text) != simdjson::SUCCESS) text = "the phone failed";
        return stream_failure(text, static_cast<int>(number(value["code"])));
      } else if (name == "prompt_progress") {
        sink.on_progress();
      } else if (name == "timings") {
        of_use = true;
        read_timings(value);
      } else if (name == "usage" && value.is_object()) {
        of_use = counted_ = true;
        counts.prompt_tokens = number(value["prompt_tokens"]);
        counts.answer_tokens = number(value["completion_tokens"]);
        usage_cached_ = number(value["prompt_tokens_details"]["cached_tokens"]);
        if (keep_) more.usage = simdjson::minify(value);
      } else if (keep_ && !is_common(name)) {
        add_member(more.members, name, value);
      }
    }
    if (!of_use) return odd();
    count_cached();
    return {};
  }

  static bool is_common(std::string_view name) {
    return name == "created" || name == "id" || name == "model" || name == "object" || name == "usage";
  }

  void read_timings(const element& value) {
    read_ = number(value["prompt_n"]);
    timings_cached_ = number(value["cache_n"]);
    if (!counted_) {  // "usage", if there is one, is what clients are shown
      counts.prompt_tokens = timings_cached_ + read_;
      counts.answer_tokens = number(value["predicted_n"]);
    }
    counts.prompt_time = from_milliseconds(value["prompt_ms"]);
    counts.answer_time = from_milliseconds(value["predicted_ms"]);
    if (keep_) add_member(more.members, "timings", value);
  }

  /// Older builds say only how many tokens they have read, which then are fewer than the prompt has.
  void count_cached() {
    const std::uint64_t unread =
        counted_ && read_ > 0 ? counts.prompt_tokens - std::min(read_, counts.prompt_tokens) : 0;
    counts.cached_tokens = std::min(timings_cached_ > 0 ? timings_cached_
                                    : usage_cached_ > 0 ? usage_cached_
                                                        : unread,
                                    counts.prompt_tokens);
  }

  /// A chat's choice has a delta, a completion's a text.
  void read_choice(const element& choice, answer_sink& sink) {
    if (!choice.is_object()) return;
    std::string_view text;
    element content;
    bool any = false;
    for (const auto [name, value] : simdjson::dom::object(choice)) {
      if (name == "delta") {
        any = true;
        content = value;
      } else if (name == "text") {
        if (value.get(text) != simdjson::SUCCESS) text = {};
      } else if (name == "logprobs") {
        if (value.is_object()) sink.on_text(piece_kind::logprobs, simdjson::minify(value));
      } else if (name == "finish_reason") {
        std::string_view reason;
        if (value.get(reason) != simdjson::SUCCESS) continue;
        finished_ = true;
        done_reason = reason;
      }
    }
    if (!text.empty()) sink.on_text(piece_kind::content, text);
    if (any && content.is_object()) read_delta(content, sink);
  }

  static void read_delta(const element& delta, answer_sink& sink) {
    for (const auto [name, value] : simdjson::dom::object(delta)) {
      std::string_view text;
      if (name == "content") {
        if (value.get(text) == simdjson::SUCCESS && !text.empty()) sink.on_text(piece_kind::content, text);
      } else if (name == "reasoning_content") {
        if (value.get(text) == simdjson::SUCCESS && !text.empty()) sink.on_text(piece_kind::reasoning, text);
      } else if (name == "tool_calls" && value.is_array()) {
        const std::string calls = simdjson::minify(value);
        if (calls != "[]") sink.on_text(piece_kind::tool_call, calls);
      }
    }
  }

  const bool keep_;
  bool heard_ = false;      // an event has come
  bool finished_ = false;   // a finish_reason has
  bool counted_ = false;    // "usage" has come
  std::uint64_t read_ = 0;  // tokens of the prompt; 0: not known
  std::uint64_t timings_cached_ = 0;
  std::uint64_t usage_cached_ = 0;
};

/// What /completion streams: plain text behind the prompt, without the chat's parsing.
class completion_stream final : public event_decoder {
 private:
  result<void> one(std::string_view data, answer_sink& sink) override {
    const auto document = parse_fast(data);
    if (!document || !document->is_object()) return odd();
    const element& object = *document;
    std::string_view text;
    if (object["error"].error() == simdjson::SUCCESS) {
      if (object["error"]["message"].get(text) != simdjson::SUCCESS) text = "the phone failed";
      return stream_failure(text, static_cast<int>(number(object["error"]["code"])));
    }
    const bool progress = object["prompt_progress"].error() == simdjson::SUCCESS;
    if (progress) sink.on_progress();
    if (object["content"].get(text) == simdjson::SUCCESS) {
      if (!text.empty()) sink.on_text(piece_kind::content, text);
    } else if (!progress) {
      return odd();
    }
    bool stop = false;
    if (object["stop"].get(stop) != simdjson::SUCCESS || !stop) return {};
    done_ = true;
    done_reason = object["stop_type"].get(text) == simdjson::SUCCESS && text == "limit" ? "length" : "stop";
    counts.prompt_tokens = number(object["tokens_evaluated"]);
    counts.answer_tokens = number(object["tokens_predicted"]);
    // "tokens_cached" is what is in the cache now, with the answer.
    const std::uint64_t read = number(object["timings"]["prompt_n"]);
    if (read > 0) counts.cached_tokens = counts.prompt_tokens - std::min(read, counts.prompt_tokens);
    counts.prompt_time = from_milliseconds(object["timings"]["prompt_ms"]);
    counts.answer_time = from_milliseconds(object["timings"]["predicted_ms"]);
    return {};
  }

  static error odd() { return {errc::bad_response, "the phone did not answer in llama-server's form"}; }
};

}  // namespace

std::unique_ptr<answer_decoder> openai_decoder(dialect of) {
  return std::make_unique<openai_stream>(of);
}

std::unique_ptr<answer_decoder> completion_decoder() {
  return std::make_unique<completion_stream>();
}

}  // namespace pocketfleet
