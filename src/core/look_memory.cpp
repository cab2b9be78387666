#include "pocketfleet/core/look_memory.hpp"

namespace pocketfleet {

bool look_memory::note(health found, const look_rules& rules) {
  const bool good = found != health::down;
  good_ = good ? good_ + 1 : 0;
  bad_ = good ? 0 : bad_ + 1;
  if (!good && state_ == health::up && bad_ < rules.fall) return false;
  if (good && state_ == health::down && good_ < rules.rise) return false;
  state_ = found;
  return true;
}

duration look_memory::until_next(const look_rules& rules, double chance) const {
  if (in_doubt()) return rules.when_in_doubt();
  return std::chrono::duration_cast<duration>(rules.interval * (1.0 - rules.jitter * chance));
}

}  // namespace pocketfleet
