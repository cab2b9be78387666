// Which prompts a phone still has in its cache: who asks with the same beginning is answered sooner there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "pocketfleet/core/time.hpp"

namespace pocketfleet {

/// A place in a prompt: everything up to there, hashed, the model included.
struct prefix_mark {
  std::uint64_t hash = 0;
  std::uint32_t bytes = 0;  ///< from the prompt's beginning

  bool operator==(const prefix_mark&) const = default;
};

/// The marks of a prompt from its beginning on; equal marks, equal text up to there. At most 64.
using prefix_chain = std::vector<prefix_mark>;

/// What an engine keeps of the prompts that it has read: one for each of its slots, the longest unused one
/// replaced. As llama-server and Ollama choose: a prompt goes where the longest beginning of it is, unless
/// that is less than a tenth of it. Of one phone; owned by the dispatcher.
class prefix_memory {
 public:
  /// Bytes of the prompt that the phone need not read again.
  std::uint32_t known(const prefix_chain& prompt) const;

  /// Bytes of other prompts that it would then have to give up, the less the longer they have not been used.
  double loses(const prefix_chain& prompt, std::size_t slots, time_point now) const;

  /// The phone reads that prompt. `slots`: how many it can keep.
  void keep(const prefix_chain& prompt, std::size_t slots, time_point now);

  void forget() { kept_.clear(); }  ///< it was started anew, or its model has been unloaded
  std::size_t size() const { return kept_.size(); }

 private:
  struct sequence {
    prefix_chain marks;
    time_point used{};
  };
  struct place {
    std::size_t at;      // in kept_; behind its end: a new one
    std::size_t common;  // marks
  };
  static std::size_t common(const prefix_chain& a, const prefix_chain& b);
  place place_of(const prefix_chain& prompt, std::size_t slots) const;

  std::vector<sequence> kept_;
};

}  // namespace pocketfleet
