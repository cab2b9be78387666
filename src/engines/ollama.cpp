// Ollama: POST /api/chat, NDJSON. Its own /v1 layer loses errors in mid-stream, so it is not used.
#include "engines.hpp"
#include "pocketfleet/wire/fast_json.hpp"
#include "pocketfleet/wire/lines.hpp"

namespace pocketfleet {
namespace {

using simdjson::dom::element;

std::uint64_t number(const simdjson::simdjson_result<element>& field) {
  std::uint64_t value = 0;
  return field.get(value) == simdjson::SUCCESS ? value : 0;
}

class ndjson_decoder final : public answer_decoder {
 public:
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
    const element& object = *document;
    heard_ = true;
    std::string_view text;
    if (object["error"].get(text) == simdjson::SUCCESS) return stream_failure(text);
    const auto message = object["message"];
    if (message["thinking"].get(text) == simdjson::SUCCESS && !text.empty())
      sink.on_text(piece_kind::reasoning, text);
    if (message["content"].get(text) == simdjson::SUCCESS && !text.empty())
      sink.on_text(piece_kind::content, text);
    bool last = false;
    if (object["done"].get(last) == simdjson::SUCCESS && last) {
      done_ = true;
      if (object["done_reason"].get(text) == simdjson::SUCCESS) done_reason = text;
      counts.prompt_tokens = number(object["prompt_eval_count"]);
      counts.answer_tokens = number(object["eval_count"]);
      counts.load_time = nanoseconds(number(object["load_duration"]));
      counts.prompt_time = nanoseconds(number(object["prompt_eval_duration"]));
      counts.answer_time = nanoseconds(number(object["eval_duration"]));
    } else if (message.error() != simdjson::SUCCESS) {
      return error(errc::bad_response, "the phone did not answer in Ollama's form");
    }
    return {};
  }

  line_splitter lines_;
  bool heard_ = false;  // something in Ollama's form has come
  bool done_ = false;
};

class ollama final : public engine {
 public:
  std::optional<std::string> cannot(const question&) const override { return std::nullopt; }

  phone_request encode(const question& q, std::string_view model) const override {
    std::string body = R"({"model":)";
    append_json_string(body, q.model.empty() ? model : std::string_view(q.model));
    body += R"(,"messages":)";
    body += dump_json(q.messages);
    body += R"(,"stream":true)";
    const auto field = [&](std::string_view name, const json& value) {
      if (value.is_null()) return;
      body.append(",\"").append(name).append("\":").append(dump_json(value));
    };
    if (!q.options.empty()) field("options", q.options);
    field("format", q.format);
    field("think", q.think);
    field("keep_alive", q.keep_alive);
    body += '}';
    return {"POST", "/api/chat", std::move(body)};
  }

  std::unique_ptr<answer_decoder> decoder() const override { return std::make_unique<ndjson_decoder>(); }

  phone_request warm_up(std::string_view model, const json& keep_alive) const override {
    json body{{"model", model}, {"stream", false}};  // no prompt: loads, and answers when it has
    if (!keep_alive.is_null()) body["keep_alive"] = keep_alive;
    return {"POST", "/api/generate", dump_json(body)};
  }
};

}  // namespace

const engine& ollama_engine() {
  static const ollama one;
  return one;
}

error stream_failure(std::string_view text, int status) {
  if (status >= 400 && status < 500) return {errc::rejected, std::string(text), status};
  if (text.starts_with("option \"")) return {errc::rejected, std::string(text), 400};
  return {errc::phone_error, std::string(text)};
}

}  // namespace pocketfleet
