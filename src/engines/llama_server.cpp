// llama-server: POST /v1/chat/completions, /v1/completions and /v1/messages, SSE.
#include "engines.hpp"
#include "pocketfleet/wire/options.hpp"
#include "streams.hpp"

namespace pocketfleet {
namespace {

class llama_server final : public engine {
 public:
  std::optional<std::string> cannot(const question& q) const override {
    if (speaks(q)) return std::nullopt;
    if (!q.native_only.empty()) return q.native_only + ": llama-server has nothing like it";
    if (unloads(q.keep_alive)) return "keep_alive: llama-server keeps its model as long as it runs";
    if (q.think.is_string()) return "think: llama-server knows true and false, no levels";
    for (const auto& [name, value] : q.options.items()) {
      if (openai_name(name).empty()) return "options." + name + ": llama-server has no such option";
    }
    return std::nullopt;
  }

  phone_request encode(const question& q, std::string_view model) const override {
    std::string body = R"({"model":)";
    append_json_string(body, model);
    body += R"(,"stream":true)";
    const auto add = [&](std::string_view name, const json& value) {
      body += ',';
      append_json_string(body, name);
      body += ':';
      append_json(body, value);
    };
    if (q.spoken == dialect::anthropic) {
      for (const auto& [name, value] : q.native.items()) add(name, value);
      return {"POST", "/v1/messages", body + '}'};
    }
    // Progress shows that a phone works on a long prompt; builds that do not know the field pass it over.
    body += R"(,"stream_options":{"include_usage":true},"return_progress":true)";
    if (speaks(q)) {
      for (const auto& [name, value] : q.native.items()) {
        if (name != "return_progress") add(name, value);
      }
    } else {
      add_neutral(q, add);
    }
    return {"POST",
            q.raw || q.spoken == dialect::openai_completion ? "/v1/completions" : "/v1/chat/completions",
            body + '}'};
  }

  std::unique_ptr<answer_decoder> decoder(const question& q) const override {
    return q.spoken == dialect::anthropic ? anthropic_decoder() : openai_decoder(q.spoken);
  }

  std::unique_ptr<resumption> resume(const question& q, std::string_view,
                                     const begun_answer& begun) const override {
    return resume_on_llama_server(q, begun);
  }

  phone_request warm_up(std::string_view, const json&) const override {
    // Its model is in memory already, unless it sleeps; a request for nothing wakes it.
    return {"POST", "/completion", R"({"prompt":" ","n_predict":0,"cache_prompt":false})"};
  }

 private:
  static bool speaks(const question& q) {
    return q.spoken == dialect::openai_chat || q.spoken == dialect::openai_completion ||
           q.spoken == dialect::anthropic;
  }

  template <class Add>
  static void add_neutral(const question& q, const Add& add) {
    q.raw ? add("prompt", q.prompt) : add("messages", q.rich ? openai_messages(q) : q.messages);
    for (const auto& [name, value] : q.options.items()) add(openai_name(name), value);
    if (q.format.is_string()) {
      add("response_format", {{"type", "json_object"}});
    } else if (q.format.is_object()) {
      add("response_format",
          {{"type", "json_schema"}, {"json_schema", {{"name", "answer"}, {"schema", q.format}}}});
    }
    if (q.think.is_boolean()) add("chat_template_kwargs", {{"enable_thinking", q.think}});
    if (!q.tools.is_null()) add("tools", q.tools);
  }
};

}  // namespace

const engine& llama_server_engine() {
  static const llama_server one;
  return one;
}

}  // namespace pocketfleet
