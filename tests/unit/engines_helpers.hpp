// Streams of phones, cut in every way, through a decoder.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "pocketfleet/engines/codec.hpp"

namespace pocketfleet::testing_engines {

/// What came of a stream.
struct decoded {
  std::vector<std::string> pieces;  ///< "text", or "(text)" for reasoning
  unsigned progress = 0;
  std::optional<error> failed;
  bool done = false;
  std::string reason;
  usage counts;

  errc code() const { return failed ? failed->code : errc{}; }
  std::string text() const {
    std::string all;
    for (const auto& p : pieces) all += p;
    return all;
  }
  std::string summary() const {
    std::string out;
    for (const auto& p : pieces) out += "[" + p + "]";
    out += " progress " + std::to_string(progress);
    out += failed ? " failed " + std::string(to_string(failed->code)) + ": " + failed->message : "";
    out += done ? " done " + reason : "";
    for (const auto n :
         {static_cast<std::int64_t>(counts.prompt_tokens), static_cast<std::int64_t>(counts.answer_tokens),
          counts.load_time.count(), counts.prompt_time.count(), counts.answer_time.count(),
          static_cast<std::int64_t>(counts.cached_tokens)}) {
      out += " " + std::to_string(n);
    }
    return out;
  }
};

class recorder final : public answer_sink {
 public:
  explicit recorder(decoded& into) : into_(into) {}
  void on_text(piece_kind kind, std::string_view text) override {
    into_.pieces.push_back(kind == piece_kind::reasoning ? "(" + std::string(text) + ")" : std::string(text));
  }
  void on_progress() override { ++into_.progress; }

 private:
  decoded& into_;
};

/// As a dispatch does it: bytes until done or an error, then the end. Each portion lies in memory of its own,
/// exactly as long as it is, and is gone afterwards.
inline decoded decode(engine_kind kind, const std::vector<std::string_view>& portions) {
  decoded out;
  recorder sink(out);
  const auto decoder = engine_of(kind).decoder(question{});
  result<void> read;
  for (const auto portion : portions) {
    const std::vector<char> bytes(portion.begin(), portion.end());
    read = decoder->feed({bytes.data(), bytes.size()}, sink);
    if (!read || decoder->done()) break;
  }
  if (read && !decoder->done()) read = decoder->finish(sink);
  if (!read) out.failed = read.error();
  out.done = decoder->done();
  if (out.done) {
    out.reason = decoder->done_reason;
    out.counts = decoder->counts;
  }
  return out;
}

inline decoded decode(engine_kind kind, std::string_view whole) {
  return decode(kind, std::vector<std::string_view>{whole});
}

/// The stream in one go; and the same cut at every byte, and byte by byte, must give the same.
inline decoded decode_every_way(engine_kind kind, std::string_view stream) {
  const decoded whole = decode(kind, stream);
  for (std::size_t at = 1; at < stream.size(); ++at) {
    const auto cut = decode(kind, {stream.substr(0, at), stream.substr(at)});
    EXPECT_EQ(cut.summary(), whole.summary()) << "cut at " << at;
    if (testing::Test::HasFailure()) break;
  }
  std::vector<std::string_view> bytes;
  for (std::size_t at = 0; at < stream.size(); ++at) bytes.push_back(stream.substr(at, 1));
  EXPECT_EQ(decode(kind, bytes).summary(), whole.summary()) << "byte by byte";
  return whole;
}

}  // namespace pocketfleet::testing_engines
