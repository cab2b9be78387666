#include "pocketfleet/core/policy_round.hpp"

namespace pocketfleet {

// Each candidate earns its weight, the richest is chosen and pays what all have earned. Credit is kept with
// the phone, so a phone that was away neither lost its turn nor saved up turns: it earns only while it is a
// candidate.
std::size_t weighted_round(std::span<const candidate> candidates) {
  std::int64_t earned = 0;
  std::size_t best = 0;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const candidate& c = candidates[i];
    *c.credit += c.weight;
    earned += c.weight;
    if (*c.credit > *candidates[best].credit) best = i;
  }
  *candidates[best].credit -= earned;
  return best;
}

namespace {

class weighted_round_robin final : public policy {
 public:
  std::string_view name() const override { return "weighted_round_robin"; }
  std::size_t pick(std::span<const candidate> candidates, urgency) override {
    return weighted_round(candidates);
  }
};

}  // namespace

std::unique_ptr<policy> make_weighted_round_robin() {
  return std::make_unique<weighted_round_robin>();
}

}  // namespace pocketfleet
