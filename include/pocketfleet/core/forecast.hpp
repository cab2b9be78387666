// What a request will take on a phone: how fast the phone is with a model, as learned, and what follows.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/core/pace.hpp"
#include "pocketfleet/core/prefix.hpp"
#include "pocketfleet/core/time.hpp"
#include "pocketfleet/core/want.hpp"

namespace pocketfleet {

/// Of one phone with one model, as others see it. Not known: 0.
struct model_speed {
  std::string model{};        ///< normalized
  double prefill = 0;         ///< tokens a second, of those that were not in the phone's cache
  double decode = 0;          ///< tokens a second
  double load = 0;            ///< seconds to read the model into memory
  double slowdown = 1;        ///< decode as a share of this phone's own best: 1 is cool, 0.5 half as fast
  std::uint64_t answers = 0;  ///< it has been learned from
};

/// Learns from answers. The present speed follows within a few answers, and goes back to the phone's own best
/// while the phone is not used, for it cools down then.
class learned_speed {
 public:
  /// `beside`: how many other requests ran on the phone at the same time, on the average.
  void learn(const measured& m, double beside, time_point now);

  // Seconds; 0: not known
  double decode(time_point now) const;         ///< for one token, alone on the phone
  double prefill() const { return prefill_; }  ///< likewise
  double load() const { return load_; }

  double slowdown(time_point now) const;  ///< the best as a share of the present, at most 1
  std::uint64_t answers() const { return answers_; }
  time_point learned() const { return learned_; }

 private:
  double prefill_ = 0;
  double decode_ = 0;       // of late
  double best_decode_ = 0;  // when the phone was at its fastest; slowly forgotten
  double load_ = 0;
  std::uint64_t answers_ = 0;
  time_point learned_{};
};

/// How late first tokens have been, as a multiple of what was foretold.
class lateness {
 public:
  void learn(double multiple);

  /// Nineteen of twenty came sooner. 0: not known, for there were fewer than twenty.
  double p95() const;

 private:
  std::vector<float> last_;  // at most 64, a ring
  std::size_t next_ = 0;
};

/// Seconds, from having the permit on.
struct estimate {
  double first_token = 0;
  double whole = 0;  ///< until the last token
  double harm =
      0;  ///< that others wait longer whose prompts go from the phone's cache, should they come again
};

/// How a phone stands when a request comes to it.
struct workplace {
  std::uint32_t beside = 0;  ///< requests that run there already
  std::size_t slots = 1;     ///< prompts that it can keep
  bool load = false;         ///< the model has to be read into memory first
};

/// A request on its way, for the forecasts: given with the phone, taken back when it ends.
struct forecast {
  std::uint64_t number = 0;  ///< of the run
  std::string model{};       ///< normalized, as the phone's speed with it is kept
  std::uint64_t prompt_bytes = 0;
  prefix_belief cached{};  ///< what of it is thought to be in the phone's cache
  std::uint32_t answer_limit = 0;
  double beside = 0;  ///< requests that ran there already
  estimate takes{};
};

/// What is remembered of one phone. Owned by the dispatcher, as part of its phone.
class phone_past {
 public:
  prefix_memory prefixes;

  /// Seconds until one of so many permits is free for who comes next; 0: now. Counts on what place() has
  /// given away in the same pass.
  double free_in(std::uint32_t permits, std::uint64_t pass, time_point now);

  /// In this pass, somebody has that permit in mind: from then on it is taken for that long.
  void place(double takes);

  std::vector<model_speed> speeds(time_point now) const;

  /// When a second phone may be asked, if the first shows nothing until then; 0: not known.
  duration late_after(const forecast& what) const;

 private:
  friend class forecaster;
  struct with_model {
    std::string model;
    learned_speed speed;
  };
  struct run {
    std::uint64_t number;
    time_point since;
    duration takes;
  };
  const learned_speed* with(std::string_view model) const;

  std::vector<with_model> speeds_;
  lateness lateness_;
  std::vector<run> runs_;
  std::vector<double> free_at_;  // of the pass: seconds, one for each permit
  std::uint64_t pass_ = 0;
};

/// Makes forecasts for a whole fleet, and learns from what became of them. Owned by the dispatcher.
class forecaster {
 public:
  /// What the request takes on a phone.
  estimate takes(const phone_past& phone, std::string_view model, const want& wanted, const workplace& there,
                 time_point now) const;

  /// The request begins there.
  forecast begin(phone_past& phone, std::string_view model, const want& wanted, const workplace& there,
                 const estimate& takes, time_point now);

  /// It has ended. `beside`: requests that still run there. `holds`: as prefix_memory::release().
  void end(phone_past& phone, const forecast& what, const measured& m, std::uint32_t beside, time_point now,
           const prefix_chain& holds = {});

 private:
  /// Of one model, wherever it runs.
  struct habits {
    double answer_tokens = 0;
    double bytes_per_token = 0;
    learned_speed best{};  // of the fastest phone
  };
  double tokens_to_say(const habits* of, std::uint32_t limit) const;
  void learn_habits(const forecast& what, const measured& m, const learned_speed& speed, time_point now);

  std::map<std::string, habits, std::less<>> models_;
  std::uint64_t runs_ = 0;
};

}  // namespace pocketfleet
