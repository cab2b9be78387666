// Writing the answers of /ask and /ask_stream. Written by hand, since it runs for each relayed token.
#include "answer_text.hpp"
#include "pocketfleet/wire/ask.hpp"

namespace pocketfleet {
namespace {

void append_head(std::string& out, const answer& a) {
  out += R"({"model":)";
  append_json_string(out, a.model);
  out += R"(,"created_at":")";
  out += a.created_at;
  out += R"(","message":{"role":"assistant","content":)";
}

/// Everything behind the message of a finished answer.
void append_tail(std::string& out, const answer& a, const answer_notes& notes) {
  out += R"(,"done":true)";
  if (!a.done_reason.empty()) {
    out += R"(,"done_reason":)";
    append_json_string(out, a.done_reason);
  }
  append_field(out, "total_duration", notes.total.count());
  append_field(out, "load_duration", a.counts.load_time.count());
  append_field(out, "prompt_eval_count", static_cast<std::int64_t>(a.counts.prompt_tokens));
  append_field(out, "prompt_eval_duration", a.counts.prompt_time.count());
  append_field(out, "eval_count", static_cast<std::int64_t>(a.counts.answer_tokens));
  append_field(out, "eval_duration", a.counts.answer_time.count());
  out += R"(,"pocketfleet":{"phone":)";
  append_json_string(out, notes.phone);
  out += notes.cached ? R"(,"cached":true)" : R"(,"cached":false)";
  append_field(out, "attempts", notes.attempts);
  append_field(out, "rescues", notes.rescues);
  append_field(out, "queued_ms", notes.queued.count());
  if (!notes.stand_in.empty()) {
    out += R"(,"stand_in":)";
    append_json_string(out, notes.stand_in);
  }
  out += "}}";
}

}  // namespace

std::string render_answer(const answer& a, const answer_notes& notes) {
  std::string out;
  out.reserve(a.text.size() + a.text.size() / 8 + 512);
  append_head(out, a);
  append_json_string(out, a.joined(piece_kind::content));
  if (const std::string thinking = a.joined(piece_kind::reasoning); !thinking.empty()) {
    out += R"(,"thinking":)";
    append_json_string(out, thinking);
  }
  out += '}';
  append_tail(out, a, notes);
  return out;
}

std::size_t render_pieces(std::string& out, const answer& a, std::size_t first) {
  for (std::size_t i = first; i < a.pieces.size(); ++i) {
    const piece_kind kind = a.pieces[i].kind;
    if (kind != piece_kind::content && kind != piece_kind::reasoning) continue;
    append_head(out, a);
    if (kind == piece_kind::content) {
      append_json_string(out, a.piece_text(i));
    } else {
      out += R"("","thinking":)";
      append_json_string(out, a.piece_text(i));
    }
    out += "},\"done\":false}\n";
  }
  return a.pieces.size();
}

void render_keepalive(std::string& out, const answer& a) {
  append_head(out, a);
  out += "\"\"},\"done\":false}\n";
}

void render_end(std::string& out, const answer& a, const answer_notes& notes) {
  append_head(out, a);
  out += R"(""})";
  append_tail(out, a, notes);
  out += '\n';
}

namespace {

class ask_answer_form final : public answer_form {
 public:
  std::string whole(std::span<const answer* const> choices, const answer_notes& notes) override {
    return render_answer(*choices.front(), notes);
  }
  std::string_view stream_type() const override { return "application/x-ndjson"; }
  std::size_t pieces(std::string& out, const answer& a, std::size_t first, std::size_t) override {
    return render_pieces(out, a, first);
  }
  void keepalive(std::string& out, const answer& a) override { render_keepalive(out, a); }
  void end_choice(std::string& out, const answer& a, std::size_t, const answer_notes& notes) override {
    render_end(out, a, notes);
  }
  void end(std::string&, std::span<const answer* const>, const answer_notes&) override {}
  void failed(std::string& out, const error& why) override { out += render_error(why.message) + '\n'; }
};

}  // namespace

std::unique_ptr<answer_form> ask_form() {
  return std::make_unique<ask_answer_form>();
}

std::string render_error(std::string_view text) {
  std::string out = R"({"error":)";
  append_json_string(out, text);
  out += '}';
  return out;
}

}  // namespace pocketfleet
