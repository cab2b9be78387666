// What `pocketfleet plan` prints; private to this layer.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "plan_commands.hpp"
#include "plan_phones.hpp"
#include "plan_probe.hpp"
#include "pocketfleet/core/shard_planner.hpp"

namespace pocketfleet {

/// Everything there is to tell.
struct plan_report {
  model_shape model{};
  std::vector<plan_phone> phones{};
  std::vector<plan_device> devices{};
  std::vector<std::optional<probed>> looked{};  ///< of each phone, with --probe
  command_settings settings{};
  fleet_plan result{};
};

/// For people. `explain`: why it came out so, too.
std::string plan_text(const plan_report& report, bool explain, bool colour);

/// For machines: docs/groups.md has the form.
std::string plan_json(const plan_report& report);

/// Why a phone is not in the plan, in words; empty: it is.
std::string why_left_out(const plan_report& report, std::size_t device);

/// One word for it, as in JSON.
std::string_view word_for(left_out why);

/// What is missing where no plan works; empty where one does.
std::string why_infeasible(const plan_report& report);

}  // namespace pocketfleet
