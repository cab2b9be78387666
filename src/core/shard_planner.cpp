#include "pocketfleet/core/shard_planner.hpp"

#include <algorithm>
#include <limits>

namespace pocketfleet {
namespace {

constexpr std::uint64_t context_step = 256;

struct fleet {
  const model_shape& model;
  const std::vector<plan_device>& devices;
  plan_options options;
};

shard_plan alone(const fleet& f, const model_shape& model, std::size_t device) {
  return evaluate(model, f.devices, f.options, {device, model.layers.size(), false, {}});
}

bool possible_alone(const plan_device& d) {
  return d.may_master && d.bytes_s > 0;
}

std::optional<std::size_t> fastest_alone(const fleet& f, const model_shape& model) {
  std::optional<std::size_t> out;
  double least = 0;
  for (std::size_t i = 0; i < f.devices.size(); ++i) {
    if (!possible_alone(f.devices[i])) continue;
    const auto plan = alone(f, model, i);
    if (!plan.fits() || (out && plan.token_s >= least)) continue;
    out = i;
    least = plan.token_s;
  }
  return out;
}

std::vector<single_fit> singles_of(const fleet& f) {
  std::vector<single_fit> out;
  for (std::size_t i = 0; i < f.devices.size(); ++i) {
    single_fit fit;
    fit.device = i;
    fit.possible = possible_alone(f.devices[i]);
    fit.plan = alone(f, f.model, i);
    for (const auto& q : quantizations()) {
      if (fit.finest.empty() && alone(f, requantized(f.model, q), i).fits()) fit.finest = q.name;
    }
    out.push_back(std::move(fit));
  }
  return out;
}

/// The quantizations that are coarser than the model is.
std::vector<quantization_offer> offers_of(const fleet& f) {
  std::vector<quantization_offer> out;
  for (const auto& q : quantizations()) {
    const auto model = requantized(f.model, q);
    if (model.file_bytes() >= f.model.file_bytes() || q.name == f.model.quantization) continue;
    quantization_offer offer;
    offer.name = q.name;
    offer.bytes = model.file_bytes();
    offer.alone = fastest_alone(f, model);
    if (!offer.alone) offer.split = best_split(model, f.devices, f.options).best;
    if (offer.alone || offer.split) out.push_back(std::move(offer));
    if (!out.empty() && out.back().alone) break;  // coarser ones fit all the more
  }
  return out;
}

bool in_plan(const shard_plan& plan, std::size_t device) {
  return std::any_of(plan.members.begin(), plan.members.end(),
                     [&](const shard_member& m) { return m.device == device; });
}

/// True if its memory has room for the least that a worker may have, wherever it stands.
bool has_room(const fleet& f, const plan_device& d) {
  std::uint64_t layers = 0;
  for (std::size_t i = 0; i < std::min<std::size_t>(f.options.least_layers, f.model.layers.size()); ++i) {
    layers += f.model.layers[i].weights.bytes + f.model.layers[i].kv_bytes * f.options.context;
  }
  const auto least = compute_buffer(f.model, f.options, {}) + process_bytes(false) + layers;
  return budget_of(d, f.options) >= least;
}

left_out reason(const fleet& f, const fleet_plan& plan, std::size_t device) {
  const auto& d = f.devices[device];
  if (plan.best && in_plan(*plan.best, device)) return left_out::used;
  if (plan.best && plan.best->layout.workers.empty()) return left_out::not_needed;
  if (!(d.bytes_s > 0)) return d.may_work ? left_out::speed_unknown : left_out::only_master;
  if (!d.may_work) return left_out::only_master;
  if (!d.accepts && !f.options.tunnel) return left_out::unreachable;
  if (!has_room(f, d)) return left_out::too_small;
  const bool ever =
      !plan.search.with.empty() && plan.search.with[device] < std::numeric_limits<double>::infinity();
  return ever ? left_out::slower : left_out::no_room;
}

void add_sums(const fleet& f, fleet_plan& into) {
  into.needed_bytes = f.model.file_bytes() + f.model.kv_bytes_per_token() * f.options.context;
  for (const auto& d : f.devices) {
    const bool takes_part = d.bytes_s > 0 && (d.may_work || d.may_master);
    if (takes_part) into.available_bytes += budget_of(d, f.options);
  }
}

bool holds(const fleet& f, const shard_layout& layout, std::uint64_t context) {
  plan_options longer = f.options;
  longer.context = context;
  return evaluate(f.model, f.devices, longer, layout).fits();
}

/// By halves: what holds for a context holds for a shorter one.
std::uint64_t longest_context(const fleet& f, const shard_layout& layout) {
  std::uint64_t good = 0;
  std::uint64_t bad = std::max<std::uint64_t>(f.model.context, f.options.context) / context_step + 1;
  while (good + 1 < bad) {
    const auto middle = (good + bad) / 2;
    (holds(f, layout, middle * context_step) ? good : bad) = middle;
  }
  return good * context_step;
}

}  // namespace

fleet_plan plan_fleet(const model_shape& model, const std::vector<plan_device>& devices,
                      const plan_options& options, const std::vector<std::uint64_t>& batches) {
  fleet f{model, devices, options};
  fleet_plan out;
  // One phone with small batches is better than a split with large ones: these matter for prompts only.
  for (const bool split : {false, true}) {
    for (const auto batch : batches) {
      f.options.batch = batch;
      const auto device = split ? std::nullopt : fastest_alone(f, model);
      if (!split && !device) continue;
      out.search =
          best_split(model, devices, f.options);  // beside one phone alone too: to tell what it costs
      out.best = device ? alone(f, model, *device) : out.search.best;
      if (out.best) break;
    }
    if (out.best) break;
  }
  out.options = f.options;
  out.singles = singles_of(f);
  for (std::size_t i = 0; i < devices.size(); ++i) out.why.push_back(reason(f, out, i));
  add_sums(f, out);
  if (!out.best || !out.best->layout.workers.empty()) out.offers = offers_of(f);
  if (out.best) out.longest_context = longest_context(f, out.best->layout);
  return out;
}

}  // namespace pocketfleet
