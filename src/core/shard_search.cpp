// Which split is the best. For one master and one place of the output layer, the state of the search is who
// is in the chain so far and how many layers are spoken for; a worker's time and memory then depend on
// nothing else but whether it is the first or the last, so the least time for each state is exact. All that a
// worker adds grows evenly with what it takes of sums over the layers: where it began best is the least of a
// sliding window.
#include <algorithm>
#include <deque>
#include <limits>

#include "pocketfleet/core/shard_planner.hpp"

namespace pocketfleet {
namespace {

constexpr double never = std::numeric_limits<double>::infinity();

/// Sums over the first layers: of all of them up to i at [i].
struct layer_sums {
  std::vector<double> read{0};
  std::vector<std::uint64_t> held{0};  ///< weights and cache
};

layer_sums sums_of(const model_shape& model, const plan_options& options) {
  const std::uint64_t context = (options.context + 255) / 256 * 256;
  layer_sums out;
  for (const auto& l : model.layers) {
    out.read.push_back(out.read.back() + static_cast<double>(l.read_bytes));
    out.held.push_back(out.held.back() + l.weights.bytes + l.kv_bytes * context);
  }
  return out;
}

/// What one device costs in one place of the chain.
struct place_cost {
  double fixed_s = 0;
  double layer_s = 0;      ///< for each layer, of traffic
  double byte_s = 0;       ///< for each byte that it reads
  std::uint64_t room = 0;  ///< for layers and their cache
  bool usable = false;
};

class chain_search {
 public:
  struct mode {
    std::size_t master = 0;
    bool master_layers = false;
    bool output_on_master = false;
  };

  chain_search(const model_shape& model, const std::vector<plan_device>& devices, const plan_options& options,
               const layer_sums& sums)
      : model_(model), devices_(devices), options_(options), sums_(sums), layers_(model.layers.size()) {}

  /// The least time with each device, and the layout with the least of all. At least two workers.
  void run(const mode& m, const std::vector<std::size_t>& workers);

  double best() const { return best_; }
  const shard_layout& layout() const { return layout_; }
  const std::vector<double>& with() const { return with_; }

 private:
  struct came_from {
    std::uint8_t worker = 0;
    std::uint16_t layers = 0;
  };

  place_cost cost_of(std::size_t device, bool first, bool last) const;
  place_cost cost_of_master() const;
  double& least(std::size_t set, std::size_t layers) { return least_[set * (layers_ + 1) + layers]; }
  came_from& origin(std::size_t set, std::size_t layers) { return origin_[set * (layers_ + 1) + layers]; }
  double taken(const place_cost& c, std::size_t from, std::size_t to) const {
    return c.fixed_s + c.byte_s * (sums_.read[to] - sums_.read[from]) +
           c.layer_s * static_cast<double>(to - from);
  }
  void begin();
  void extend(std::size_t set, std::size_t worker);
  void finish(std::size_t set, std::size_t worker);
  void remember(std::size_t set, std::size_t worker, std::size_t from);

  const model_shape& model_;
  const std::vector<plan_device>& devices_;
  const plan_options& options_;
  const layer_sums& sums_;
  std::size_t layers_;
  mode mode_{};
  std::vector<std::size_t> workers_{};
  std::vector<double> least_{};
  std::vector<came_from> origin_{};
  double best_ = never;
  shard_layout layout_{};
  std::vector<double> with_{};
};

place_cost chain_search::cost_of(std::size_t device, bool first, bool last) const {
  const auto& d = devices_[device];
  const auto& master = devices_[mode_.master];
  const bool pipelined = !mode_.master_layers && !mode_.output_on_master;
  const bool output = last && !mode_.output_on_master;
  place_cost out;
  const auto traffic = traffic_of(model_, options_, 0, first, mode_.master_layers, output);
  const double up = send_s(master, d);
  out.fixed_s = master.link.rtt_s + d.link.rtt_s + static_cast<double>(traffic.up) * up +
                static_cast<double>(traffic.down) * send_s(d, master);
  const auto one_layer = traffic_of(model_, options_, 1, first, mode_.master_layers, output);
  out.layer_s = static_cast<double>(one_layer.up - traffic.up) * up;
  out.byte_s = 1 / d.bytes_s;
  if (output) out.fixed_s += static_cast<double>(model_.output.bytes) * out.byte_s;
  const shard_role role{false, true, first && !mode_.master_layers, pipelined};
  const std::uint64_t fixed =
      compute_buffer(model_, options_, role) + process_bytes(false) + (output ? model_.output.bytes : 0);
  const std::uint64_t budget = budget_of(d, options_);
  out.usable = budget > fixed;
  out.room = out.usable ? budget - fixed : 0;
  return out;
}

place_cost chain_search::cost_of_master() const {
  const auto& d = devices_[mode_.master];
  const bool pipelined = !mode_.master_layers && !mode_.output_on_master;
  place_cost out;
  const bool computes = mode_.master_layers || mode_.output_on_master;
  out.byte_s = d.bytes_s > 0 ? 1 / d.bytes_s : 0;
  std::uint64_t fixed = compute_buffer(model_, options_, {true, mode_.master_layers, false, pipelined}) +
                        process_bytes(true) + model_.embedding.bytes;
  if (mode_.output_on_master) {
    fixed += model_.output.bytes;
    out.fixed_s = static_cast<double>(model_.output.bytes) * out.byte_s;
  }
  const std::uint64_t budget = budget_of(d, options_);
  out.usable = budget >= fixed && (!computes || d.bytes_s > 0);
  out.room = out.usable ? budget - fixed : 0;
  return out;
}

/// The states in which only the master has layers.
void chain_search::begin() {
  const place_cost c = cost_of_master();
  if (!c.usable) return;
  if (!mode_.master_layers) {
    least(0, 0) = c.fixed_s;
    return;
  }
  for (std::size_t n = 1; n <= layers_ && sums_.held[n] <= c.room; ++n) least(0, n) = taken(c, 0, n);
}

/// From all states of a set to those in which one worker more has the next layers.
void chain_search::extend(std::size_t set, std::size_t worker) {
  const place_cost c = cost_of(workers_[worker], set == 0, false);
  if (!c.usable) return;
  const std::size_t into = set | (std::size_t{1} << worker);
  const auto relative = [&](std::size_t from) {
    return least(set, from) - c.byte_s * sums_.read[from] - c.layer_s * static_cast<double>(from);
  };
  std::deque<std::size_t> window;  // where it may begin; the best one in front
  for (std::size_t to = options_.least_layers; to <= layers_; ++to) {
    const std::size_t next = to - options_.least_layers;
    if (least(set, next) < never) {
      while (!window.empty() && relative(window.back()) >= relative(next)) window.pop_back();
      window.push_back(next);
    }
    while (!window.empty() && sums_.held[to] - sums_.held[window.front()] > c.room) window.pop_front();
    if (window.empty()) continue;
    const double time = least(set, window.front()) + taken(c, window.front(), to);
    if (time >= least(into, to)) continue;
    least(into, to) = time;
    origin(into, to) = {static_cast<std::uint8_t>(worker), static_cast<std::uint16_t>(to - window.front())};
  }
}

/// From all states of a set to the end, with one worker more as the last.
void chain_search::finish(std::size_t set, std::size_t worker) {
  const place_cost c = cost_of(workers_[worker], false, true);
  if (!c.usable || layers_ < options_.least_layers) return;
  double time = never;
  std::size_t from = 0;
  for (std::size_t k = layers_ - options_.least_layers + 1; k-- > 0;) {
    if (sums_.held[layers_] - sums_.held[k] > c.room) break;
    if (least(set, k) + taken(c, k, layers_) < time) {
      time = least(set, k) + taken(c, k, layers_);
      from = k;
    }
  }
  if (time == never) return;
  for (std::size_t w = 0; w < workers_.size(); ++w) {
    if (w == worker || (set >> w & 1U) != 0) with_[workers_[w]] = std::min(with_[workers_[w]], time);
  }
  with_[mode_.master] = std::min(with_[mode_.master], time);
  if (time >= best_) return;
  best_ = time;
  remember(set, worker, from);
}

void chain_search::remember(std::size_t set, std::size_t worker, std::size_t from) {
  layout_ = {mode_.master, 0, mode_.output_on_master, {{workers_[worker], layers_ - from}}};
  while (set != 0) {
    const came_from& o = origin(set, from);
    layout_.workers.push_back({workers_[o.worker], o.layers});
    set &= ~(std::size_t{1} << o.worker);
    from -= o.layers;
  }
  layout_.master_layers = from;
  std::reverse(layout_.workers.begin(), layout_.workers.end());
}

void chain_search::run(const mode& m, const std::vector<std::size_t>& workers) {
  mode_ = m;
  workers_ = workers;
  best_ = never;
  with_.assign(devices_.size(), never);
  const std::size_t sets = std::size_t{1} << workers_.size();
  least_.assign(sets * (layers_ + 1), never);
  origin_.assign(sets * (layers_ + 1), {});
  begin();
  for (std::size_t set = 0; set < sets; ++set) {
    for (std::size_t w = 0; w < workers_.size(); ++w) {
      if ((set >> w & 1U) != 0) continue;
      if (set != 0) finish(set, w);
      extend(set, w);
    }
  }
}

void take(split_search& into, const shard_plan& found) {
  auto& best = into.best;
  if (best && best->token_s <= found.token_s) {
    if (best->layout.output_on_master == found.layout.output_on_master) return;
    auto& other = into.best_other_output;
    if (!other || found.token_s < other->token_s) other = found;
    return;
  }
  if (best && best->layout.output_on_master != found.layout.output_on_master) into.best_other_output = best;
  best = found;
}

/// All splits with a single worker, one by one.
void try_single_workers(const model_shape& model, const std::vector<plan_device>& devices,
                        const plan_options& options, const chain_search::mode& mode,
                        const std::vector<std::size_t>& workers, split_search& into) {
  const std::uint64_t layers = model.layers.size();
  if (layers < options.least_layers) return;
  const std::uint64_t least = mode.master_layers ? 1 : 0;
  const std::uint64_t most = mode.master_layers ? layers - options.least_layers : 0;
  if ((mode.master_layers || mode.output_on_master) && !(devices[mode.master].bytes_s > 0)) return;
  for (const std::size_t w : workers) {
    for (std::uint64_t own = least; own <= most; ++own) {
      const shard_layout layout{mode.master, own, mode.output_on_master, {{w, layers - own}}};
      const auto found = evaluate(model, devices, options, layout);
      if (!found.fits()) continue;
      into.with[w] = std::min(into.with[w], found.token_s);
      into.with[mode.master] = std::min(into.with[mode.master], found.token_s);
      take(into, found);
    }
  }
}

std::vector<std::size_t> workers_for(std::size_t master, const std::vector<plan_device>& devices,
                                     const plan_options& options) {
  std::vector<std::size_t> out;
  for (std::size_t i = 0; i < devices.size(); ++i) {
    if (can_serve(devices[i], devices[master], options)) out.push_back(i);
  }
  if (out.size() > split_search::most_workers) {
    std::stable_sort(out.begin(), out.end(),
                     [&](std::size_t a, std::size_t b) { return devices[a].bytes_s > devices[b].bytes_s; });
    out.resize(split_search::most_workers);
    std::sort(out.begin(), out.end());
  }
  return out;
}

}  // namespace

split_search best_split(const model_shape& model, const std::vector<plan_device>& devices,
                        const plan_options& options) {
  split_search out;
  out.with.assign(devices.size(), never);
  const layer_sums sums = sums_of(model, options);
  chain_search chain(model, devices, options, sums);
  for (std::size_t master = 0; master < devices.size(); ++master) {
    if (!devices[master].may_master) continue;
    const auto workers = workers_for(master, devices, options);
    for (const unsigned bits : {0U, 1U, 2U, 3U}) {
      const chain_search::mode mode{master, (bits & 1U) != 0, (bits & 2U) != 0};
      if (mode.output_on_master && model.tied) continue;  // there is no tensor to override
      try_single_workers(model, devices, options, mode, workers, out);
      if (workers.size() < 2) continue;
      chain.run(mode, workers);
      for (std::size_t i = 0; i < devices.size(); ++i) out.with[i] = std::min(out.with[i], chain.with()[i]);
      if (chain.best() < never) take(out, evaluate(model, devices, options, chain.layout()));
    }
  }
  return out;
}

}  // namespace pocketfleet
