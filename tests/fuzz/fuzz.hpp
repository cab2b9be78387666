// What the fuzz targets share: an end for broken invariants, and cuts that depend on nothing but the input.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace pocketfleet::fuzz {

/// Ends the program, which is what a fuzzer and a replay take notice of.
inline void must(bool holds, std::string_view what) {
  if (holds) return;
  std::fprintf(stderr, "broken: %.*s\n", static_cast<int>(what.size()), what.data());
  std::abort();
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// Random numbers (SplitMix64) that are the same each time for the same input (its FNV-1a hash is the seed).
/// So a seed file needs no bytes that say where it is cut, and can be read as what it is.
class dice {
 public:
  explicit dice(std::string_view input) {
    for (const char c : input) state_ = (state_ ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  }
  /// 0 to most - 1.
  std::size_t below(std::size_t most) {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
    return static_cast<std::size_t>((z ^ (z >> 31U)) % most);
  }

 private:
  std::uint64_t state_ = 0xcbf29ce484222325U;
};

using portions = std::vector<std::string_view>;

/// Portions of at most `size` bytes.
inline portions cut_evenly(std::string_view text, std::size_t size) {
  portions out;
  for (std::size_t at = 0; at < text.size(); at += size) out.push_back(text.substr(at, size));
  return out;
}

/// Portions of 1 byte up to a power of two that is thrown first: few bytes at a time, or many.
inline portions cut_at_random(std::string_view text, dice& thrown) {
  // The longer the text, the larger the least power, or else the fuzzer does little but cut.
  const std::size_t least = text.size() >> 10U;
  const std::size_t most = std::max(std::size_t{1} << thrown.below(14), least + 1);
  portions out;
  while (!text.empty()) {
    const std::size_t n = std::min(text.size(), 1 + thrown.below(most));
    out.push_back(text.substr(0, n));
    text.remove_prefix(n);
  }
  return out;
}

}  // namespace pocketfleet::fuzz
