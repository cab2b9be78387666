#include <algorithm>
#include <cmath>

#include "pocketfleet/core/policy.hpp"

namespace pocketfleet {
namespace {

constexpr double each_halving = 0.1;  // of the weight: so much slower a phone appears

/// Least expected finish; among equals the order of the file.
class adaptive final : public policy {
 public:
  std::string_view name() const override { return "adaptive"; }
  bool foresees() const override { return true; }

  std::size_t pick(std::span<const candidate> candidates) override {
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
      double at = c.free_in + c.takes;
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
