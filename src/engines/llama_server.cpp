// llama-server: POST /v1/chat/completions, SSE.
#include <algorithm>
#include <array>
#include <cmath>

#include "engines.hpp"
#include "pocketfleet/wire/fast_json.hpp"
#include "pocketfleet/wire/lines.hpp"

namespace pocketfleet {
namespace {

using simdjson::dom::element;
using field = simdjson::simdjson_result<element>;

constexpr std::uint64_t most_count = std::uint64_t{1} << 62U;  // what a phone says is not always so

std::uint64_t number(const field& f) {
  std::uint64_t value = 0;
  return f.get(value) == simdjson::SUCCESS ? std::min(value, most_count) : 0;
}

nanoseconds from_milliseconds(const field& f) {
  double value = 0;
  if (f.get(value) != simdjson::SUCCESS || !(value >= 0 && value < 1e12)) return nanoseconds{0};
  return nanoseconds(std::llround(value * 1e6));
}

/// What llama-server's two kinds of event streams have in common.
class event_decoder : public answer_decoder {
 public:
  result<void> feed(std::string_view bytes, answer_sink& sink) override {
    events_.feed(bytes);
    std::string_view data;
    while (!done_ && events_.next(data)) {
      if (auto read = one(data, sink); !read) return read;
    }
    if (events_.overflow()) return error(errc::bad_response, "the phone sent an event without end");
    return {};
  }

  result<void> finish(answer_sink& sink) override {
    std::string_view data;
    if (!done_ && events_.finish(data)) {  // a last event without the blank line behind it
      if (auto read = one(data, sink); !read && read.error().code != errc::bad_response) return read;
    }
    if (done_) return {};
    return unfinished();
  }

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

class sse_decoder final : public event_decoder {
 private:
  error unfinished() const override {
    if (!heard_) return error(errc::bad_response, "the phone did not answer in OpenAI's form");
    return event_decoder::unfinished();
  }

  result<void> one(std::string_view data, answer_sink& sink) override {
    if (data.starts_with("[DONE]")) {
      // Only after a finish_reason is the answer whole.
      if (!finished_) return error(errc::truncated, "the phone ended its answer without an end");
      done_ = true;
      return {};
    }
    const auto document = parse_fast(data);
    if (!document || !document->is_object())
      return error(errc::bad_response, "the phone did not answer in OpenAI's form");
    heard_ = true;
    bool of_use = false;
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
        if (!counted_) {  // "usage", if there is one, is what clients are shown
          counts.prompt_tokens = number(value["cache_n"]) + number(value["prompt_n"]);
          counts.answer_tokens = number(value["predicted_n"]);
        }
        counts.prompt_time = from_milliseconds(value["prompt_ms"]);
        counts.answer_time = from_milliseconds(value["predicted_ms"]);
      } else if (name == "usage" && value.is_object()) {
        of_use = counted_ = true;
        counts.prompt_tokens = number(value["prompt_tokens"]);
        counts.answer_tokens = number(value["completion_tokens"]);
      }
    }
    if (!of_use) return error(errc::bad_response, "the phone did not answer in OpenAI's form");
    return {};
  }

  void read_choice(const element& choice, answer_sink& sink) {
    std::string_view text;
    const auto delta = choice["delta"];
    if (delta["reasoning_content"].get(text) == simdjson::SUCCESS && !text.empty())
      sink.on_text(piece_kind::reasoning, text);
    if (delta["content"].get(text) == simdjson::SUCCESS && !text.empty())
      sink.on_text(piece_kind::content, text);
    if (choice["finish_reason"].get(text) == simdjson::SUCCESS) {
      finished_ = true;
      done_reason = text;
    }
  }

  bool heard_ = false;     // an event has come
  bool finished_ = false;  // a finish_reason has
  bool counted_ = false;   // "usage" has come
};

struct option_name {
  std::string_view ollama;
  std::string_view llama_server;
};
constexpr std::array<option_name, 17> sampling_options{{
    {"num_predict", "max_tokens"},
    {"num_keep", "n_keep"},
    {"seed", "seed"},
    {"stop", "stop"},
    {"temperature", "temperature"},
    {"top_k", "top_k"},
    {"top_p", "top_p"},
    {"min_p", "min_p"},
    {"typical_p", "typical_p"},
    {"repeat_last_n", "repeat_last_n"},
    {"repeat_penalty", "repeat_penalty"},
    {"presence_penalty", "presence_penalty"},
    {"frequency_penalty", "frequency_penalty"},
    {"mirostat", "mirostat"},
    {"mirostat_tau", "mirostat_tau"},
    {"mirostat_eta", "mirostat_eta"},
    {"tfs_z", "tfs_z"},
}};

std::string_view llama_server_name(std::string_view option) {
  for (const auto& o : sampling_options) {
    if (o.ollama == option) return o.llama_server;
  }
  return {};
}

/// Content with images as OpenAI has it: parts, each image a data URI.
json with_image_parts(const json& message) {
  json parts = json::array();
  if (const auto text = message.find("content");
      text != message.end() && !text->get_ref<const std::string&>().empty()) {
    parts.push_back({{"type", "text"}, {"text", *text}});
  }
  for (const auto& image : message["images"]) {
    const auto& data = image.get_ref<const std::string&>();
    // The first characters of base64 tell the format.
    const std::string_view type = data.starts_with("iVBOR")    ? "png"
                                  : data.starts_with("UklGR")  ? "webp"
                                  : data.starts_with("R0lGOD") ? "gif"
                                                               : "jpeg";
    parts.push_back({{"type", "image_url"},
                     {"image_url", {{"url", "data:image/" + std::string(type) + ";base64," + data}}}});
  }
  return {{"role", message["role"]}, {"content", std::move(parts)}};
}

/// What /completion streams: plain text behind the prompt, without the chat's parsing.
class completion_decoder final : public event_decoder {
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
    counts.prompt_time = from_milliseconds(object["timings"]["prompt_ms"]);
    counts.answer_time = from_milliseconds(object["timings"]["predicted_ms"]);
    return {};
  }

  static error odd() { return {errc::bad_response, "the phone did not answer in llama-server's form"}; }
};

/// By the rendered prompt: /apply-template says what the model is given for the conversation, and the
/// beginning of the answer is put behind it as it stands. (A last assistant message instead would go through
/// the template, and templates trim it, close it or refuse it, depending on model and build.)
class llama_resumption final : public resumption {
 public:
  llama_resumption(const question& q, const begun_answer& begun) : question_(q), begun_(begun) {}

  std::optional<phone_request> next() override {
    switch (step_) {
      case step::render: {
        std::string body = R"({"messages":)" + dump_json(question_.messages);
        // With the reasoning done, another round of it would not fit behind what the client has read.
        const json think = begun_.reasoning > 0 ? json(false) : question_.think;
        if (think.is_boolean())
          body += R"(,"chat_template_kwargs":{"enable_thinking":)" + dump_json(think) + "}";
        return phone_request{"POST", "/apply-template", body + "}"};
      }
      case step::count_prompt: return tokenize(prompt_);
      case step::count_all: return tokenize(prompt_ + begun_.text);
      case step::ready: break;
    }
    return std::nullopt;
  }

  result<void> heard(std::string_view body) override {
    const auto read = parse_json(body);
    const char* const name = step_ == step::render ? "prompt" : "tokens";
    const json* found = read && read->is_object() && read->contains(name) ? &(*read)[name] : nullptr;
    if (found == nullptr || (step_ == step::render ? !found->is_string() : !found->is_array()))
      return error(errc::unsupported, "the phone does not say how it would go on");
    switch (step_) {
      case step::render: prompt_ = found->get<std::string>(); break;
      case step::count_prompt: prompt_tokens_ = found->size(); break;
      case step::count_all:
        before_ = found->size() - std::min<std::size_t>(prompt_tokens_, found->size());
        break;
      case step::ready: break;
    }
    step_ = static_cast<step>(static_cast<int>(step_) + 1);
    return {};
  }

  std::optional<phone_request> request() override {
    std::string body = R"({"prompt":)";
    append_json_string(body, prompt_ + begun_.text);
    body += R"(,"stream":true,"return_progress":true)";
    for (const auto& [name, value] : question_.options.items()) {
      std::string_view there = llama_server_name(name);
      json adjusted = value;
      if (name == "num_predict" && value.is_number_integer() && value.get<std::int64_t>() >= 0) {
        const auto left = value.get<std::int64_t>() - static_cast<std::int64_t>(before_ + begun_.reasoning);
        if (left <= 0) return std::nullopt;
        there = "n_predict";
        adjusted = left;
      }
      body.append(",\"").append(there).append("\":").append(dump_json(adjusted));
    }
    return phone_request{"POST", "/completion", body + "}"};
  }

  std::unique_ptr<answer_decoder> decoder() const override { return std::make_unique<completion_decoder>(); }
  std::uint64_t tokens_before() const override { return before_; }
  std::uint64_t prompt_tokens() const override { return prompt_tokens_ + before_; }

 private:
  enum class step : std::uint8_t { render, count_prompt, count_all, ready };

  static phone_request tokenize(std::string_view text) {
    std::string body = R"({"content":)";
    append_json_string(body, text);
    return {"POST", "/tokenize", body + R"(,"add_special":true,"parse_special":true})"};
  }

  const question& question_;
  const begun_answer& begun_;
  step step_ = step::render;
  std::string prompt_;
  std::size_t prompt_tokens_ = 0;
  std::uint64_t before_ = 0;
};

class llama_server final : public engine {
 public:
  std::optional<std::string> cannot(const question& q) const override {
    if (!q.keep_alive.is_null()) return "keep_alive: llama-server keeps its model as long as it runs";
    if (q.think.is_string()) return "think: llama-server knows true and false, no levels";
    for (const auto& [name, value] : q.options.items()) {
      if (llama_server_name(name).empty()) return "options." + name + ": llama-server has no such option";
    }
    return std::nullopt;
  }

  phone_request encode(const question& q, std::string_view model) const override {
    std::string body = R"({"model":)";
    append_json_string(body, q.model.empty() ? model : std::string_view(q.model));
    body += R"(,"messages":)";
    if (q.has_images) {
      json messages = json::array();
      for (const auto& m : q.messages) messages.push_back(m.contains("images") ? with_image_parts(m) : m);
      body += dump_json(messages);
    } else {
      body += dump_json(q.messages);
    }
    // Progress shows that a phone works on a long prompt; builds that do not know the field pass it over.
    body += R"(,"stream":true,"stream_options":{"include_usage":true},"return_progress":true)";
    const auto add = [&](std::string_view name, const json& value) {
      body.append(",\"").append(name).append("\":").append(dump_json(value));
    };
    for (const auto& [name, value] : q.options.items()) add(llama_server_name(name), value);
    if (q.format.is_string()) {
      add("response_format", {{"type", "json_object"}});
    } else if (q.format.is_object()) {
      add("response_format",
          {{"type", "json_schema"}, {"json_schema", {{"name", "answer"}, {"schema", q.format}}}});
    }
    if (q.think.is_boolean()) add("chat_template_kwargs", {{"enable_thinking", q.think}});
    body += '}';
    return {"POST", "/v1/chat/completions", std::move(body)};
  }

  std::unique_ptr<answer_decoder> decoder() const override { return std::make_unique<sse_decoder>(); }

  std::unique_ptr<resumption> resume(const question& q, std::string_view,
                                     const begun_answer& begun) const override {
    return std::make_unique<llama_resumption>(q, begun);
  }

  phone_request warm_up(std::string_view, const json&) const override {
    // Its model is in memory already, unless it sleeps; a request for nothing wakes it.
    return {"POST", "/completion", R"({"prompt":" ","n_predict":0,"cache_prompt":false})"};
  }
};

}  // namespace

const engine& llama_server_engine() {
  static const llama_server one;
  return one;
}

}  // namespace pocketfleet
