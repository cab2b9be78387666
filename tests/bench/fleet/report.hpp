// From runs to tables.
#pragma once

#include <functional>
#include <iosfwd>
#include <map>
#include <nlohmann/json_fwd.hpp>

#include "world.hpp"

namespace pocketfleet::fleet {

/// Of one run, by name; what a workload does not have is absent. Seconds, tokens, shares.
using figures = std::map<std::string, double>;
figures measure(const std::vector<phone_spec>& phones, const workload& work, const run_result& run);

/// All runs of one workload on one fleet.
struct scene {
  std::string fleet, workload;
  std::vector<std::string> policies;
  std::vector<std::vector<figures>> runs;  // by policy, then by seed
};

/// Markdown: medians over the seeds, with the ranges of what matters most.
void print(std::ostream& out, const scene& s);
nlohmann::json as_json(const scene& s);

double quantile(std::vector<double> values, double share);  ///< 0 of none; between two, the nearer one

}  // namespace pocketfleet::fleet
