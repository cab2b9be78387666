// What a request will take on a phone: how fast the phone is with a model, as learned, and what follows.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/core/pace.hpp"
#include "pocketfleet/core/time.hpp"

namespace pocketfleet {

/// Of one phone with one model. Not known: 0.
struct model_speed {
  std::string model{};  ///< normalized
  double prefill = 0;   ///< tokens a second, of those that were not in the phone's cache
  double decode = 0;    ///< tokens a second
  double load = 0;      ///< seconds to read the model into memory
  double slowdown = 1;  ///< decode as a share of this phone's own best of late: 1 is cool, 0.5 half as fast
  std::uint64_t answers = 0;  ///< it has been learned from
};

/// Learns from answers. The present speed follows within a few answers and goes back to the phone's own past
/// while it is not used, for it cools down then. Owned by the dispatcher.
class learned_speed {
 public:
  /// `beside`: how many other requests ran on the phone at the same time, on the average.
  void learn(const measured& m, double beside, time_point now);

  bool knows_decode() const { return best_decode_ > 0; }
  bool knows_prefill() const { return prefill_ > 0; }
  double decode(time_point now) const;         ///< seconds for one token, alone on the phone; 0: not known
  double prefill() const { return prefill_; }  ///< likewise
  double load() const { return load_; }        ///< seconds; 0: not known
  double slowdown(time_point now) const;       ///< best / present, at most 1
  std::uint64_t answers() const { return answers_; }

 private:
  double prefill_ = 0;
  double decode_ = 0;       // seconds for one token: of late
  double best_decode_ = 0;  // and of this phone when it was at its fastest, slowly forgotten
  double load_ = 0;
  std::uint64_t answers_ = 0;
  time_point learned_{};
};

/// What was learned of a model wherever it runs.
struct model_habits {
  double answer_tokens = 0;    ///< of an answer, on the average; 0: not known
  double bytes_per_token = 0;  ///< of a prompt
  void learn(const measured& m, std::uint64_t prompt_bytes, std::uint32_t answer_limit);
};

}  // namespace pocketfleet
