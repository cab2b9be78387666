// What the prober makes of its looks at one phone: when one is believed, and when to look again.
#pragma once

#include "pocketfleet/core/phone.hpp"
#include "pocketfleet/core/time.hpp"

namespace pocketfleet {

struct look_rules {
  duration interval{};  ///< the longest time between two looks
  double jitter = 0;    ///< share by which it may be shorter, so that not all phones are looked at at once
  unsigned fall = 1;    ///< failed looks in a row until a phone that was up is down
  unsigned rise = 1;    ///< good looks in a row until one that was down is up

  /// How long a phone may refuse connections until it is known to be down: no look takes time then.
  duration worst_case() const { return interval + (fall - 1) * when_in_doubt(); }
  /// Between looks that are to tell a phone that is gone, or back, from a moment's trouble.
  duration when_in_doubt() const { return interval / 16; }
};

/// Of one phone, owned by whoever looks at it. One bad look is not the end of a phone that was up, and one
/// good one does not bring back a phone that was down.
class look_memory {
 public:
  /// A look that is over. False: it is not believed yet, and the next ones come soon.
  bool note(health found, const look_rules& rules);

  /// `chance`: from 0 to 1, anew each time.
  duration until_next(const look_rules& rules, double chance) const;

  health state() const { return state_; }  ///< as believed

 private:
  bool in_doubt() const {
    return (state_ == health::up && bad_ > 0) || (state_ == health::down && good_ > 0);
  }

  health state_ = health::unknown;
  unsigned good_ = 0;  // in a row
  unsigned bad_ = 0;   // in a row
};

}  // namespace pocketfleet
