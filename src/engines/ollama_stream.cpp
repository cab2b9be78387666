// Ollama's stream: NDJSON.
#include "engines.hpp"
#include "streams.hpp"

namespace pocketfleet {
namespace {

using simdjson::dom::element;

class ndjson_decoder final : public answer_decoder {
 public:
  ndjson_decoder(dialect of, bool generated)
      : generated_(generated), keep_(of == dialect::ollama_chat || of == dialect::ollama_generate) {
    more.of = of;
  }

  result<void> feed(std::string_view bytes, answer_sink& sink) override {
    lines_.feed(bytes);
    std::string_view line;
    while (!done_ && lines_.next(line)) {
      if (auto read = one(line, sink); !read) return read;
    }
    if (lines_.overflow()) return error(errc::bad_response, "the phone sent a line without end");
    return {};
  }

  result<void> finish(answer_sink& sink) override {
    if (!done_ && !lines_.rest().empty()) {  // a last line without its newline
      const std::string last(lines_.rest());
      if (auto read = one(last, sink); !read) return read.error().code == errc::bad_response ? cut() : read;
    }
    return done_ ? result<void>{} : cut();
  }

  bool done() const override { return done_; }

 private:
  result<void> cut() const {
    return heard_ ? error(errc::truncated, "the phone ended its answer without an end")
                  : error(errc::bad_response, "the phone did not answer in Ollama's form");
  }

  result<void> one(std::string_view line, answer_sink& sink) {
    if (line.empty()) return {};
    const auto document = parse_fast(line);
    if (!document || !document->is_object())
      return error(errc::bad_response, "the phone did not answer in Ollama's form");
    heard_ = true;
    // Each field is looked at once: a look-up by name would go through them all again.
    fields here;
    std::string members;
    for (const auto [name, value] : simdjson::dom::object(*document)) {
      if (generated_ && name == "response") {
        here.message = true;
        if (value.get(here.content) != simdjson::SUCCESS) here.content = {};
      } else if (name == "message") {
        here.message = true;
        read_message(value, here);
      } else if (name == "done") {
        here.done = value.get(here.done) == simdjson::SUCCESS && here.done;
      } else if (name == "error") {
        if (std::string_view text; value.get(text) == simdjson::SUCCESS) return stream_failure(text);
      } else if (name == "done_reason") {
        if (value.get(here.done_reason) != simdjson::SUCCESS) here.done_reason = {};
      } else if (generated_ && name == "thinking") {
        if (value.get(here.thinking) != simdjson::SUCCESS) here.thinking = {};
      } else if (name == "logprobs") {
        if (value.is_array()) here.logprobs = R"({"content":)" + simdjson::minify(value) + "}";
      } else if (name == "tool_calls") {
        read_calls(value, here);
      } else if (!read_count(name, value) && keep_ && !is_common(name)) {
        add_member(members, name, value);
      }
    }
    if (!here.done && !here.message)
      return error(errc::bad_response, "the phone did not answer in Ollama's form");
    if (!here.logprobs.empty()) sink.on_text(piece_kind::logprobs, here.logprobs);
    if (!here.thinking.empty()) sink.on_text(piece_kind::reasoning, here.thinking);
    if (!here.content.empty()) sink.on_text(piece_kind::content, here.content);
    if (!here.calls.empty()) sink.on_text(piece_kind::tool_call, "[" + here.calls + "]");
    if (here.done) {
      done_ = true;
      done_reason = here.done_reason;
      more.members = std::move(members);
    }
    return {};
  }

  struct fields {
    bool message = false;
    bool done = false;
    std::string_view thinking{};
    std::string_view content{};
    std::string_view done_reason{};
    std::string logprobs{};
    std::string calls{};
  };

  static bool is_common(std::string_view name) {
    return name == "model" || name == "created_at" || name == "total_duration" || name == "response";
  }

  /// Whole calls, with their arguments as an object.
  void read_calls(const element& calls, fields& into) {
    if (!calls.is_array()) return;
    for (const auto call : simdjson::dom::array(calls)) {
      std::string_view name;
      if (call["function"]["name"].get(name) != simdjson::SUCCESS) continue;
      std::string_view id;
      std::string made = "call_" + std::to_string(calls_);  // older releases give none
      if (call["id"].get(id) != simdjson::SUCCESS || id.empty()) id = made;
      element arguments;
      const bool any = call["function"]["arguments"].get(arguments) == simdjson::SUCCESS;
      std::string& out = into.calls;
      if (!out.empty()) out += ',';
      out.append(R"({"index":)").append(std::to_string(calls_++)).append(R"(,"id":)");
      append_json_string(out, id);
      out += R"(,"type":"function","function":{"name":)";
      append_json_string(out, name);
      out += R"(,"arguments":)";
      append_json_string(out, any ? simdjson::minify(arguments) : std::string("{}"));
      out += "}}";
    }
  }

  void read_message(const element& message, fields& into) {
    if (!message.is_object()) return;
    for (const auto [name, value] : simdjson::dom::object(message)) {
      if (name == "content") {
        if (value.get(into.content) != simdjson::SUCCESS) into.content = {};
      } else if (name == "thinking") {
        if (value.get(into.thinking) != simdjson::SUCCESS) into.thinking = {};
      } else if (name == "tool_calls") {
        read_calls(value, into);
      }
    }
  }

  /// The last line has them; earlier ones have no such fields.
  bool read_count(std::string_view name, const element& value) {
    if (name == "prompt_eval_count") {
      counts.prompt_tokens = number(value);
    } else if (name == "eval_count") {
      counts.answer_tokens = number(value);
    } else if (name == "load_duration") {
      counts.load_time = nanoseconds(number(value));
    } else if (name == "prompt_eval_duration") {
      counts.prompt_time = nanoseconds(number(value));
    } else if (name == "eval_duration") {
      counts.answer_time = nanoseconds(number(value));
    } else {
      return false;
    }
    return true;
  }

  const bool generated_;
  const bool keep_;
  std::size_t calls_ = 0;
  line_splitter lines_;
  bool heard_ = false;  // something in Ollama's form has come
  bool done_ = false;
};

}  // namespace

std::unique_ptr<answer_decoder> ollama_decoder(dialect of, bool generated) {
  return std::make_unique<ndjson_decoder>(of, generated);
}

}  // namespace pocketfleet
