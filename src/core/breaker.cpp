#include "pocketfleet/core/breaker.hpp"

#include <algorithm>

namespace pocketfleet {

std::string_view to_string(breaker_state state) {
  switch (state) {
    case breaker_state::closed: return "closed";
    case breaker_state::open: return "open";
    case breaker_state::half_open: break;
  }
  return "half-open";
}

breaker_state breaker::state(time_point now) {
  if (held_open_) return breaker_state::open;
  if (state_ == breaker_state::open && now >= open_until_) {
    state_ = breaker_state::half_open;
    successes_ = 0;
    trial_running_ = false;
  }
  return state_;
}

bool breaker::allows(time_point now) {
  switch (state(now)) {
    case breaker_state::closed: return true;
    case breaker_state::open: return false;
    case breaker_state::half_open: break;
  }
  return !trial_running_;
}

bool breaker::begin(time_point now) {
  if (state(now) != breaker_state::half_open) return false;
  trial_running_ = true;
  return true;
}

void breaker::end(verdict v, time_point now, std::minstd_rand& random, bool trial) {
  switch (state(now)) {
    case breaker_state::open: return;  // began before it opened: the verdict is already given
    case breaker_state::half_open:
      if (!trial) return;
      trial_running_ = false;
      if (v == verdict::success && ++successes_ >= settings_->successes_to_close) {
        state_ = breaker_state::closed;
        closed_at_ = now;
        failures_ = connect_failures_ = 0;
      } else if (v == verdict::failure || v == verdict::unreachable) {
        open(v == verdict::unreachable, now, random);
      }
      return;
    case breaker_state::closed: break;
  }
  if (v == verdict::success) {
    failures_ = connect_failures_ = 0;
    // It has proved itself: the next opening is a first one again.
    if (openings_ > 0 && now - closed_at_ > settings_->max_open_time) openings_ = 0;
  } else if (v == verdict::failure || v == verdict::unreachable) {
    ++failures_;
    connect_failures_ = v == verdict::unreachable ? connect_failures_ + 1 : 0;
    if (failures_ >= settings_->failures || connect_failures_ >= settings_->connect_failures) {
      open(v == verdict::unreachable, now, random);
    }
  }
}

void breaker::reachable(time_point now) {
  if (state(now) == breaker_state::open && opened_by_connect_) open_until_ = now;
}

void breaker::close() {
  held_open_ = trial_running_ = false;
  state_ = breaker_state::closed;
  failures_ = connect_failures_ = openings_ = 0;
  closed_at_ = time_point::min();
}

double breaker::ramp(time_point now) const {
  if (closed_at_ == time_point::min() || now - closed_at_ >= settings_->slow_start) return 1.0;
  const double share = std::chrono::duration<double>(now - closed_at_) / settings_->slow_start;
  return std::max(0.1, share);
}

time_point breaker::same_until(time_point now) const {
  if (ramp(now) < 1.0) return now;
  return state_ == breaker_state::open && !held_open_ ? open_until_ : time_point::max();
}

void breaker::open(bool unreachable, time_point now, std::minstd_rand& random) {
  state_ = breaker_state::open;
  opened_by_connect_ = unreachable;
  failures_ = connect_failures_ = 0;
  ++openings_;
  const std::chrono::duration<double> base =
      std::min(settings_->open_time * openings_, settings_->max_open_time);
  std::uniform_real_distribution<double> spread(1.0 - settings_->jitter, 1.0 + settings_->jitter);
  open_until_ = now + std::chrono::duration_cast<duration>(base * spread(random));
}

}  // namespace pocketfleet
