// llama-server: POST /v1/chat/completions, SSE.
#include <array>
#include <cmath>

#include "engines.hpp"
#include "pocketfleet/wire/fast_json.hpp"
#include "pocketfleet/wire/lines.hpp"

namespace pocketfleet {
namespace {

using simdjson::dom::element;
using field = simdjson::simdjson_result<element>;

std::uint64_t number(const field& f) {
  std::uint64_t value = 0;
  return f.get(value) == simdjson::SUCCESS ? value : 0;
}

nanoseconds from_milliseconds(const field& f) {
  double value = 0;
  if (f.get(value) != simdjson::SUCCESS || !(value >= 0 && value < 1e12)) return nanoseconds{0};
  return nanoseconds(std::llround(value * 1e6));
}

class sse_decoder final : public answer_decoder {
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
    if (!heard_) return error(errc::bad_response, "the phone did not answer in OpenAI's form");
    return error(errc::truncated, "the phone ended its answer without an end");
  }

  bool done() const override { return done_; }

 private:
  result<void> one(std::string_view data, answer_sink& sink) {
    if (data.starts_with("[DONE]")) {
      // Only after a finish_reason is the answer whole.
      if (!finished_) return error(errc::truncated, "the phone ended its answer without an end");
      done_ = true;
      return {};
    }
    const auto document = parse_fast(data);
    if (!document || !document->is_object())
      return error(errc::bad_response, "the phone did not answer in OpenAI's form");
    const element& object = *document;
    heard_ = true;
    std::string_view text;
    if (object["error"].error() == simdjson::SUCCESS) {
      if (object["error"]["message"].get(text) != simdjson::SUCCESS) text = "the phone failed";
      return stream_failure(text, static_cast<int>(number(object["error"]["code"])));
    }
    bool of_use = false;
    element choice;
    if (object["choices"].at(0).get(choice) == simdjson::SUCCESS) {
      of_use = true;
      const auto delta = choice["delta"];
      if (delta["reasoning_content"].get(text) == simdjson::SUCCESS && !text.empty()) {
        sink.on_text(piece_kind::reasoning, text);
      }
      if (delta["content"].get(text) == simdjson::SUCCESS && !text.empty())
        sink.on_text(piece_kind::content, text);
      if (choice["finish_reason"].get(text) == simdjson::SUCCESS) {
        finished_ = true;
        done_reason = text;
      }
    }
    if (object["prompt_progress"].error() == simdjson::SUCCESS) sink.on_progress();
    if (element timings; object["timings"].get(timings) == simdjson::SUCCESS) {
      of_use = true;
      counts.prompt_tokens = number(timings["cache_n"]) + number(timings["prompt_n"]);
      counts.answer_tokens = number(timings["predicted_n"]);
      counts.prompt_time = from_milliseconds(timings["prompt_ms"]);
      counts.answer_time = from_milliseconds(timings["predicted_ms"]);
    }
    if (element used; object["usage"].get(used) == simdjson::SUCCESS && used.is_object()) {
      of_use = true;
      counts.prompt_tokens = number(used["prompt_tokens"]);
      counts.answer_tokens = number(used["completion_tokens"]);
    }
    if (!of_use && object["choices"].error() != simdjson::SUCCESS) {
      return error(errc::bad_response, "the phone did not answer in OpenAI's form");
    }
    return {};
  }

  sse_reader events_;
  bool heard_ = false;     // an event has come
  bool finished_ = false;  // a finish_reason has
  bool done_ = false;
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
