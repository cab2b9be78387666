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

/// What is thought of a prompt on a phone, to be held against what the engine says afterwards. Bytes.
struct prefix_belief {
  std::uint32_t known = 0;    ///< need not be read again
  std::uint32_t in_slot = 0;  ///< in the slot that it gets
  std::uint32_t aside = 0;    ///< of a prompt that lost its slot, should the engine have kept it beside; or 0
  std::uint64_t depth = 0;    ///< ... with it, and with those that have lost theirs since
};

/// What an engine keeps of the prompts that it has read: one for each of its slots, the longest unused one
/// replaced. As llama-server and Ollama choose: of those that are idle, a prompt goes where the longest
/// beginning of it is, unless that is less than a tenth of it. Whether the engine keeps those that lose their
/// slots (llama-server's --cache-ram), and how many bytes of them, is learned. Of one phone; owned by the
/// dispatcher.
class prefix_memory {
 public:
  struct outlook {
    prefix_belief is{};
    double loses = 0;  ///< bytes of others' that would go, the less the longer they have not been used
  };
  /// Should the phone read that prompt now. `slots`: how many it has.
  outlook look(const prefix_chain& prompt, std::size_t slots, time_point now) const;

  /// The phone reads that prompt. `run`: for release(); 0: that is at once.
  prefix_belief keep(const prefix_chain& prompt, std::size_t slots, time_point now, std::uint64_t run = 0);

  /// That run is over. `holds`: what is in its slot now; empty: the prompt, as far as is known.
  void release(std::uint64_t run, const prefix_chain& holds, time_point now);

  /// The engine had that many bytes of it.
  void learn(const prefix_belief& thought, double had);

  std::uint32_t known(const prefix_chain& prompt, std::size_t slots = 1) const {
    return look(prompt, slots, {}).is.known;
  }

  void forget();  ///< it was started anew, or its model has been unloaded
  std::size_t size() const { return kept_.size(); }
  std::size_t watched() const { return aside_.size(); }  ///< of those that lost their slots

 private:
  struct sequence {
    prefix_chain marks;
    time_point used{};
    std::uint64_t run = 0;  // that is in the slot now
    std::uint32_t bytes() const { return marks.back().bytes; }
  };
  struct place {
    std::size_t at;      // in kept_; behind its end: a new one
    std::size_t common;  // marks
    bool fetches;        // what the slot has gives way, and a better one may be fetched from aside
  };
  struct found_aside {
    std::size_t at;      // in aside_; behind its end: none
    std::size_t common;  // marks
    std::uint64_t depth;
  };
  static std::size_t common(const prefix_chain& a, const prefix_chain& b);
  place place_of(const prefix_chain& prompt, std::size_t slots) const;
  found_aside best_aside(const prefix_chain& prompt, const place& there) const;
  prefix_belief belief_of(const prefix_chain& prompt, const place& there, const found_aside& other) const;
  void put_aside(sequence s);

  std::vector<sequence> kept_;   // in slots
  std::vector<sequence> aside_;  // have lost theirs; the last one is the latest
  std::uint64_t room_ = 0;       // bytes of these that the engine is thought to keep
  unsigned seen_ = 0;            // how often it had one of them
  double trust_ = 1;             // share of what was thought to be in slots that was there
};

}  // namespace pocketfleet
