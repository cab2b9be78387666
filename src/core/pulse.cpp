#include "pocketfleet/core/pulse.hpp"

#include <algorithm>

namespace pocketfleet {
namespace {

constexpr int averaged = 3;

std::int64_t second_of(time_point when) {
  return std::chrono::floor<seconds>(when.time_since_epoch()).count();
}

template <class Counts>
auto& slot(Counts& counts, std::int64_t second) {
  return counts[static_cast<std::size_t>(second) % counts.size()];
}

}  // namespace

void pulse::add(time_point now, std::uint32_t n) {
  const std::int64_t second = second_of(now);
  const auto size = static_cast<std::int64_t>(counts_.size());
  for (std::int64_t s = std::max(newest_ + 1, second - size + 1); s <= second; ++s) slot(counts_, s) = 0;
  newest_ = std::max(newest_, second);
  slot(counts_, newest_) += n;
}

std::uint32_t pulse::at(std::int64_t second) const {
  const auto size = static_cast<std::int64_t>(counts_.size());
  return second > newest_ || second <= newest_ - size ? 0 : slot(counts_, second);
}

double pulse::rate(time_point now) const {
  const std::int64_t running = second_of(now);
  double sum = 0;
  for (int back = 1; back <= averaged; ++back) sum += at(running - back);
  return sum / averaged;
}

std::vector<std::uint32_t> pulse::history(time_point now) const {
  const std::int64_t running = second_of(now);
  std::vector<std::uint32_t> out;
  out.reserve(kept);
  for (auto back = static_cast<std::int64_t>(kept); back >= 1; --back) out.push_back(at(running - back));
  return out;
}

}  // namespace pocketfleet
