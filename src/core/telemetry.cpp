#include "pocketfleet/core/telemetry.hpp"

#include <algorithm>
#include <cmath>

namespace pocketfleet {
namespace {

constexpr std::uint64_t tokens_that_tell = 16;  // shorter answers say little about speed
constexpr unsigned slow_answers = 3;
constexpr double share_when_hot = 0.5;

std::string tenths(double value) {
  const auto t = std::llround(value * 10);
  std::string text = std::to_string(std::llabs(t) / 10);
  if (t % 10 != 0) text += "." + std::to_string(std::llabs(t) % 10);
  return (t < 0 ? "-" : "") + text;
}

}  // namespace

void rest::hear(const telemetry& now_reads, time_point now) {
  if (const auto& t = now_reads.temperature_c) {
    temperature_ = *t;
    temperature_heard_ = now;
    hot_ = *t >= settings_->pause_c || (hot_ && *t > settings_->resume_c);
    if (*t <= settings_->resume_c) slow_until_ = {};  // whatever made it slow, it is not heat any more
  }
  if (now_reads.charging == true) {
    low_ = false;
  } else if (const auto& level = now_reads.battery_level) {
    level_ = *level;
    level_heard_ = now;
    low_ = *level <= settings_->battery_low || (low_ && *level < settings_->battery_enough);
  }
}

void rest::learn(const measured& m, time_point now) {
  if (m.answer_tokens < tokens_that_tell || m.answer_time <= nanoseconds{0}) return;
  const nanoseconds token = m.answer_time / static_cast<std::int64_t>(m.answer_tokens);
  if (best_token_ == nanoseconds{0} || token < best_token_) best_token_ = token;
  const double share = static_cast<double>(best_token_.count()) / static_cast<double>(token.count());
  slow_ = share < settings_->slow_share ? slow_ + 1 : 0;
  if (slow_ < slow_answers) return;
  slow_ = 0;
  slow_until_ = now + settings_->slow_rest;
  best_token_ += best_token_ / 10;  // a phone that stays slow for good is believed in the end
}

double rest::share(time_point now) const {
  if (temperature_heard_ == time_point{} || !fresh(temperature_heard_, now)) return 1;
  const double warm =
      (temperature_ - settings_->resume_c) / std::max(0.1, settings_->pause_c - settings_->resume_c);
  return 1 - (1 - share_when_hot) * std::clamp(warm, 0.0, 1.0);
}

rest_kind rest::kind(time_point now) const {
  if (hot(now)) return rest_kind::hard;
  return tired(now) || low(now) ? rest_kind::spare : rest_kind::none;
}

time_point rest::kind_until(time_point now) const {
  time_point until = time_point::max();
  if (hot(now)) until = std::min(until, temperature_heard_ + settings_->forget);
  if (low(now)) until = std::min(until, level_heard_ + settings_->forget);
  if (tired(now)) until = std::min(until, slow_until_);
  return until;
}

std::string rest::reason(time_point now) const {
  if (hot(now))
    return "too hot: " + tenths(temperature_) + " C; rests until " + tenths(settings_->resume_c) + " C";
  if (tired(now)) return "much slower than it has been: spared, as if it were hot";
  if (low(now)) return "battery at " + tenths(level_) + " % and not charging: spared";
  return {};
}

}  // namespace pocketfleet
