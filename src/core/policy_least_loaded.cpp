#include "pocketfleet/core/policy_round.hpp"

namespace pocketfleet {
namespace {

class least_loaded final : public policy {
 public:
  std::string_view name() const override { return "least_loaded"; }

  std::size_t pick(std::span<const candidate> candidates, urgency) override {
    // in_flight / weight, compared crosswise to stay in whole numbers
    const auto busier = [](const candidate& a, const candidate& b) {
      return std::uint64_t{a.in_flight} * b.weight > std::uint64_t{b.in_flight} * a.weight;
    };
    const candidate* least = &candidates[0];
    for (const candidate& c : candidates) {
      if (busier(*least, c)) least = &c;
    }
    equals_.clear();
    where_.clear();
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      if (busier(candidates[i], *least)) continue;
      equals_.push_back(candidates[i]);
      where_.push_back(i);
    }
    return where_[weighted_round(equals_)];
  }

 private:
  std::vector<candidate> equals_;
  std::vector<std::size_t> where_;
};

}  // namespace

std::unique_ptr<policy> make_least_loaded() {
  return std::make_unique<least_loaded>();
}

}  // namespace pocketfleet
