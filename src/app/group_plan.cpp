#include "group_plan.hpp"

#include <algorithm>

#include "plan_model.hpp"
#include "plan_phones.hpp"
#include "pocketfleet/core/shard_planner.hpp"

namespace pocketfleet {
namespace {

const group_member_config* worker_named(const group_config& group, const std::string& name) {
  const auto found = std::find_if(group.workers.begin(), group.workers.end(),
                                  [&](const group_member_config& w) { return w.name == name; });
  return found == group.workers.end() ? nullptr : &*found;
}

}  // namespace

result<group_config> planned_without(const group_config& group, std::size_t worker) {
  const auto refuse = [](std::string why) { return error(errc::bad_request, std::move(why)); };
  if (group.replan.phones.empty()) return refuse("the file has no \"replan\"");
  const auto model = load_model_shape(group.replan.model.empty() ? group.model : group.replan.model);
  if (!model) return refuse(model.error().message);
  const auto known = load_plan_phones(group.replan.phones);
  if (!known.mistakes.empty()) return refuse(to_string(known.mistakes.front(), group.replan.phones));

  std::vector<plan_device> devices;
  bool with_master = false;
  for (const auto& p : known.phones) {
    const auto* w = worker_named(group, p.name);
    const bool leads = p.name == group.master.name;
    if (!leads && (w == nullptr || w == &group.workers[worker])) continue;
    plan_device d = as_device(p, *model);
    d.accepts = true;  // it is reached as the file says
    d.may_master = leads;
    d.may_work = !leads;
    with_master = with_master || leads;
    devices.push_back(std::move(d));
  }
  if (!with_master) {
    std::string why = group.replan.phones;  // joined with + g++ 12 takes it for a short one
    why.append(" has no phone that is called ").append(group.master.name);
    return refuse(std::move(why));
  }
  plan_options options;
  options.context = group.replan.context;
  options.batch = group.replan.batch;
  options.share = group.replan.share;
  const auto best = best_split(*model, devices, options).best;
  if (!best) return refuse("the others have no room for its layers");

  group_config out = group;
  out.workers.clear();
  out.tensor_split.clear();
  for (std::size_t i = 1; i < best->members.size(); ++i)
    out.workers.push_back(*worker_named(group, devices[best->members[i].device].name));
  for (const auto n : best->tensor_split()) out.tensor_split.push_back(static_cast<unsigned>(n));
  out.ngl = static_cast<unsigned>(best->ngl());
  out.output_on_master = best->layout.output_on_master;
  return out;
}

}  // namespace pocketfleet
