// Writing Ollama's answers: /api/chat and /api/generate, whole or as NDJSON. Each line is an object, never
// empty, without a key `error` unless it is one: Ollama's libraries stop at anything else.
#include "answer_text.hpp"
#include "pocketfleet/wire/answer_form.hpp"
#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {
namespace {

class ollama_form final : public answer_form {
 public:
  ollama_form(asked_how how, bool chat) : how_(std::move(how)), chat_(chat) {}

  std::string whole(std::span<const answer* const> choices, const answer_notes& notes) override {
    const answer& a = *choices.front();
    std::string out;
    append_last(out, a, a.joined(piece_kind::content), a.joined(piece_kind::reasoning), notes);
    insert_logprobs(out, all_logprobs(a));
    return out;
  }

  std::string_view stream_type() const override { return "application/x-ndjson"; }

  std::size_t pieces(std::string& out, const answer& a, std::size_t first, std::size_t) override {
    std::string logprobs;
    std::size_t written = first;
    for (std::size_t i = first; i < a.pieces.size(); ++i) {
      const std::string_view text = a.piece_text(i);
      const piece_kind kind = a.pieces[i].kind;
      if (kind == piece_kind::logprobs) {
        add_logprobs(logprobs, text);
        continue;  // they go with the content that follows
      }
      written = i + 1;
      if (kind == piece_kind::tool_call) continue;  // calls are sent whole, at the end
      append_head(out, a);
      kind == piece_kind::content ? append_text(out, text, {}, {}) : append_text(out, {}, text, {});
      if (!logprobs.empty()) out.append(R"(,"logprobs":[)").append(logprobs).append("]");
      out += ",\"done\":false}\n";
      logprobs.clear();
    }
    return written;
  }

  void keepalive(std::string& out, const answer& a) override {
    append_head(out, a);
    append_text(out, {}, {}, {});
    out += ",\"done\":false}\n";
  }

  void end_choice(std::string& out, const answer& a, std::size_t, const answer_notes& notes) override {
    append_last(out, a, {}, {}, notes);
    insert_logprobs(out, last_logprobs(a));
    out += '\n';
  }

  void end(std::string&, std::span<const answer* const>, const answer_notes&) override {}

  void failed(std::string& out, const error& why) override {
    out += R"({"error":)";
    append_json_string(out, why.message);
    out += "}\n";
  }

 private:
  void append_head(std::string& out, const answer& a) const {
    out += R"({"model":)";
    append_json_string(out, how_.model.empty() ? a.model : how_.model);
    out += R"(,"created_at":")";
    out += a.created_at.empty() ? how_.created_at : a.created_at;
    out += '"';
  }

  void append_text(std::string& out, std::string_view content, std::string_view thinking,
                   const std::vector<whole_call>& calls) const {
    out += chat_ ? R"(,"message":{"role":"assistant","content":)" : R"(,"response":)";
    append_json_string(out, content);
    if (!thinking.empty()) {
      out += R"(,"thinking":)";
      append_json_string(out, thinking);
    }
    for (std::size_t i = 0; i < calls.size(); ++i) {
      out += i == 0 ? R"(,"tool_calls":[)" : ",";
      out += R"({"id":)";
      append_json_string(out, calls[i].id);
      out += R"(,"function":{"index":)";
      append_number(out, static_cast<std::int64_t>(i));
      out += R"(,"name":)";
      append_json_string(out, calls[i].name);
      out += R"(,"arguments":)";
      // What the model wrote need not be an object, but clients take it for one.
      const auto arguments = parse_json(calls[i].arguments);
      out += arguments && arguments->is_object() ? dump_json(*arguments) : "{}";
      out += "}}";
    }
    if (!calls.empty()) out += ']';
    if (chat_) out += '}';
  }

  /// Into the object that `out` ends with.
  static void insert_logprobs(std::string& out, const std::string& entries) {
    if (!entries.empty()) out.insert(out.size() - 1, R"(,"logprobs":[)" + entries + "]");
  }

  static void append_count(std::string& out, std::string_view name, std::int64_t value) {
    if (value != 0) append_field(out, name, value);  // Ollama leaves out what is 0
  }

  /// The text, the marks of the end, and the phone's own additions.
  void append_last(std::string& out, const answer& a, std::string_view content, std::string_view thinking,
                   const answer_notes& notes) const {
    append_head(out, a);
    append_text(out, content, thinking, sound_calls_of(a));
    out += R"(,"done":true,"done_reason":)";
    append_json_string(out, a.done_reason.empty() || a.done_reason == "tool_calls"
                                ? "stop"
                                : std::string_view(a.done_reason));
    append_count(out, "total_duration", notes.total.count());
    append_count(out, "load_duration", a.counts.load_time.count());
    append_count(out, "prompt_eval_count", static_cast<std::int64_t>(a.counts.prompt_tokens));
    append_count(out, "prompt_eval_duration", a.counts.prompt_time.count());
    append_count(out, "eval_count", static_cast<std::int64_t>(a.counts.answer_tokens));
    append_count(out, "eval_duration", a.counts.answer_time.count());
    const dialect mine = chat_ ? dialect::ollama_chat : dialect::ollama_generate;
    if (a.more.of == mine && !a.more.members.empty()) out.append(",").append(a.more.members);
    out += '}';
  }

  const asked_how how_;
  const bool chat_;
};

}  // namespace

std::unique_ptr<answer_form> ollama_chat_form(asked_how how) {
  return std::make_unique<ollama_form>(std::move(how), true);
}

std::unique_ptr<answer_form> ollama_generate_form(asked_how how) {
  return std::make_unique<ollama_form>(std::move(how), false);
}

}  // namespace pocketfleet
