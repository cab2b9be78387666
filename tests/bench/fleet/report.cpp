#include "report.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <ostream>

#include "bounds.hpp"

namespace pocketfleet::fleet {
namespace {

struct column {
  std::string_view title;
  std::string_view figure;
  int digits = 1;
  bool range = false;
};

constexpr std::array batch_columns{
    column{"makespan s", "makespan", 0, true},
    column{"x bound", "makespan_by_bound", 3, true},
    column{"x clairvoyant", "by_clairvoyant", 3},
    column{"mean latency s", "mean", 0},
    column{"wasted", "wasted", 0},
    column{"failed", "failed", 0},
};
constexpr std::array open_columns{
    column{"p50 s", "p50", 1, true},
    column{"p95 s", "p95", 1, true},
    column{"mean s", "mean", 1},
    column{"first p50", "first_p50", 1},
    column{"first p95", "first_p95", 1},
    column{"avoided", "avoided_share", 3},
    column{"/ best phone", "avoided_of_best", 3},
    column{"/ ever read", "avoided_of_ever", 3},
    column{"wasted", "wasted", 0},
    column{"failed", "failed", 0},
};
constexpr std::array mixed_columns{
    column{"interactive p50 s", "p50", 1, true},
    column{"p95 s", "p95", 1, true},
    column{"first p95", "first_p95", 1},
    column{"batch s", "makespan", 0, true},
    column{"wasted", "wasted", 0},
    column{"failed", "failed", 0},
};
constexpr std::array hour_columns{
    column{"tokens written", "written", 0, true},
    column{"tokens read", "read", 0},
    column{"p50 s", "p50", 1},
    column{"p95 s", "p95", 1},
    column{"wasted", "wasted", 0},
};

std::vector<column> columns_of(std::string_view workload) {
  const auto all = [](const auto& c) { return std::vector<column>(c.begin(), c.end()); };
  if (workload.starts_with("batch")) return all(batch_columns);
  if (workload == "mixed") return all(mixed_columns);
  if (workload == "hour") return all(hour_columns);
  return all(open_columns);
}

/// What policies are compared by; for the hour more is better.
std::string_view main_figure(std::string_view workload) {
  if (workload.starts_with("batch")) return "makespan";
  return workload == "hour" ? "written" : "p95";
}

std::string number(double value, int digits) {
  std::array<char, 40> text{};
  const int n = std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return {text.data(), static_cast<std::size_t>(n)};
}

std::vector<double> all_of(const std::vector<figures>& runs, std::string_view name) {
  std::vector<double> values;
  for (const figures& f : runs) {
    if (const auto found = f.find(std::string(name)); found != f.end()) values.push_back(found->second);
  }
  return values;
}

/// To another policy, seed by seed.
std::optional<double> ratio_to(const scene& s, std::size_t policy, std::string_view other) {
  const auto there = std::find(s.policies.begin(), s.policies.end(), other);
  if (there == s.policies.end()) return std::nullopt;
  const auto figure = main_figure(s.workload);
  const auto ours = all_of(s.runs[policy], figure);
  const auto theirs = all_of(s.runs[static_cast<std::size_t>(there - s.policies.begin())], figure);
  std::vector<double> ratios;
  for (std::size_t i = 0; i < std::min(ours.size(), theirs.size()); ++i)
    ratios.push_back(ours[i] / theirs[i]);
  if (ratios.empty()) return std::nullopt;
  return quantile(ratios, 0.5);
}

}  // namespace

double quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  const auto n = static_cast<std::size_t>(std::lround(share * static_cast<double>(values.size() - 1)));
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(n), values.end());
  return values[n];
}

figures measure(const std::vector<phone_spec>& phones, const workload& work, const run_result& run) {
  figures f;
  std::vector<double> latency, first;
  std::vector<request> batch;
  double makespan = 0, batch_began = 0, failed = 0, cached = 0, at_best = 0, ever = 0, prompts = 0, sum = 0;
  for (std::size_t i = 0; i < run.fates.size(); ++i) {
    const fate& e = run.fates[i];
    if (work.requests[i].batch) {
      batch.push_back(work.requests[i]);
      batch_began = e.arrived;
      makespan = std::max(makespan, e.ended);
    }
    if (e.how == fate::end::failed || e.how == fate::end::refused) ++failed;
    if (e.how != fate::end::answered || e.arrived < work.counted_from) continue;
    cached += e.cached;
    at_best += e.at_best;
    ever += e.ever;
    prompts += tokens_of(work.requests[i].prompt);
    sum += e.ended - e.arrived;
    if (work.requests[i].batch && !work.name.starts_with("batch")) continue;
    latency.push_back(e.ended - e.arrived);
    first.push_back(e.first_token - e.arrived);
  }
  f["answered"] = static_cast<double>(latency.size());
  f["mean"] = latency.empty() ? 0 : sum / static_cast<double>(latency.size());
  f["p50"] = quantile(latency, 0.5);
  f["p95"] = quantile(latency, 0.95);
  f["first_p50"] = quantile(first, 0.5);
  f["first_p95"] = quantile(first, 0.95);
  f["failed"] = failed;
  f["wasted"] = run.tokens_wasted;
  f["written"] = run.tokens_written;
  f["read"] = run.tokens_read;
  if (prompts > 0) f["avoided_share"] = cached / prompts;
  if (at_best > 0) f["avoided_of_best"] = cached / at_best;
  if (ever > 0) f["avoided_of_ever"] = cached / ever;
  if (batch.empty()) return f;
  f["makespan"] = makespan - batch_began;
  if (!work.name.starts_with("batch")) return f;  // a bound is known only for a batch that is alone
  f["bound"] = lower_bound(phones, batch);
  f["makespan_by_bound"] = makespan / f["bound"];
  f["by_clairvoyant"] = makespan / clairvoyant(phones, batch);
  f["clairvoyant_by_bound"] = clairvoyant(phones, batch) / f["bound"];
  return f;
}

void print(std::ostream& out, const scene& s) {
  const std::vector<column> columns = columns_of(s.workload);
  out << "### " << s.workload << " on " << s.fleet << "\n\n| |";
  for (const column& c : columns) out << ' ' << c.title << " |";
  out << " x late-wrr | x static-wrr | x least-conn |\n|---|";
  for (std::size_t i = 0; i < columns.size() + 3; ++i) out << "--:|";
  out << '\n';
  for (std::size_t p = 0; p < s.policies.size(); ++p) {
    out << "| " << s.policies[p] << " |";
    for (const column& c : columns) {
      const std::vector<double> values = all_of(s.runs[p], c.figure);
      out << ' ';
      if (!values.empty()) out << number(quantile(values, 0.5), c.digits);
      if (c.range && values.size() > 1)
        out << " (" << number(quantile(values, 0), c.digits) << "-" << number(quantile(values, 1), c.digits)
            << ")";
      out << " |";
    }
    for (const auto* other : {"late-wrr", "static-wrr", "least-connections"}) {
      const auto ratio = ratio_to(s, p, other);
      out << ' ' << (ratio ? number(*ratio, 2) : "") << " |";
    }
    out << '\n';
  }
  if (s.workload.starts_with("batch") && !s.runs.empty()) {
    out << "\nWho knows every length beforehand needs "
        << number(quantile(all_of(s.runs[0], "clairvoyant_by_bound"), 0.5), 3) << " x the bound.\n";
  }
  out << std::endl;
}

nlohmann::json as_json(const scene& s) {
  nlohmann::json j{{"fleet", s.fleet}, {"workload", s.workload}};
  for (std::size_t p = 0; p < s.policies.size(); ++p) j["policies"][s.policies[p]] = s.runs[p];
  return j;
}

}  // namespace pocketfleet::fleet
