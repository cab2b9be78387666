// Anthropic's stream, as llama-server and newer releases of Ollama send it.
#include "engines.hpp"
#include "streams.hpp"

namespace pocketfleet {
namespace {

using simdjson::dom::element;

class anthropic_stream final : public event_decoder {
 public:
  anthropic_stream() { more.of = dialect::anthropic; }

 private:
  static error odd() { return {errc::bad_response, "the phone did not answer in Anthropic's form"}; }

  /// Ollama's layer loses the error of a phone that fails in mid-stream, and ends as if its guard against
  /// repeating tokens had: it is taken for the failure, which another phone may make good.
  error unfinished() const override {
    return heard_ ? error(errc::phone_error, event_decoder::unfinished().message) : odd();
  }

  result<void> one(std::string_view data, answer_sink& sink) override {
    const auto document = parse_fast(data);
    std::string_view type;
    if (!document || !document->is_object() || (*document)["type"].get(type) != simdjson::SUCCESS)
      return odd();
    heard_ = true;
    const element& event = *document;
    if (type == "content_block_delta") {
      read_delta(event, sink);
    } else if (type == "content_block_start") {
      read_block(event, sink);
    } else if (type == "message_start") {
      sink.on_progress();
      if (element usage; event["message"]["usage"].get(usage) == simdjson::SUCCESS) read_input(usage);
    } else if (type == "message_delta") {
      read_end(event);
    } else if (type == "message_stop") {
      done_ = true;
    } else if (type == "ping") {
      sink.on_progress();
    } else if (type == "error") {
      std::string_view text;
      if (event["error"]["message"].get(text) != simdjson::SUCCESS) text = "the phone failed";
      std::string_view kind;
      if (event["error"]["type"].get(kind) != simdjson::SUCCESS) kind = {};
      return stream_failure(text, kind == "invalid_request_error" ? 400 : 500);
    } else if (std::string_view text; event["message"].get(text) == simdjson::SUCCESS) {
      // llama-server's own form of an error, without Anthropic's around it.
      return stream_failure(text, static_cast<int>(number(event["code"])));
    }
    return {};
  }

  void read_input(const element& usage) {
    counts.cached_tokens = number(usage["cache_read_input_tokens"]);
    counts.prompt_tokens = number(usage["input_tokens"]) + counts.cached_tokens;
    if (!usage.is_object()) return;
    for (const auto [name, value] : simdjson::dom::object(usage)) {
      if (name != "output_tokens") add_member(input_, name, value);
    }
  }

  void read_block(const element& event, answer_sink& sink) {
    const auto block = event["content_block"];
    std::string_view type;
    if (block["type"].get(type) != simdjson::SUCCESS) return;
    std::string_view text;
    if (type == "text" && block["text"].get(text) == simdjson::SUCCESS && !text.empty())
      sink.on_text(piece_kind::content, text);
    if (type != "tool_use") return;
    std::string_view id;
    std::string_view name;
    if (block["id"].get(id) != simdjson::SUCCESS || block["name"].get(name) != simdjson::SUCCESS) return;
    std::string call = R"([{"index":)" + std::to_string(calls_) + R"(,"id":)";
    append_json_string(call, id);
    call += R"(,"type":"function","function":{"name":)";
    append_json_string(call, name);
    sink.on_text(piece_kind::tool_call, call + R"(,"arguments":""}}])");
    ++calls_;
  }

  void read_delta(const element& event, answer_sink& sink) {
    const auto delta = event["delta"];
    std::string_view type;
    std::string_view text;
    if (delta["type"].get(type) != simdjson::SUCCESS) return;
    if (type == "text_delta" && delta["text"].get(text) == simdjson::SUCCESS && !text.empty()) {
      sink.on_text(piece_kind::content, text);
    } else if (type == "thinking_delta" && delta["thinking"].get(text) == simdjson::SUCCESS &&
               !text.empty()) {
      sink.on_text(piece_kind::reasoning, text);
    } else if (type == "input_json_delta" && calls_ > 0 &&
               delta["partial_json"].get(text) == simdjson::SUCCESS && !text.empty()) {
      std::string call = R"([{"index":)" + std::to_string(calls_ - 1) + R"(,"function":{"arguments":)";
      append_json_string(call, text);
      sink.on_text(piece_kind::tool_call, call + "}}]");
    }
  }

  void read_end(const element& event) {
    std::string_view reason;
    if (event["delta"]["stop_reason"].get(reason) == simdjson::SUCCESS) {
      done_reason = reason == "max_tokens" ? "length" : reason == "tool_use" ? "tool_calls" : "stop";
      more.members.clear();
      add_member(more.members, "stop_reason", event["delta"]["stop_reason"].value_unsafe());
      if (element word; event["delta"]["stop_sequence"].get(word) == simdjson::SUCCESS) {
        add_member(more.members, "stop_sequence", word);
      } else {
        more.members += R"(,"stop_sequence":null)";  // Ollama does not say, Anthropic always does
      }
    }
    // Ollama guesses at the start, and has counted at the end.
    if (element usage; event["usage"].get(usage) == simdjson::SUCCESS && number(usage["input_tokens"]) > 0) {
      input_.clear();
      read_input(usage);
    }
    counts.answer_tokens = number(event["usage"]["output_tokens"]);
    more.usage = "{" + input_ + (input_.empty() ? "" : ",") + R"("output_tokens":)" +
                 std::to_string(counts.answer_tokens) + "}";
  }

  bool heard_ = false;  // an event has come
  std::size_t calls_ = 0;
  std::string input_;  // members of the usage at the start
};

}  // namespace

std::unique_ptr<answer_decoder> anthropic_decoder() {
  return std::make_unique<anthropic_stream>();
}

}  // namespace pocketfleet
