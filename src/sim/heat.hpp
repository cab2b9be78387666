// How hot a simulated phone is, and how much of its speed that leaves.
#pragma once

#include "pocketfleet/core/time.hpp"
#include "pocketfleet/sim/phone.hpp"

namespace pocketfleet::sim {

/// A temperature that moves in straight lines: up from 0 to 1 under load, down again when idle. Owned by the
/// phone's server, on its thread. Answers depend on what it was told and on `now` only.
class heat {
 public:
  heat(const phone_settings& settings, time_point now);
  void load(bool busy, time_point now);      ///< the phone is under load from now on, or idle
  double temperature(time_point now) const;  ///< 0 cold .. 1 hot
  double speed(time_point now) const;        ///< share of the rates: 1 cold .. slowest hot

 private:
  double slowest_;
  duration heats_in_;
  duration cools_in_;
  bool busy_ = false;
  double then_ = 0;  // temperature at since_
  time_point since_;
};

}  // namespace pocketfleet::sim
