#include "pocketfleet/core/policy.hpp"

#include <array>
#include <utility>

namespace pocketfleet {
namespace {

using maker = std::unique_ptr<policy> (*)();
constexpr std::array<std::pair<std::string_view, maker>, 3> makers{{
    {"weighted_round_robin", make_weighted_round_robin},
    {"least_loaded", make_least_loaded},
    {"adaptive", make_adaptive},
}};

}  // namespace

std::unique_ptr<policy> make_policy(std::string_view name) {
  for (const auto& [known, make] : makers) {
    if (known == name) return make();
  }
  return nullptr;
}

std::vector<std::string_view> policy_names() {
  std::vector<std::string_view> names;
  names.reserve(makers.size());
  for (const auto& [known, make] : makers) names.push_back(known);
  return names;
}

}  // namespace pocketfleet
