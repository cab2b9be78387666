// Writing Anthropic's answers: a message, or its events as SSE. A keepalive is a comment: a `ping` before
// message_start would end the stream in Anthropic's library.
#include "answer_text.hpp"
#include "pocketfleet/wire/answer_form.hpp"
#include "pocketfleet/wire/fast_json.hpp"
#include "pocketfleet/wire/json.hpp"
#include "pocketfleet/wire/refusal.hpp"

namespace pocketfleet {
namespace {

std::string_view stop_reason(const answer& a) {
  if (a.done_reason == "length") return "max_tokens";
  if (a.done_reason == "tool_calls" || a.has(piece_kind::tool_call)) return "tool_use";
  return "end_turn";
}

class messages_form final : public answer_form {
 public:
  explicit messages_form(asked_how how) : how_(std::move(how)) {}

  std::string whole(std::span<const answer* const> choices, const answer_notes&) override {
    const answer& a = *choices.front();
    std::string out = message_head(a);
    out += R"("content":[)";
    bool any = false;
    const auto block = [&](std::string_view type, std::string_view name, std::string_view text) {
      if (text.empty()) return;
      out.append(any ? "," : "")
          .append(R"({"type":")")
          .append(type)
          .append("\",\"")
          .append(name)
          .append("\":");
      append_json_string(out, text);
      out += type == "thinking" ? R"(,"signature":""})" : "}";
      any = true;
    };
    block("thinking", "thinking", a.joined(piece_kind::reasoning));
    block("text", "text", a.joined(piece_kind::content));
    for (const whole_call& call : sound_calls_of(a)) {
      out += any ? "," : "";
      append_tool_use(out, call.id, call.name);
      const auto input = parse_json(call.arguments);
      out.append(R"("input":)").append(input && input->is_object() ? dump_json(*input) : "{}").append("}");
      any = true;
    }
    out += "],";
    append_stop(out, a);
    out.append(R"(,"usage":)").append(usage_of(a, true));
    return out + '}';
  }

  std::string_view stream_type() const override { return "text/event-stream"; }

  std::size_t pieces(std::string& out, const answer& a, std::size_t first, std::size_t) override {
    for (std::size_t i = first; i < a.pieces.size(); ++i) {
      const std::string_view text = a.piece_text(i);
      switch (a.pieces[i].kind) {
        case piece_kind::content: append_delta(out, a, "text", text); break;
        case piece_kind::reasoning: append_delta(out, a, "thinking", text); break;
        case piece_kind::tool_call: append_calls(out, a, text); break;
        case piece_kind::logprobs: break;
      }
    }
    return a.pieces.size();
  }

  void keepalive(std::string& out, const answer&) override { out += ": keepalive\n\n"; }

  void end_choice(std::string& out, const answer& a, std::size_t, const answer_notes&) override {
    begin(out, a);
    end_block(out);
    out += "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{";
    append_stop(out, a);
    out.append("},\"usage\":").append(usage_of(a, true)).append("}\n\n");
  }

  void end(std::string& out, std::span<const answer* const>, const answer_notes&) override {
    out += "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
  }

  void failed(std::string& out, const error& why) override {
    out += "event: error\ndata: ";
    out += render_refusal(envelope::anthropic, {502, to_string(why.code), why.message, how_.id});
    out += "\n\n";
  }

 private:
  std::string message_head(const answer& a) const {
    std::string out = R"({"id":"msg_)" + how_.id + R"(","type":"message","role":"assistant","model":)";
    append_json_string(out, how_.model.empty() ? a.model : how_.model);
    return out + ',';
  }

  static void append_stop(std::string& out, const answer& a) {
    if (a.more.of == dialect::anthropic && !a.more.members.empty()) {
      out += a.more.members;  // stop_reason and stop_sequence, as the phone gave them
      return;
    }
    out.append(R"("stop_reason":")").append(stop_reason(a)).append(R"(","stop_sequence":null)");
  }

  static std::string usage_of(const answer& a, bool ended) {
    if (ended && !a.more.usage.empty()) return a.more.usage;
    std::string out = R"({"input_tokens":)";
    append_number(out, static_cast<std::int64_t>(a.counts.prompt_tokens));
    append_field(out, "output_tokens", static_cast<std::int64_t>(a.counts.answer_tokens));
    return out + '}';
  }

  static void append_tool_use(std::string& out, std::string_view id, std::string_view name) {
    out += R"({"type":"tool_use","id":)";
    append_json_string(out, id);
    out += R"(,"name":)";
    append_json_string(out, name);
    out += ',';
  }

  void begin(std::string& out, const answer& a) {
    if (std::exchange(begun_, true)) return;
    out += R"(event: message_start
data: {"type":"message_start","message":)";
    out += message_head(a);
    out +=
        R"("content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"output_tokens":0}}})";
    out += "\n\n";
  }

  void begin_block(std::string& out, std::string_view block) {
    out += "event: content_block_start\ndata: {\"type\":\"content_block_start\"";
    append_field(out, "index", blocks_);
    out.append(",\"content_block\":").append(block).append("}\n\n");
  }

  void end_block(std::string& out) {
    if (open_.empty()) return;
    out += "event: content_block_stop\ndata: {\"type\":\"content_block_stop\"";
    append_field(out, "index", blocks_);
    out += "}\n\n";
    open_.clear();
    ++blocks_;
  }

  void append_block_delta(std::string& out, std::string_view type, std::string_view name,
                          std::string_view text) {
    out += "event: content_block_delta\ndata: {\"type\":\"content_block_delta\"";
    append_field(out, "index", blocks_);
    out.append(R"(,"delta":{"type":")").append(type).append("\",\"").append(name).append("\":");
    append_json_string(out, text);
    out += "}}\n\n";
  }

  /// Of text or thinking, which name their deltas and fields alike.
  void append_delta(std::string& out, const answer& a, std::string_view kind, std::string_view text) {
    begin(out, a);
    if (open_ != kind) {
      end_block(out);
      begin_block(out, kind == "text" ? R"({"type":"text","text":""})"
                                      : R"({"type":"thinking","thinking":"","signature":""})");
      open_ = kind;
    }
    append_block_delta(out, std::string(kind) + "_delta", kind, text);
  }

  void append_calls(std::string& out, const answer& a, std::string_view deltas) {
    begin(out, a);
    const auto read = parse_fast(deltas);
    if (!read || !read->is_array()) return;
    for (const auto delta : simdjson::dom::array(*read)) {
      std::string_view id;
      std::string_view name;
      std::string_view arguments;
      if (delta["function"]["name"].get(name) == simdjson::SUCCESS) {
        if (delta["id"].get(id) != simdjson::SUCCESS) id = {};
        end_block(out);
        std::string block;
        append_tool_use(block, id, name);
        begin_block(out, block + R"("input":{}})");
        open_ = "tool";
      }
      if (delta["function"]["arguments"].get(arguments) == simdjson::SUCCESS && !arguments.empty())
        append_block_delta(out, "input_json_delta", "partial_json", arguments);
    }
  }

  const asked_how how_;
  bool begun_ = false;
  std::string open_;  // the kind of the block that is under way
  std::int64_t blocks_ = 0;
};

}  // namespace

std::unique_ptr<answer_form> anthropic_form(asked_how how) {
  return std::make_unique<messages_form>(std::move(how));
}

}  // namespace pocketfleet
