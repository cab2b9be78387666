// Going on with a begun answer, on either engine.
#include <algorithm>

#include "pocketfleet/wire/options.hpp"
#include "streams.hpp"

namespace pocketfleet {
namespace {

/// By the rendered prompt: /apply-template says what the model is given for the conversation, and the
/// beginning of the answer is put behind it as it stands. (A last assistant message instead would go through
/// the template, and templates trim it, close it or refuse it, depending on model and build.)
class llama_resumption final : public resumption {
 public:
  llama_resumption(const question& q, const begun_answer& begun) : question_(q), begun_(begun) {
    if (!q.raw) return;
    prompt_ = q.prompt;
    step_ = step::count_prompt;
  }

  std::optional<phone_request> next() override {
    switch (step_) {
      case step::render: {
        std::string body = R"({"messages":)" + dump_json(openai_messages(question_));
        if (const auto effort = question_.native.find("reasoning_effort");
            question_.spoken == dialect::openai_chat && effort != question_.native.end())
          body += R"(,"reasoning_effort":)" + dump_json(*effort);
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
      case step::render:
        prompt_ = found->get<std::string>();
        step_ = step::count_prompt;
        break;
      case step::count_prompt:
        prompt_tokens_ = found->size();
        step_ = step::count_all;
        break;
      case step::count_all:
        before_ = found->size() - std::min<std::size_t>(prompt_tokens_, found->size());
        step_ = step::ready;
        break;
      case step::ready: break;
    }
    return {};
  }

  std::optional<phone_request> request() override {
    std::string body = R"({"prompt":)";
    append_json_string(body, prompt_ + begun_.text);
    body += R"(,"stream":true,"return_progress":true)";
    for (const auto& [name, value] : question_.options.items()) {
      std::string_view there = openai_name(name);
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

  std::unique_ptr<answer_decoder> decoder() const override { return completion_decoder(); }
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

/// By the rendered prompt, which goes past the template that may or may not leave the last turn open:
/// _debug_render_only (since 0.11.5) says what the model is given, and "raw" takes it with the beginning of
/// the answer behind it.
class ollama_resumption final : public resumption {
 public:
  ollama_resumption(const question& q, std::string_view model, const begun_answer& begun)
      : question_(q), model_(model), begun_(begun) {
    if (q.raw) prompt_ = q.prompt;
  }

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
    error cannot(errc::unsupported, "the phone does not say how it would go on");
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

  std::unique_ptr<answer_decoder> decoder() const override { return ollama_decoder(dialect::ask, true); }

  /// Ollama has no way to count tokens; it sends each as a line of its own.
  std::uint64_t tokens_before() const override { return begun_.pieces; }

 private:
  const question& question_;
  const std::string model_;
  const begun_answer& begun_;
  std::optional<std::string> prompt_;
};

}  // namespace

std::unique_ptr<resumption> resume_on_llama_server(const question& q, const begun_answer& begun) {
  return std::make_unique<llama_resumption>(q, begun);
}

std::unique_ptr<resumption> resume_on_ollama(const question& q, std::string_view model,
                                             const begun_answer& begun) {
  return std::make_unique<ollama_resumption>(q, model, begun);
}

}  // namespace pocketfleet
