#include "pocketfleet/wire/prefix_chain.hpp"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <limits>
#include <memory>
#include <new>
#include <string>

#include "pocketfleet/core/model_name.hpp"

namespace pocketfleet {
namespace {

constexpr std::size_t most_marks = 64;  // the last place is for the prompt's end
// Up to so many marks every message's end has one: some 30 messages, as many as fit a phone's context. From
// then on they stand a ninth of the prompt apart, and the last few double it: a longer prompt costs no more.
constexpr std::size_t close_marks = 32;
constexpr std::size_t spread_marks = 58;
constexpr std::uint64_t spread = 8;
constexpr std::uint64_t step = 1024;  // bytes, within a message
constexpr std::uint64_t image_like =
    1024;  // bytes of text: small vision models make 256 to 576 tokens of one

/// The hash of all text so far can be had at any place.
class running_hash {
 public:
  running_hash() : state_(XXH3_createState()) {
    if (!state_) throw std::bad_alloc();
  }
  void begin() { XXH3_64bits_reset(state_.get()); }
  void begin_behind(std::uint64_t hash) {
    begin();
    add_number(hash);
  }
  void add(std::string_view text) {
    if (!text.empty()) XXH3_64bits_update(state_.get(), text.data(), text.size());
  }
  void add_number(std::uint64_t number) {
    std::array<char, sizeof number> bytes{};
    for (char& b : bytes) {
      b = static_cast<char>(number & 0xFFU);
      number >>= 8U;
    }
    add({bytes.data(), bytes.size()});
  }
  std::uint64_t here() const { return XXH3_64bits_digest(state_.get()); }

 private:
  struct freed {
    void operator()(XXH3_state_t* s) const { XXH3_freeState(s); }
  };
  std::unique_ptr<XXH3_state_t, freed> state_;
};

class marking {
 public:
  explicit marking(running_hash& hash) : hash_(hash) { hash_.begin(); }

  /// Goes on behind a prompt that was marked before.
  marking(running_hash& hash, const prefix_chain& prompt, const prompt_end& end)
      : hash_(hash), count_(end.marks), bytes_(end.bytes), end_(end.hash) {
    hash_.begin_behind(end_);
    std::copy_n(prompt.begin(), count_, marks_.begin());
  }

  /// Hashed, and no text of the prompt.
  void aside(std::string_view text) {
    hash_.add(text);
    close(text.size());
  }

  void text(std::string_view more) {
    const std::uint64_t length = more.size();
    while (!more.empty()) {
      const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(more.size(), next_ - within_));
      hash_.add(more.substr(0, part));
      more.remove_prefix(part);
      bytes_ += part;
      within_ += part;
      if (within_ < next_) continue;
      mark(hash_.here());
      next_ += std::max(step, within_ / spread);
    }
    close(length);
  }

  void image(std::string_view data) {
    aside(data);
    bytes_ += image_like;
  }

  /// A message, or what stands before the first, is over. What follows is hashed from this hash on, so that
  /// nobody needs the text before it.
  void end_part() {
    end_ = hash_.here();
    mark(end_);
    hash_.begin_behind(end_);
    within_ = 0;
    next_ = step;
  }

  prompt_end end() const { return {end_, bytes_, static_cast<std::uint32_t>(count_)}; }

  /// The last to be called.
  prefix_chain all() {
    if (shown() > (count_ == 0 ? 0 : marks_[count_ - 1].bytes)) marks_[count_++] = {end_, shown()};
    return prefix_chain(marks_.begin(), marks_.begin() + static_cast<std::ptrdiff_t>(count_));
  }

 private:
  /// So that no text runs into the next. Behind it, for a longer text is to begin with the same marks.
  void close(std::uint64_t length) { hash_.add_number(length); }

  void mark(std::uint64_t hash) {
    if (count_ == most_marks - 1) return;
    const std::uint64_t last = count_ == 0 ? 0 : marks_[count_ - 1].bytes;
    const std::uint64_t apart = count_ < close_marks ? 1 : count_ < spread_marks ? last / spread : last;
    if (shown() <= last || shown() - last < apart) return;
    marks_[count_++] = {hash, shown()};
  }
  std::uint32_t shown() const {
    return static_cast<std::uint32_t>(
        std::min<std::uint64_t>(bytes_, std::numeric_limits<std::uint32_t>::max()));
  }

  running_hash& hash_;
  std::array<prefix_mark, most_marks> marks_{};
  std::size_t count_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t within_ = 0;   // bytes of this part
  std::uint64_t next_ = step;  // of this part, where a mark is due
  std::uint64_t end_ = 0;      // hash of all parts that are over
};

const std::string* text_in(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? &found->get_ref<const std::string&>() : nullptr;
}

const json* member(const json& object, const char* name) {
  const auto found = object.is_object() ? object.find(name) : object.end();
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

/// What of a message's content is not plain text: a part, as OpenAI and Anthropic have them.
void add_part(marking& out, const json& part) {
  const std::string* const type = part.is_object() ? text_in(part, "type") : nullptr;
  const std::string* const plain = part.is_object() ? text_in(part, "text") : nullptr;
  if (type != nullptr && *type == "text" && plain != nullptr) return out.text(*plain);
  if (type != nullptr && (*type == "image" || *type == "image_url" || *type == "input_audio"))
    return out.image(dump_json(part));
  // Where a client wants its prompt cached moves from turn to turn.
  json rest = part;
  if (rest.is_object()) rest.erase("cache_control");
  out.text(dump_json(rest));
}

void add_content(marking& out, const json& content) {
  if (content.is_string()) return out.text(content.get_ref<const std::string&>());
  if (!content.is_array()) return out.text(dump_json(content));
  for (const json& part : content) add_part(out, part);
}

void add_message(marking& out, const json& message) {
  if (!message.is_object()) return;
  if (const std::string* const role = text_in(message, "role")) out.text(*role);
  if (const json* const content = member(message, "content")) add_content(out, *content);
  for (const auto& [name, value] : message.items()) {
    if (name == "role" || name == "content" || value.is_null()) continue;
    out.aside(name);
    if (name == "images" && value.is_array()) {
      for (const json& image : value) out.image(image.is_string() ? image.get<std::string>() : std::string{});
    } else {
      out.text(dump_json(value));
    }
  }
  out.end_part();
}

/// What templates put before the first message, or what makes the whole prompt another one.
void add_head(marking& out, const question& q) {
  out.aside(q.model.empty() ? std::string{} : normalized_model(q.model));
  out.aside(q.raw ? "raw" : "");
  const json* const tools = q.tools.is_null() ? member(q.native, "tools") : &q.tools;
  if (tools != nullptr) out.text(dump_json(*tools));
  if (!q.format.is_null()) out.text(dump_json(q.format));
  // Where thinking is merely on or off, templates say so at the end.
  out.aside(q.think.is_string() ? q.think.get_ref<const std::string&>() : std::string{});
  if (q.spoken == dialect::ollama_generate && !q.native_only.empty()) {
    for (const char* const name : {"template", "context"}) {
      if (const json* const its = member(q.native, name)) out.text(dump_json(*its));
    }
  }
  out.end_part();
}

}  // namespace

std::uint64_t name_hash(std::string_view name, std::uint64_t within) {
  if (name.empty()) return 0;
  return std::max<std::uint64_t>(XXH3_64bits_withSeed(name.data(), name.size(), within), 1);
}

namespace {

running_hash& worker_hash() {
  thread_local running_hash one;
  return one;
}

}  // namespace

prefix_chain prefix_of(const question& q, prompt_end* end) {
  marking out(worker_hash());
  add_head(out, q);
  if (q.raw) {
    // A prompt of tokens has no text.
    const json* const tokens = q.prompt.empty() ? member(q.native, "prompt") : nullptr;
    out.text(tokens != nullptr && tokens->is_array() ? dump_json(*tokens) : q.prompt);
    out.end_part();
    if (end != nullptr) *end = {};
    return out.all();
  }
  // The neutral form of what is not all neutral lacks something.
  const json* const whole = q.native_only.empty() ? nullptr : member(q.native, "messages");
  if (q.spoken == dialect::anthropic) {
    if (const json* const system = member(q.native, "system")) {
      out.text("system");
      add_content(out, *system);
      out.end_part();
    }
  }
  const json& messages = whole != nullptr && whole->is_array() ? *whole : q.messages;
  for (const json& message : messages) add_message(out, message);
  if (end != nullptr) *end = out.end();
  return out.all();
}

prefix_chain prefix_with(const prefix_chain& prompt, const prompt_end& end, const answer& said) {
  if (end.hash == 0 || said.has(piece_kind::reasoning) || said.has(piece_kind::tool_call)) return {};
  const bool plain = !said.has(piece_kind::logprobs);
  const std::string chosen = plain ? std::string{} : said.joined(piece_kind::content);
  const std::string& content = plain ? said.text : chosen;
  if (content.empty()) return {};
  marking out(worker_hash(), prompt, end);
  out.text("assistant");
  out.text(content);
  out.end_part();
  return out.all();
}

}  // namespace pocketfleet
