// Ollama: POST /api/chat and /api/generate, NDJSON; POST /v1/messages, SSE. Its own /v1 layer loses errors in
// mid-stream (the stream just ends), so it is not used for what can be said otherwise.
#include "engines.hpp"
#include "streams.hpp"

namespace pocketfleet {
namespace {

class ollama final : public engine {
 public:
  std::optional<std::string> cannot(const question& q) const override {
    if (q.spoken == dialect::anthropic && !chooses_freely(q))
      return "tool_choice: Ollama leaves the choice to the model";
    if (speaks(q) || q.native_only.empty()) return std::nullopt;
    return q.native_only + ": Ollama has nothing like it";
  }

  phone_request encode(const question& q, std::string_view model) const override {
    std::string body = R"({"model":)";
    append_json_string(body, model);
    body += R"(,"stream":true)";
    const auto add = [&](std::string_view name, const json& value) {
      if (value.is_null()) return;
      body += ',';
      append_json_string(body, name);
      body += ':';
      append_json(body, value);
    };
    if (speaks(q)) {
      for (const auto& [name, value] : q.native.items()) add(name, value);
    } else {
      if (q.raw) {
        add("prompt", q.prompt);
        body += R"(,"raw":true)";
      } else {
        add("messages", q.messages);
      }
      if (!q.options.empty()) add("options", q.options);
      add("format", q.format);
      add("think", q.think);
      add("keep_alive", q.keep_alive);
      add("tools", q.tools);
    }
    return {"POST", path(q), body + '}'};
  }

  std::unique_ptr<answer_decoder> decoder(const question& q) const override {
    return q.spoken == dialect::anthropic ? anthropic_decoder() : ollama_decoder(q.spoken, generates(q));
  }

  std::unique_ptr<resumption> resume(const question& q, std::string_view model,
                                     const begun_answer& begun) const override {
    return resume_on_ollama(q, model, begun);
  }

  phone_request warm_up(std::string_view model, const json& keep_alive) const override {
    json body{{"model", model}, {"stream", false}};  // no prompt: loads, and answers when it has
    if (!keep_alive.is_null()) body["keep_alive"] = keep_alive;
    return {"POST", "/api/generate", dump_json(body)};
  }

 private:
  static bool speaks(const question& q) {
    return q.spoken == dialect::ollama_chat || q.spoken == dialect::ollama_generate ||
           q.spoken == dialect::anthropic;
  }
  static bool generates(const question& q) { return q.raw || q.spoken == dialect::ollama_generate; }
  static const char* path(const question& q) {
    if (q.spoken == dialect::anthropic) return "/v1/messages";
    return generates(q) ? "/api/generate" : "/api/chat";
  }

  /// Ollama reads no tool_choice and would answer as if there were none.
  static bool chooses_freely(const question& q) {
    const auto choice = q.native.find("tool_choice");
    if (choice == q.native.end() || !choice->is_object()) return true;
    const auto type = choice->find("type");
    return type == choice->end() || *type == "auto";
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
