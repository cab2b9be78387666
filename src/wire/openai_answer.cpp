// Writing OpenAI's answers: chat.completion and text_completion, and their chunks as SSE. No `event:` and no
// `id:` lines, which OpenAI's libraries stumble over; a keepalive is a comment.
#include "answer_text.hpp"
#include "pocketfleet/wire/answer_form.hpp"
#include "pocketfleet/wire/json.hpp"
#include "pocketfleet/wire/refusal.hpp"

namespace pocketfleet {
namespace {

/// Tools are called for only where the model has ended its turn by it.
std::string_view finish_reason(const answer& a) {
  if (a.done_reason == "stop" && a.has(piece_kind::tool_call)) return "tool_calls";
  return a.done_reason.empty() ? "stop" : std::string_view(a.done_reason);
}

/// Of all choices, `each` of them to a prompt.
std::string usage_of(std::span<const answer* const> choices, std::size_t each) {
  if (choices.size() == 1 && !choices.front()->more.usage.empty()) return choices.front()->more.usage;
  std::uint64_t prompt = 0;
  std::uint64_t completion = 0;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    if (i % each == 0) prompt += choices[i]->counts.prompt_tokens;
    completion += choices[i]->counts.answer_tokens;
  }
  std::string out = R"({"completion_tokens":)";
  append_number(out, static_cast<std::int64_t>(completion));
  append_field(out, "prompt_tokens", static_cast<std::int64_t>(prompt));
  append_field(out, "total_tokens", static_cast<std::int64_t>(prompt + completion));
  return out + '}';
}

class openai_form final : public answer_form {
 public:
  openai_form(asked_how how, bool chat) : how_(std::move(how)), chat_(chat) {}

  std::string whole(std::span<const answer* const> choices, const answer_notes&) override {
    std::string out = R"({"choices":[)";
    for (std::size_t i = 0; i < choices.size(); ++i) {
      if (i > 0) out += ',';
      chat_ ? append_message(out, *choices[i], i) : append_text(out, *choices[i], i);
    }
    out += ']';
    append_common(out, *choices.front(), chat_ ? "chat.completion" : "text_completion");
    out.append(",\"usage\":").append(usage_of(choices, how_.each));
    append_more(out, choices);
    return out + '}';
  }

  std::string_view stream_type() const override { return "text/event-stream"; }

  std::size_t pieces(std::string& out, const answer& a, std::size_t first, std::size_t choice) override {
    std::string logprobs;
    std::size_t written = first;
    for (std::size_t i = first; i < a.pieces.size(); ++i) {
      const std::string_view text = a.piece_text(i);
      if (a.pieces[i].kind == piece_kind::logprobs) {
        add_logprobs(logprobs, text);
        continue;  // they go with the content that follows
      }
      begin_choice(out, a, choice);
      begin_chunk(out, choice, {});
      append_delta(out, a.pieces[i].kind, text);
      if (!logprobs.empty()) {
        out.append(R"(,"logprobs":{"content":[)").append(logprobs).append("]}");
      } else if (!chat_) {
        out += ",\"logprobs\":null";
      }
      end_chunk(out, a);
      logprobs.clear();
      written = i + 1;
    }
    return written;
  }

  void keepalive(std::string& out, const answer&) override { out += ": keepalive\n\n"; }

  void end_choice(std::string& out, const answer& a, std::size_t choice, const answer_notes&) override {
    begin_choice(out, a, choice);
    begin_chunk(out, choice, finish_reason(a));
    out += chat_ ? R"(,"delta":{})" : R"(,"text":"")";
    // Those of a tool's calls stand with them.
    const std::string logprobs = a.has(piece_kind::tool_call) ? std::string{} : last_logprobs(a);
    if (!logprobs.empty()) {
      out.append(R"(,"logprobs":{"content":[)").append(logprobs).append("]}");
    } else if (!chat_) {
      out += ",\"logprobs\":null";
    }
    out += "}]";
    append_common(out, a, object());
    // The phone's own additions stand in the last object.
    if (!how_.include_usage && a.more.of == spoken()) append_members(out, a);
    out += "}\n\n";
  }

  void end(std::string& out, std::span<const answer* const> choices, const answer_notes&) override {
    if (how_.include_usage) {
      out += R"(data: {"choices":[])";
      append_common(out, *choices.front(), object());
      out.append(",\"usage\":").append(usage_of(choices, how_.each));
      append_more(out, choices);
      out += "}\n\n";
    }
    out += "data: [DONE]\n\n";
  }

  void failed(std::string& out, const error& why) override {
    out += "data: ";
    out += render_refusal(envelope::openai, {502, to_string(why.code), why.message, {}});
    out += "\n\n";
  }

 private:
  dialect spoken() const { return chat_ ? dialect::openai_chat : dialect::openai_completion; }
  std::string_view object() const { return chat_ ? "chat.completion.chunk" : "text_completion"; }

  /// One role frame for each choice, with its first token, as llama-server has it.
  void begin_choice(std::string& out, const answer& a, std::size_t choice) {
    if (begun_.size() <= choice) begun_.resize(choice + 1);
    if (begun_[choice]) return;
    begun_[choice] = true;
    if (!chat_) return;
    begin_chunk(out, choice, {});
    out += R"(,"delta":{"role":"assistant","content":null})";
    end_chunk(out, a);
  }

  void begin_chunk(std::string& out, std::size_t choice, std::string_view finish) const {
    out += R"(data: {"choices":[{"finish_reason":)";
    if (finish.empty()) {
      out += "null";
    } else {
      append_json_string(out, finish);
    }
    append_field(out, "index", static_cast<std::int64_t>(choice));
  }

  void end_chunk(std::string& out, const answer& a) const {
    out += "}]";
    append_common(out, a, object());
    out += "}\n\n";
  }

  void append_delta(std::string& out, piece_kind kind, std::string_view text) const {
    if (!chat_) {
      out += R"(,"text":)";
      append_json_string(out, kind == piece_kind::content ? text : std::string_view{});
      return;
    }
    switch (kind) {
      case piece_kind::content: out += R"(,"delta":{"content":)"; break;
      case piece_kind::reasoning: out += R"(,"delta":{"reasoning_content":)"; break;
      case piece_kind::tool_call: out.append(R"(,"delta":{"tool_calls":)").append(text).append("}"); return;
      case piece_kind::logprobs: return;
    }
    append_json_string(out, text);
    out += '}';
  }

  void append_common(std::string& out, const answer& a, std::string_view object) const {
    append_field(out, "created", how_.created);
    out += R"(,"model":)";
    append_json_string(out, how_.model.empty() ? a.model : how_.model);
    out.append(R"(,"object":")").append(object).append(chat_ ? R"(","id":"chatcmpl-)" : R"(","id":"cmpl-)");
    out.append(how_.id).append("\"");
  }

  static void append_members(std::string& out, const answer& a) {
    if (!a.more.members.empty()) out.append(",").append(a.more.members);
  }

  /// What the phone says of one answer is said of one answer only.
  void append_more(std::string& out, std::span<const answer* const> choices) const {
    if (choices.size() == 1 && choices.front()->more.of == spoken()) append_members(out, *choices.front());
  }

  static std::string joined_logprobs(const answer& a) {
    const std::string all = all_logprobs(a);
    return all.empty() ? std::string{} : R"({"content":[)" + all + "]}";
  }

  static void append_message(std::string& out, const answer& a, std::size_t index) {
    out += R"({"finish_reason":)";
    append_json_string(out, finish_reason(a));
    append_field(out, "index", static_cast<std::int64_t>(index));
    out += R"(,"message":{"role":"assistant","content":)";
    const auto calls = calls_of(a);
    const std::string content = a.joined(piece_kind::content);
    if (content.empty() && !calls.empty()) {
      out += "null";
    } else {
      append_json_string(out, content);
    }
    if (const std::string reasoning = a.joined(piece_kind::reasoning); !reasoning.empty()) {
      out += R"(,"reasoning_content":)";
      append_json_string(out, reasoning);
    }
    for (std::size_t i = 0; i < calls.size(); ++i) {
      out += i == 0 ? R"(,"tool_calls":[)" : ",";
      out += R"({"type":"function","function":{"name":)";
      append_json_string(out, calls[i].name);
      out += R"(,"arguments":)";
      append_json_string(out, calls[i].arguments);
      out += R"(},"id":)";
      append_json_string(out, calls[i].id);
      out += '}';
    }
    if (!calls.empty()) out += ']';
    out += '}';
    if (const std::string logprobs = joined_logprobs(a); !logprobs.empty())
      out.append(",\"logprobs\":").append(logprobs);
    out += '}';
  }

  static void append_text(std::string& out, const answer& a, std::size_t index) {
    out += R"({"text":)";
    append_json_string(out, a.joined(piece_kind::content));
    append_field(out, "index", static_cast<std::int64_t>(index));
    const std::string logprobs = joined_logprobs(a);
    out.append(",\"logprobs\":").append(logprobs.empty() ? "null" : logprobs);
    out += R"(,"finish_reason":)";
    append_json_string(out, finish_reason(a));
    out += '}';
  }

  const asked_how how_;
  const bool chat_;
  std::vector<bool> begun_;
};

}  // namespace

std::unique_ptr<answer_form> openai_chat_form(asked_how how) {
  return std::make_unique<openai_form>(std::move(how), true);
}

std::unique_ptr<answer_form> openai_completion_form(asked_how how) {
  return std::make_unique<openai_form>(std::move(how), false);
}

}  // namespace pocketfleet
