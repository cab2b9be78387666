// The body of a phone's answer, through the decoders of both engines: whole and cut everywhere it says the
// same.
#include <optional>

#include "fuzz.hpp"
#include "pocketfleet/engines/codec.hpp"
#include "pocketfleet/wire/ask.hpp"

namespace pocketfleet::fuzz {
namespace {

/// What came of a stream.
struct decoded {
  answer made{};
  unsigned progress = 0;
  std::optional<errc> failed{};
  std::string why{};

  bool operator==(const decoded& other) const {
    const auto pieces_are_equal = [](const piece& a, const piece& b) {
      return a.end == b.end && a.kind == b.kind;
    };
    const usage& a = made.counts;
    const usage& b = other.made.counts;
    return made.text == other.made.text &&
           std::equal(made.pieces.begin(), made.pieces.end(), other.made.pieces.begin(),
                      other.made.pieces.end(), pieces_are_equal) &&
           made.done_reason == other.made.done_reason && progress == other.progress &&
           failed == other.failed && why == other.why && a.prompt_tokens == b.prompt_tokens &&
           a.answer_tokens == b.answer_tokens && a.load_time == b.load_time &&
           a.prompt_time == b.prompt_time && a.answer_time == b.answer_time;
  }
};

class recorder final : public answer_sink {
 public:
  explicit recorder(decoded& into) : into_(into) {}
  void on_text(piece_kind kind, std::string_view text) override {
    must(!text.empty(), "a piece without text");
    into_.made.append(kind, text);
  }
  void on_progress() override { ++into_.progress; }

 private:
  decoded& into_;
};

/// As an attempt does it: bytes until done or an error, then the end. Each portion lies in memory of its own,
/// exactly as long as it is, and is gone afterwards.
decoded decode(engine_kind kind, const portions& bytes) {
  decoded out;
  recorder sink(out);
  const auto decoder = engine_of(kind).decoder(question{});
  result<void> read;
  for (const auto portion : bytes) {
    const std::vector<char> here(portion.begin(), portion.end());
    read = decoder->feed({here.data(), here.size()}, sink);
    if (!read || decoder->done()) break;
  }
  if (read && !decoder->done()) read = decoder->finish(sink);
  must(read.has_value() == decoder->done(), "neither an end nor an error");
  if (!read) {
    out.failed = read.error().code;
    out.why = read.error().message;
    const auto code = read.error().code;
    must(code == errc::phone_error || code == errc::bad_response || code == errc::rejected ||
             code == errc::truncated,
         "an error that is not the phone's");
  } else {
    out.made.done_reason = decoder->done_reason;
    out.made.counts = decoder->counts;
  }
  return out;
}

/// Whatever a phone says, the client gets JSON.
void check_rendered(const decoded& d) {
  must(parse_json(render_answer(d.made, {})).has_value(), "an answer that is not JSON");
  must(parse_json(render_error(d.why)).has_value(), "an error that is not JSON");
  std::string lines;
  must(render_pieces(lines, d.made, 0) == d.made.pieces.size(), "a piece without a line");
  render_end(lines, d.made, {});
  std::size_t n = 0;
  for (std::size_t at = 0; at < lines.size(); ++n) {
    const auto end = lines.find('\n', at);
    must(end != std::string::npos, "a line without end");
    must(parse_json(std::string_view(lines).substr(at, end - at)).has_value(), "a line that is not JSON");
    at = end + 1;
  }
  must(n == d.made.pieces.size() + 1, "a piece that is not one line");
}

void run(std::string_view text) {
  dice thrown(text);
  for (const auto kind : {engine_kind::ollama, engine_kind::llama_server}) {
    const decoded whole = decode(kind, portions{text});
    must(decode(kind, cut_at_random(text, thrown)) == whole,
         "another answer when the bytes are cut at random");
    const std::size_t middle = thrown.below(text.size() + 1);
    must(decode(kind, {text.substr(0, middle), text.substr(middle)}) == whole,
         "another answer when the bytes are cut in two");
    if (text.size() <= 4096) {
      must(decode(kind, cut_evenly(text, 1)) == whole, "another answer byte by byte");
    }
    check_rendered(whole);
  }
}

}  // namespace
}  // namespace pocketfleet::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  pocketfleet::fuzz::run(pocketfleet::fuzz::text_of(data, size));
  return 0;
}
