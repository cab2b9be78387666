#include "pocketfleet/core/prefix.hpp"

#include <algorithm>
#include <cmath>

namespace pocketfleet {
namespace {

constexpr double least_alike = 0.1;  // llama-server's --slot-prompt-similarity
constexpr double used_again_s = 60;  // who has not gone on with a conversation by then mostly does not

// llama-server puts aside what it would lose more than half of, and fetches what it can use a quarter of.
constexpr double worth_keeping = 0.5;
constexpr double worth_fetching = 0.25;
constexpr std::size_t most_aside = 32;  // 256 MiB, as phones are set up, hold 8 prompts of a thousand tokens
constexpr std::size_t watched_aside = 8;    // until one has been seen to come back
constexpr unsigned often_enough = 2;        // once may be a slot that was taken for another
constexpr double more_than_seen = 1.5;      // how much of them there is room for is found by trying
constexpr std::uint32_t tells_apart = 256;  // bytes; a smaller difference shows nothing
constexpr double as_thought = 0.75;         // templates, and what stands in no message, blur it
constexpr double newest = 0.25;

std::uint32_t bytes_of(const prefix_chain& prompt, std::size_t marks) {
  return marks == 0 ? 0 : prompt[marks - 1].bytes;
}

double as_likely_wanted(time_point used, time_point now) {
  return std::exp(-std::chrono::duration<double>(now - used).count() / used_again_s);
}

}  // namespace

std::size_t prefix_memory::common(const prefix_chain& a, const prefix_chain& b) {
  const auto most = static_cast<std::ptrdiff_t>(std::min(a.size(), b.size()));
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.begin() + most, b.begin()).first - a.begin());
}

prefix_memory::place prefix_memory::place_of(const prefix_chain& prompt, std::size_t slots) const {
  const bool room = kept_.size() < std::max<std::size_t>(slots, 1);
  // None idle: the one that comes free first is not known, and the best of all is hoped for.
  const bool any =
      !room && std::none_of(kept_.begin(), kept_.end(), [](const sequence& s) { return s.run == 0; });
  place best{kept_.size(), 0, true};
  std::size_t oldest = kept_.size();
  for (std::size_t i = 0; i < kept_.size(); ++i) {
    if (kept_[i].run != 0 && !any) continue;
    if (oldest == kept_.size() || kept_[i].used < kept_[oldest].used) oldest = i;
    const std::size_t alike = common(kept_[i].marks, prompt);
    if (alike > best.common) best = {i, alike, true};
  }
  if (best.common > 0 && bytes_of(prompt, best.common) >= least_alike * prompt.back().bytes) {
    best.fetches = bytes_of(prompt, best.common) < worth_keeping * kept_[best.at].bytes();
    return best;
  }
  if (room) return {kept_.size(), 0, true};
  return {oldest, common(kept_[oldest].marks, prompt), true};
}

prefix_memory::found_aside prefix_memory::best_aside(const prefix_chain& prompt, const place& there) const {
  found_aside best{aside_.size(), there.common, 0};
  if (!there.fetches) return best;
  std::uint64_t depth = there.at < kept_.size() ? kept_[there.at].bytes() : 0;
  for (std::size_t i = aside_.size(); i-- > 0;) {
    depth += aside_[i].bytes();
    const std::size_t alike = common(aside_[i].marks, prompt);
    if (alike > best.common && bytes_of(prompt, alike) >= worth_fetching * aside_[i].bytes())
      best = {i, alike, depth};
  }
  return best;
}

prefix_belief prefix_memory::belief_of(const prefix_chain& prompt, const place& there,
                                       const found_aside& other) const {
  prefix_belief is;
  is.in_slot = bytes_of(prompt, there.common);
  is.known = static_cast<std::uint32_t>(trust_ * is.in_slot);
  if (other.at == aside_.size()) return is;
  is.aside = bytes_of(prompt, other.common);
  is.depth = other.depth;
  if (is.depth <= room_) is.known = std::max(is.known, static_cast<std::uint32_t>(trust_ * is.aside));
  return is;
}

prefix_memory::outlook prefix_memory::look(const prefix_chain& prompt, std::size_t slots,
                                           time_point now) const {
  outlook out;
  if (prompt.empty() || kept_.empty()) return out;
  const place there = place_of(prompt, slots);
  out.is = belief_of(prompt, there, best_aside(prompt, there));
  if (there.at == kept_.size()) return out;
  const sequence& s = kept_[there.at];
  if (!there.fetches || s.bytes() > room_) {
    out.loses = (s.bytes() - bytes_of(s.marks, there.common)) * as_likely_wanted(s.used, now);
    return out;
  }
  // It is kept aside, and the longest unused ones make room.
  std::uint64_t depth = 0;
  for (std::size_t i = aside_.size(); i-- > 0 && depth <= room_;) {
    depth += aside_[i].bytes();
    if (depth <= room_ && depth + s.bytes() > room_)
      out.loses += aside_[i].bytes() * as_likely_wanted(aside_[i].used, now);
  }
  return out;
}

prefix_belief prefix_memory::keep(const prefix_chain& prompt, std::size_t slots, time_point now,
                                  std::uint64_t run) {
  if (prompt.empty()) return {};
  const place there = place_of(prompt, slots);
  const found_aside other = best_aside(prompt, there);
  const prefix_belief is = belief_of(prompt, there, other);
  if (other.at < aside_.size()) aside_.erase(aside_.begin() + static_cast<std::ptrdiff_t>(other.at));
  if (there.at == kept_.size()) {
    kept_.emplace_back();
  } else if (there.fetches) {
    put_aside(std::move(kept_[there.at]));
  }
  kept_[there.at] = {prompt, now, run};
  return is;
}

void prefix_memory::put_aside(sequence s) {
  std::erase_if(aside_, [&](const sequence& a) { return common(a.marks, s.marks) == a.marks.size(); });
  s.run = 0;
  aside_.push_back(std::move(s));
  const std::size_t most = seen_ > 0 ? most_aside : watched_aside;
  if (aside_.size() > most) aside_.erase(aside_.begin());
}

void prefix_memory::release(std::uint64_t run, const prefix_chain& holds, time_point now) {
  const auto found =
      std::find_if(kept_.begin(), kept_.end(), [&](const sequence& s) { return s.run == run; });
  if (run == 0 || found == kept_.end()) return;
  found->run = 0;
  found->used = now;
  if (!holds.empty()) found->marks = holds;
}

void prefix_memory::learn(const prefix_belief& thought, double had) {
  if (thought.in_slot >= tells_apart) {
    const double share = had / (as_thought * thought.in_slot);
    trust_ += newest * (std::min(1.0, share) - trust_);
  }
  if (thought.aside < thought.in_slot + tells_apart) return;
  if (2 * had > thought.in_slot + thought.aside) {
    if (++seen_ < often_enough) return;
    room_ = std::max(room_, static_cast<std::uint64_t>(more_than_seen * static_cast<double>(thought.depth)));
  } else if (thought.depth <= room_) {
    room_ = thought.depth - thought.aside;  // it was the first to go
  }
}

void prefix_memory::forget() {
  kept_.clear();
  aside_.clear();
}

}  // namespace pocketfleet
