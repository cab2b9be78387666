// What a phone says of itself, and what follows: whether it should rest.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "pocketfleet/core/pace.hpp"
#include "pocketfleet/core/time.hpp"

namespace pocketfleet {

/// One heartbeat's readings. What a phone cannot tell is absent, never 0.
struct telemetry {
  std::optional<double> temperature_c{};  ///< the battery's
  std::optional<double> battery_level{};  ///< percent
  std::optional<bool> charging{};
  std::optional<double> current_ua{};  ///< its sign differs by vendor
  std::optional<std::uint64_t> memory_total_kb{};
  std::optional<std::uint64_t> memory_available_kb{};
  std::optional<double> wifi_rssi_dbm{};
  std::optional<double> wifi_link_mbps{};
};

/// When a phone rests, and when it is rested. Temperatures are the battery's: it follows the chips by one or
/// two minutes.
struct rest_settings {
  double pause_c = 42;
  double resume_c = 38;
  double slow_share = 0.5;  ///< of its own best speed; slower three times in a row means too hot
  seconds slow_rest{120};   ///< how long it then rests, unless it is seen to be cool before
  double battery_low = 15;  ///< percent, while not charging
  double battery_enough = 25;
  seconds forget{300};  ///< older readings count as unknown
};

enum class rest_kind : std::uint8_t {
  none,
  spare,  ///< gets work only if no other phone can take it
  hard,   ///< gets none
};

/// Of one phone; owned by the dispatcher. With hysteresis: what brought it to rest has to be well over.
class rest {
 public:
  explicit rest(const rest_settings& settings) : settings_(&settings) {}

  void hear(const telemetry& now_reads, time_point now);

  /// An answer that the phone made while nothing else ran on it.
  void learn(const measured& m, time_point now);

  rest_kind kind(time_point now) const;
  time_point kind_until(time_point now) const;  ///< until then it changes only by what is heard or learned

  /// What it should get of the work that it could do: 1 while it is cool or says nothing, less the nearer it
  /// comes to the temperature at which it pauses.
  double share(time_point now) const;

  std::string reason(time_point now) const;  ///< for people; empty if it does not rest

 private:
  bool fresh(time_point heard, time_point now) const { return now - heard <= settings_->forget; }
  bool hot(time_point now) const { return hot_ && fresh(temperature_heard_, now); }
  bool low(time_point now) const { return low_ && fresh(level_heard_, now); }
  bool tired(time_point now) const { return now < slow_until_; }

  const rest_settings* settings_;
  bool hot_ = false;
  double temperature_ = 0;  // the last known
  time_point temperature_heard_{};
  bool low_ = false;
  double level_ = 0;
  time_point level_heard_{};
  nanoseconds best_token_{0};  // time for one when the phone was at its fastest
  unsigned slow_ = 0;          // answers in a row
  time_point slow_until_{};
};

}  // namespace pocketfleet
