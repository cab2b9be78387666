// An answer while it is being made and after, whichever engine makes it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/core/time.hpp"
#include "pocketfleet/wire/question.hpp"

namespace pocketfleet {

enum class piece_kind : std::uint8_t {
  content,
  reasoning,
  tool_call,  ///< an array of OpenAI's deltas: {"index","id"?,"type"?,"function":{"name"?,"arguments"?}}
  logprobs,   ///< OpenAI's object, of the content that follows
};

/// Text that came in one event: from the end of the piece before to `end`, as an offset into answer::text.
struct piece {
  std::uint32_t end = 0;
  piece_kind kind = piece_kind::content;
};

/// Counts and times as the engine reports them; 0 where it does not.
struct usage {
  std::uint64_t prompt_tokens = 0;
  std::uint64_t answer_tokens = 0;
  nanoseconds load_time{0};
  nanoseconds prompt_time{0};
  nanoseconds answer_time{0};
  std::uint64_t cached_tokens = 0;  ///< of the prompt: those that the phone had read before
};

/// What a phone said beyond the neutral, for a client that speaks the same dialect.
struct extras {
  dialect of = dialect::ask;
  std::string members{};  ///< JSON, without braces: "timings":{...},"system_fingerprint":"b1"
  std::string usage{};    ///< OpenAI's object; empty: none came

  std::size_t size() const { return members.size() + usage.size(); }
};

struct answer {
  std::string model;       ///< as the phone calls it
  std::string created_at;  ///< RFC 3339, UTC
  std::string text;        ///< all pieces in the order they came
  std::vector<piece> pieces{};
  std::string done_reason{};  ///< "stop", "length", ...; empty until done
  usage counts{};
  extras more{};

  void append(piece_kind kind, std::string_view added) {
    text.append(added);
    pieces.push_back({static_cast<std::uint32_t>(text.size()), kind});
  }
  std::string_view piece_text(std::size_t i) const {
    const std::size_t begin = i == 0 ? 0 : pieces[i - 1].end;
    return std::string_view(text).substr(begin, pieces[i].end - begin);
  }
  /// All text of one kind.
  std::string joined(piece_kind kind) const {
    std::string out;
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      if (pieces[i].kind == kind) out.append(piece_text(i));
    }
    return out;
  }
  bool has(piece_kind kind) const {
    return std::any_of(pieces.begin(), pieces.end(), [&](const piece& p) { return p.kind == kind; });
  }
  /// What it costs to keep.
  std::size_t size() const {
    return sizeof(answer) + model.size() + created_at.size() + text.size() + pieces.size() * sizeof(piece) +
           more.size();
  }
};

/// What there is of an answer that was broken off.
struct begun_answer {
  std::string text;             ///< the content
  std::uint64_t pieces = 0;     ///< in which it came; most of the time a piece is a token
  std::uint64_t reasoning = 0;  ///< pieces of reasoning before it
  bool other = false;           ///< there are pieces that cannot be gone on with
};

}  // namespace pocketfleet
