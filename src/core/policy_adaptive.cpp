#include <algorithm>
#include <cmath>

#include "pocketfleet/core/policy.hpp"

namespace pocketfleet {
namespace {

constexpr double each_halving = 0.1;  // of the weight: so much slower a phone appears

// A second of waiting for a busy phone counts as so many: how long it will be busy is not known well, and who
// waits for it holds up those who come after, while an idle phone is nobody's loss. Found with the simulated
// fleet (docs/scheduling.md): at 1 the median suffers, above 4 the slowest answers do. Of a batch the last
// answer counts, and nobody comes after it.
constexpr double waiting_costs = 3;

/// Least expected finish; among equals the order of the file.
class adaptive final : public policy {
 public:
  std::string_view name() const override { return "adaptive"; }
  bool foresees() const override { return true; }

  std::size_t pick(std::span<const candidate> candidates, urgency how_soon) override {
    const double patience = how_soon == urgency::batch ? 1 : waiting_costs;
    std::uint32_t heaviest = 1;
    bool alike = true;
    for (const candidate& c : candidates) {
      heaviest = std::max(heaviest, c.weight);
      alike = alike && c.weight == candidates[0].weight;
    }
    std::size_t best = 0;
    double soonest = 0;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      const candidate& c = candidates[i];
      double at = c.free_in * patience + c.takes + c.harm;
      if (!alike) at *= 1 + each_halving * std::log2(static_cast<double>(heaviest) / std::max(1U, c.weight));
      if (i > 0 && at >= soonest) continue;
      soonest = at;
      best = i;
    }
    return best;
  }
};

}  // namespace

std::unique_ptr<policy> make_adaptive() {
  return std::make_unique<adaptive>();
}

}  // namespace pocketfleet
