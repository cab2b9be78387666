// Ollama: POST /api/chat, NDJSON. Its own /v1 layer loses errors in mid-stream, so it is not used.
#include <algorithm>

#include "engines.hpp"
#include "pocketfleet/wire/fast_json.hpp"
#include "pocketfleet/wire/lines.hpp"

namespace pocketfleet {
namespace {

using simdjson::dom::element;

constexpr std::uint64_t most_count = std::uint64_t{1} << 62U;  // what a phone says is not always so

std::uint64_t number(const element& field) {
  std::uint64_t value = 0;
  return field.get(value) == simdjson::SUCCESS ? std::min(value, most_count) : 0;
}

class ndjson_decoder final : public answer_decoder {
 public:
  /// `generated`: the answer of /api/generate, where the text stands beside the other fields.
  explicit ndjson_decoder(bool generated = false) : generated_(generated) {}

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
      } else {
        read_count(name, value);
      }
    }
    if (!here.done && !here.message)
      return error(errc::bad_response, "the phone did not answer in Ollama's form");
    if (!here.thinking.empty()) sink.on_text(piece_kind::reasoning, here.thinking);
    if (!here.content.empty()) sink.on_text(piece_kind::content, here.content);
    if (here.done) {
      done_ = true;
      done_reason = here.done_reason;
    }
    return {};
  }

  struct fields {
    bool message = false;
    bool done = false;
    std::string_view thinking{};
    std::string_view content{};
    std::string_view done_reason{};
  };

  static void read_message(const element& message, fields& into) {
    if (!message.is_object()) return;
    for (const auto [name, value] : simdjson::dom::object(message)) {
      if (name == "content") {
        if (value.get(into.content) != simdjson::SUCCESS) into.content = {};
      } else if (name == "thinking") {
        if (value.get(into.thinking) != simdjson::SUCCESS) into.thinking = {};
      }
    }
  }

  /// The last line has them; earlier ones have no such fields.
  void read_count(std::string_view name, const element& value) {
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
    }
  }

  const bool generated_;
  line_splitter lines_;
  bool heard_ = false;  // something in Ollama's form has come
  bool done_ = false;
};

/// By the rendered prompt, which goes past the template that may or may not leave the last turn open:
/// _debug_render_only (since 0.11.5) says what the model is given, and "raw" takes it with the beginning of
/// the answer behind it.
class ollama_resumption final : public resumption {
 public:
  ollama_resumption(const question& q, std::string_view model, const begun_answer& begun)
      : question_(q), model_(model), begun_(begun) {}

  std::optional<phone_request> next() override {
    if (prompt_) return std::nullopt;
    json body{{"model", model_}, {"messages", question_.messages}, {"stream", false}};
    body["_debug_render_only"] = true;
    // Older releases do not know the field and answer: with one token.
    body["options"] = {{"num_predict", 1}};
    for (const auto& [name, value] : question_.options.items()) {
      if (name != "num_predict") body["options"][name] = value;
    }
    // The reasoning, if there was any, is over.
    body["think"] = false;
    if (!question_.keep_alive.is_null()) body["keep_alive"] = question_.keep_alive;
    return phone_request{"POST", "/api/chat", dump_json(body)};
  }

  result<void> heard(std::string_view body) override {
    const error cannot(errc::unsupported, "the phone does not say how it would go on");
    const auto read = parse_json(body);
    if (!read || !read->is_object()) return cannot;
    const auto info = read->find("_debug_info");
    if (info == read->end() || !info->is_object()) return cannot;
    const auto text = info->find("rendered_template");
    if (text == info->end() || !text->is_string()) return cannot;
    prompt_ = text->get<std::string>();
    // In harmony's form the answer stands in a channel that the raw text would not be in.
    if (prompt_->find("<|start|>") != std::string::npos) return cannot;
    return {};
  }

  std::optional<phone_request> request() override {
    json body{{"model", model_}, {"prompt", *prompt_ + begun_.text}, {"raw", true}, {"stream", true}};
    json options = question_.options;
    if (const auto most = options.find("num_predict");
        most != options.end() && most->is_number_integer() && most->get<std::int64_t>() > 0) {
      const auto left =
          most->get<std::int64_t>() - static_cast<std::int64_t>(begun_.pieces + begun_.reasoning);
      if (left <= 0) return std::nullopt;
      *most = left;
    }
    if (!options.empty()) body["options"] = std::move(options);
    if (!question_.keep_alive.is_null()) body["keep_alive"] = question_.keep_alive;
    return phone_request{"POST", "/api/generate", dump_json(body)};
  }

  std::unique_ptr<answer_decoder> decoder() const override { return std::make_unique<ndjson_decoder>(true); }

  /// Ollama has no way to count tokens; it sends each as a line of its own.
  std::uint64_t tokens_before() const override { return begun_.pieces; }

 private:
  const question& question_;
  const std::string model_;
  const begun_answer& begun_;
  std::optional<std::string> prompt_;
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

  std::unique_ptr<resumption> resume(const question& q, std::string_view model,
                                     const begun_answer& begun) const override {
    return std::make_unique<ollama_resumption>(q, model, begun);
  }

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
