#include "pocketfleet/core/prefix.hpp"

#include <algorithm>

namespace pocketfleet {
namespace {

constexpr double least_alike = 0.1;  // llama-server's --slot-prompt-similarity

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

void prefix_memory::keep(const prefix_chain& prompt, std::size_t slots, time_point now) {
  if (prompt.empty()) return;
  slots = std::max<std::size_t>(slots, 1);
  sequence* best = nullptr;
  std::size_t longest = 0;
  for (sequence& s : kept_) {
    const std::size_t alike = common(s.marks, prompt);
    if (alike > longest) {
      longest = alike;
      best = &s;
    }
  }
  if (best == nullptr || bytes_of(prompt, longest) < least_alike * prompt.back().bytes) {
    if (kept_.size() < slots) {
      best = &kept_.emplace_back();
    } else {
      best = &*std::min_element(kept_.begin(), kept_.end(),
                                [](const sequence& a, const sequence& b) { return a.used < b.used; });
    }
  }
  best->marks = prompt;
  best->used = now;
}

}  // namespace pocketfleet
