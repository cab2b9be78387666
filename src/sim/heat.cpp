#include "heat.hpp"

#include <algorithm>

namespace pocketfleet::sim {

heat::heat(const phone_settings& settings, time_point now)
    : slowest_(settings.slowest),
      heats_in_(settings.heats_in),
      cools_in_(settings.cools_in == milliseconds::zero() ? settings.heats_in : settings.cools_in),
      since_(now) {}

void heat::load(bool busy, time_point now) {
  then_ = temperature(now);
  since_ = now;
  busy_ = busy;
}

double heat::temperature(time_point now) const {
  if (heats_in_ <= duration::zero()) return 0;
  const std::chrono::duration<double> passed = now - since_;
  const std::chrono::duration<double> whole = busy_ ? heats_in_ : cools_in_;
  const double change = passed / whole;
  return std::clamp(busy_ ? then_ + change : then_ - change, 0.0, 1.0);
}

double heat::speed(time_point now) const {
  return 1 - temperature(now) * (1 - slowest_);
}

}  // namespace pocketfleet::sim
