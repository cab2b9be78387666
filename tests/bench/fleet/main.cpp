// The fleet in virtual time: the real dispatcher and its rivals, the same phones and the same requests.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>

#include "report.hpp"

namespace pocketfleet::fleet {
namespace {

struct plan {
  std::string_view workload;
  std::vector<std::string_view> fleets;
};

/// What is worth a table. A hot fleet cannot keep up with 80 % of what it could do cool.
const std::vector<plan>& plans() {
  static const std::vector<plan> all{
      {"batch-64", {"even-12", "mixed-6", "mixed-12", "mixed-40", "hot-12"}},
      {"batch-64-cold", {"mixed-12", "hot-12"}},
      {"batch-512", {"even-12", "mixed-6", "mixed-12", "mixed-40", "hot-12"}},
      {"poisson-50", {"even-12", "mixed-6", "mixed-12", "mixed-40", "hot-12", "flaky-12"}},
      {"poisson-80", {"even-12", "mixed-6", "mixed-12", "mixed-40", "flaky-12"}},
      {"poisson-95", {"even-12", "mixed-12", "mixed-40"}},
      {"conversations-25", {"even-12", "mixed-6", "mixed-12", "flaky-12"}},
      {"conversations-60", {"even-12", "mixed-12"}},
      {"mixed", {"mixed-12", "hot-12"}},
      {"hour", {"mixed-12", "hot-12"}},
  };
  return all;
}

struct options {
  std::vector<std::string> workloads, fleets, policies;
  unsigned seeds = 20;
  unsigned first = 1;
  std::string json;
  bool trace = false;
};

void print_trace(const std::vector<phone_spec>& phones, const workload& w, const run_result& r) {
  std::cout << "request  arrived  first  ended  prompt cached best answer tries phone\n" << std::fixed;
  for (std::size_t i = 0; i < r.fates.size(); ++i) {
    const fate& f = r.fates[i];
    if (f.ends == 0) continue;
    std::cout << std::setw(7) << i << std::setprecision(2) << std::setw(9) << f.arrived << std::setw(9)
              << f.first_token << std::setw(9) << f.ended << std::setw(6) << tokens_of(w.requests[i].prompt)
              << std::setw(6) << f.cached << std::setw(6) << f.at_best << std::setw(6) << w.requests[i].answer
              << std::setw(4) << f.tries << "  " << phones[f.phone].name
              << (f.how == fate::end::answered ? "" : "  !") << '\n';
  }
}

figures one_run(const options& o, std::string_view workload_name, std::string_view fleet,
                const std::string& policy, unsigned seed) {
  const std::vector<phone_spec> phones = make_fleet(fleet, seed);
  const workload work = make_workload(workload_name, phones, seed);
  world w(phones, work, seed);
  const auto by = make_balancer(policy, phones, w, seed);
  const run_result r = w.run(*by);
  for (const fate& f : r.fates) {
    if (f.ends > 1 || (f.ends == 0 && work.horizon == 0))
      throw std::logic_error("a request has not ended once");
  }
  if (o.trace) print_trace(phones, work, r);
  return measure(phones, work, r);
}

bool among(const std::vector<std::string>& wanted, std::string_view name) {
  return wanted.empty() || std::find(wanted.begin(), wanted.end(), name) != wanted.end();
}

int run(const options& o) {
  nlohmann::json all = nlohmann::json::array();
  for (const plan& p : plans()) {
    if (!among(o.workloads, p.workload)) continue;
    for (const auto fleet : p.fleets) {
      if (!among(o.fleets, fleet)) continue;
      scene s{std::string(fleet), std::string(p.workload), o.policies, {}};
      const auto began = std::chrono::steady_clock::now();
      for (const std::string& policy : o.policies) {
        auto& runs = s.runs.emplace_back();
        for (unsigned seed = o.first; seed < o.first + o.seeds; ++seed)
          runs.push_back(one_run(o, p.workload, fleet, policy, seed));
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
        std::cerr << p.workload << " on " << fleet << ": " << policy << ", " << std::fixed
                  << std::setprecision(2) << took.count() << " s\n";
      }
      print(std::cout, s);
      all.push_back(as_json(s));
    }
  }
  if (!o.json.empty()) std::ofstream(o.json) << all.dump(1) << '\n';
  return all.empty() ? 1 : 0;
}

}  // namespace
}  // namespace pocketfleet::fleet

int main(int argc, char** argv) {
  namespace fleet = pocketfleet::fleet;
  fleet::options o;
  CLI::App app("The fleet in virtual time: the dispatcher and its rivals over the same simulated phones");
  app.add_option("--workload", o.workloads, "only these (all)");
  app.add_option("--fleet", o.fleets, "only these (all that the workload is planned for)")
      ->check(CLI::IsMember(fleet::fleet_names()));
  app.add_option("--policy", o.policies, "only these (all but ideal-*)")
      ->check(CLI::IsMember(fleet::balancer_names()));
  app.add_option("--seeds", o.seeds, "how many runs of each")->capture_default_str();
  app.add_option("--first-seed", o.first, "where they begin")->capture_default_str();
  app.add_option("--json", o.json, "write every run's figures there");
  app.add_flag("--trace", o.trace, "print what became of each request");
  CLI11_PARSE(app, argc, argv);
  if (o.policies.empty()) {
    o.policies = fleet::balancer_names();
    std::erase_if(o.policies, [](const std::string& name) { return name.starts_with("ideal-"); });
  }
  return fleet::run(o);
}
