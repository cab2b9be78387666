// The circuit breaker of one phone.
#pragma once

#include <cstdint>
#include <random>
#include <string_view>

#include "pocketfleet/core/time.hpp"

namespace pocketfleet {

/// What an attempt says about the phone that ran it.
enum class verdict : std::uint8_t {
  success,
  failure,      ///< it answered wrongly, or broke off
  unreachable,  ///< it could not be connected to
  neutral,      ///< says nothing: the client left, or the request itself was wrong
};

struct breaker_settings {
  unsigned failures = 5;            ///< in a row (Envoy's consecutive_5xx)
  unsigned connect_failures = 3;    ///< in a row
  seconds open_time{30};            ///< times the number of openings in a row (Envoy base_ejection_time)
  seconds max_open_time{300};       ///< (Envoy max_ejection_time)
  double jitter = 0.2;              ///< share of the open time, to both sides
  unsigned successes_to_close = 2;  ///< HAProxy's rise
  seconds slow_start{30};           ///< after closing: one permit, weight from a tenth to all of it
};

enum class breaker_state : std::uint8_t { closed, open, half_open };
std::string_view to_string(breaker_state state);

/// closed --failures--> open --time--> half-open --successes--> closed, or --failure--> open, for longer.
/// In half-open one request at a time is let through. Owned by the dispatcher, under its lock.
class breaker {
 public:
  explicit breaker(const breaker_settings& settings) : settings_(&settings) {}

  /// The state at `now`; open turns into half-open when its time is over.
  breaker_state state(time_point now);

  /// True if a request may start now. In half-open: only if no other is under way.
  bool allows(time_point now);

  /// A request has started. Call only after allows(). True: it is the trial of a half-open breaker.
  bool begin(time_point now);

  /// A request that began has ended; `trial` is what begin() said of it. In half-open only the trial counts,
  /// not what began before the breaker opened. `random` draws the jitter of an opening.
  void end(verdict v, time_point now, std::minstd_rand& random, bool trial = true);

  /// The prober could reach the phone again. What was opened by failed connects is given its trial now.
  void reachable(time_point now);

  /// By hand. Open until it is closed by hand: neither time nor the prober ends that.
  void hold_open() { held_open_ = true; }
  /// By hand: closed at once, with its whole share, and as if it had never opened.
  void close();
  bool held_open() const { return held_open_; }

  /// From 0.1 to 1: how far the slow start after closing has come.
  double ramp(time_point now) const;

  time_point open_until() const { return open_until_; }

  /// Until then nothing of this changes by time alone. `now` itself: it changes with every moment.
  time_point same_until(time_point now) const;
  unsigned openings() const { return openings_; }

 private:
  void open(bool unreachable, time_point now, std::minstd_rand& random);

  const breaker_settings* settings_;
  breaker_state state_ = breaker_state::closed;
  bool held_open_ = false;
  bool opened_by_connect_ = false;
  bool trial_running_ = false;
  unsigned failures_ = 0;          // in a row
  unsigned connect_failures_ = 0;  // in a row
  unsigned successes_ = 0;         // in half-open
  unsigned openings_ = 0;          // in a row, without having been closed for long
  time_point open_until_{};
  time_point closed_at_ = time_point::min();  // end of the last opening; min: never opened
};

}  // namespace pocketfleet
