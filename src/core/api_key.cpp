#include "pocketfleet/core/api_key.hpp"

#include <algorithm>

namespace pocketfleet {

bool client_terms::may_use(std::string_view normalized_model) const {
  return models.empty() || std::find(models.begin(), models.end(), normalized_model) != models.end();
}

void token_bucket::fill(time_point now) {
  const double minutes = std::chrono::duration<double, std::ratio<60>>(now - seen_).count();
  if (seen_ != time_point{}) left_ = std::min(per_minute_, left_ + std::max(0.0, minutes) * per_minute_);
  seen_ = now;
}

std::optional<duration> token_bucket::take(time_point now) {
  fill(now);
  if (left_ < 1) {
    const std::chrono::duration<double, std::ratio<60>> wait((1 - left_) / per_minute_);
    return std::chrono::duration_cast<duration>(wait);
  }
  left_ -= 1;
  return std::nullopt;
}

bool token_bucket::full(time_point now) {
  fill(now);
  return left_ >= per_minute_;
}

std::optional<duration> failed_attempts::note(const std::string& address, time_point now) {
  if (seen_.size() >= most_ && !seen_.contains(address)) {
    for (auto at = seen_.begin(); at != seen_.end();)
      at = at->second.full(now) ? seen_.erase(at) : std::next(at);
    if (seen_.size() >= most_)
      seen_.erase(seen_.begin());  // a flood of addresses: none can be held to account
  }
  return seen_.try_emplace(address, per_minute_).first->second.take(now);
}

}  // namespace pocketfleet
