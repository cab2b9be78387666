#include "pocketfleet/core/prefix.hpp"

#include <algorithm>
#include <cmath>

namespace pocketfleet {
namespace {

constexpr double least_alike = 0.1;   // llama-server's --slot-prompt-similarity
constexpr double used_again_s = 120;  // who has not gone on with a conversation by then mostly does not

std::uint32_t bytes_of(const prefix_chain& prompt, std::size_t marks) {
  return marks == 0 ? 0 : prompt[marks - 1].bytes;
}

}  // namespace

std::size_t prefix_memory::common(const prefix_chain& a, const prefix_chain& b) {
  const auto most = static_cast<std::ptrdiff_t>(std::min(a.size(), b.size()));
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.begin() + most, b.begin()).first - a.begin());
}

std::uint32_t prefix_memory::known(const prefix_chain& prompt) const {
  std::size_t longest = 0;
  for (const sequence& s : kept_) longest = std::max(longest, common(s.marks, prompt));
  return bytes_of(prompt, longest);
}

prefix_memory::place prefix_memory::place_of(const prefix_chain& prompt, std::size_t slots) const {
  place best{kept_.size(), 0};
  for (std::size_t i = 0; i < kept_.size(); ++i) {
    const std::size_t alike = common(kept_[i].marks, prompt);
    if (alike > best.common) best = {i, alike};
  }
  if (best.common > 0 && bytes_of(prompt, best.common) >= least_alike * prompt.back().bytes) return best;
  if (kept_.size() < std::max<std::size_t>(slots, 1)) return {kept_.size(), 0};
  const auto oldest = std::min_element(kept_.begin(), kept_.end(),
                                       [](const auto& a, const auto& b) { return a.used < b.used; });
  return {static_cast<std::size_t>(oldest - kept_.begin()), common(oldest->marks, prompt)};
}

double prefix_memory::loses(const prefix_chain& prompt, std::size_t slots, time_point now) const {
  if (prompt.empty()) return 0;
  const place there = place_of(prompt, slots);
  if (there.at == kept_.size()) return 0;
  const sequence& s = kept_[there.at];
  const double age = std::chrono::duration<double>(now - s.used).count();
  return (s.marks.back().bytes - bytes_of(s.marks, there.common)) * std::exp(-age / used_again_s);
}

void prefix_memory::keep(const prefix_chain& prompt, std::size_t slots, time_point now) {
  if (prompt.empty()) return;
  const place there = place_of(prompt, slots);
  if (there.at == kept_.size()) kept_.emplace_back();
  kept_[there.at] = {prompt, now};
}

}  // namespace pocketfleet
