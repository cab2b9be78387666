#include "pocketfleet/core/shard_model.hpp"

#include <algorithm>

namespace pocketfleet {
namespace {

constexpr std::uint64_t mib = 1U << 20U;
constexpr std::uint64_t f32_bytes = 4;
constexpr std::uint64_t context_step = 256;   // llama.cpp rounds the cache up to it
constexpr std::uint64_t pipeline_copies = 4;  // GGML_SCHED_MAX_COPIES

// Of RPC's messages for a token, beside the activations and the mask (measured with 0.7.0).
constexpr std::uint64_t bytes_of_graph = 2400;
constexpr std::uint64_t bytes_of_layer = 400;
constexpr double round_trips_of_load = 50;

std::uint64_t context_of(const plan_options& options) {
  return (options.context + context_step - 1) / context_step * context_step;
}

struct builder {
  const model_shape& model;
  const std::vector<plan_device>& devices;
  const plan_options& options;
  const shard_layout& layout;
  bool pipelined = false;

  shard_member begin(std::size_t device, std::uint64_t first, std::uint64_t layers, bool output) const {
    shard_member m;
    m.device = device;
    m.first_layer = first;
    m.layers = layers;
    m.output = output;
    m.budget = budget_of(devices[device], options);
    std::uint64_t read = output ? model.output.bytes : 0;
    m.weights = output ? model.output.bytes : 0;
    for (std::uint64_t i = first; i < first + layers; ++i) {
      m.weights += model.layers[i].weights.bytes;
      m.kv += model.layers[i].kv_bytes * context_of(options);
      read += model.layers[i].read_bytes;
    }
    if (read > 0) m.compute_s = static_cast<double>(read) / devices[device].bytes_s;
    return m;
  }

  shard_member master() const {
    const bool alone = layout.workers.empty();
    const bool output = alone || layout.output_on_master;
    shard_member m = begin(layout.master, 0, layout.master_layers, output);
    m.weights += model.embedding.bytes;
    // Only where both are in one place is there one copy of them.
    if (model.tied && output) m.weights -= model.output.bytes - model.output.fixed_bytes;
    m.compute = compute_buffer(model, options, {true, layout.master_layers > 0, false, pipelined});
    m.process = process_bytes(true);
    return m;
  }

  shard_member worker(std::size_t i, std::uint64_t first_layer) const {
    const auto& given = layout.workers[i];
    const bool last = i + 1 == layout.workers.size();
    const bool output = last && !layout.output_on_master;
    shard_member m = begin(given.device, first_layer, given.layers, output);
    const bool master_has_layers = layout.master_layers > 0;
    m.compute = compute_buffer(model, options, {false, true, i == 0 && !master_has_layers, pipelined});
    m.process = process_bytes(false);
    const auto traffic = traffic_of(model, options, given.layers, i == 0, master_has_layers, output);
    m.up_bytes = traffic.up;
    m.down_bytes = traffic.down;
    const auto& from = devices[layout.master];
    const auto& to = devices[given.device];
    m.round_trip_s = from.link.rtt_s + to.link.rtt_s;
    m.transfer_s = static_cast<double>(traffic.up) * send_s(from, to) +
                   static_cast<double>(traffic.down) * send_s(to, from);
    m.load_s = static_cast<double>(m.weights) * send_s(from, to) + round_trips_of_load * m.round_trip_s;
    return m;
  }
};

}  // namespace

bool shard_plan::fits() const {
  return std::all_of(members.begin(), members.end(),
                     [](const shard_member& m) { return m.memory() <= m.budget; });
}

std::vector<std::uint64_t> shard_plan::tensor_split() const {
  std::vector<std::uint64_t> out;
  for (std::size_t i = 1; i < members.size(); ++i) out.push_back(members[i].layers);
  // An override moves the tensor, but the output layer still counts as the last worker's.
  if (!out.empty()) ++out.back();
  return out;
}

std::uint64_t shard_plan::ngl() const {
  std::uint64_t sum = 0;
  for (const auto n : tensor_split()) sum += n;
  return sum;
}

std::uint64_t shard_plan::bytes_per_token() const {
  std::uint64_t sum = 0;
  for (const auto& m : members) sum += m.up_bytes + m.down_bytes;
  return sum;
}

std::uint64_t budget_of(const plan_device& device, const plan_options& options) {
  const auto share = static_cast<std::uint64_t>(static_cast<double>(device.ram_bytes) * options.share);
  return std::min(share, device.free_bytes.value_or(share));
}

bool can_serve(const plan_device& worker, const plan_device& master, const plan_options& options) {
  const bool reachable = worker.accepts || (options.tunnel && master.accepts);
  return &worker != &master && worker.may_work && worker.bytes_s > 0 && reachable;
}

std::uint64_t compute_buffer(const model_shape& model, const plan_options& options, const shard_role& role) {
  const std::uint64_t context = context_of(options);
  const std::uint64_t row = std::min(options.batch, context) * f32_bytes;
  const std::uint64_t mask = row * context * (role.pipelined ? pipeline_copies : 1);
  const std::uint64_t activations = row * model.n_embd;
  const std::uint64_t attention = 4 * activations + 2 * row * model.kv_width;
  if (role.master && !role.layers) return mask + attention + (role.pipelined ? 8 * activations : 0);
  const std::uint64_t scores = row * context * model.n_head;
  const std::uint64_t feed_forward = 3 * row * model.n_ff + 2 * activations;
  const std::uint64_t peak = mask + std::max(scores + attention, feed_forward);
  if (role.master) return peak + 2 * activations;
  if (role.pipelined) return peak + (role.first ? 15 : 6) * activations;
  return peak + (role.first ? activations : 0);
}

std::uint64_t process_bytes(bool master) {
  return (master ? 64 : 16) * mib;
}

shard_traffic traffic_of(const model_shape& model, const plan_options& options, std::uint64_t layers,
                         bool first, bool master_has_layers, bool logits) {
  const std::uint64_t activations = model.n_embd * f32_bytes;
  const std::uint64_t inputs = !first ? 1 : master_has_layers ? 2 : 3;
  const std::uint64_t mask = context_of(options) * f32_bytes;
  return {inputs * activations + mask + bytes_of_graph + bytes_of_layer * layers,
          logits ? model.n_vocab * f32_bytes : activations};
}

double send_s(const plan_device& from, const plan_device& to) {
  return 1 / from.link.up_bytes_s + 1 / to.link.down_bytes_s;
}

shard_plan evaluate(const model_shape& model, const std::vector<plan_device>& devices,
                    const plan_options& options, const shard_layout& layout) {
  builder make{model, devices, options, layout};
  make.pipelined = layout.workers.size() > 1 && layout.master_layers == 0 && !layout.output_on_master;
  shard_plan out;
  out.layout = layout;
  out.members.push_back(make.master());
  std::uint64_t first = layout.master_layers;
  for (std::size_t i = 0; i < layout.workers.size(); ++i) {
    out.members.push_back(make.worker(i, first));
    first += layout.workers[i].layers;
  }
  for (const auto& m : out.members) {
    out.token_s += m.token_s();
    out.load_s += m.load_s;
  }
  return out;
}

std::vector<int> replay_split(std::uint64_t layers, const std::vector<std::uint64_t>& tensor_split,
                              std::uint64_t ngl) {
  // In single precision, as llama.cpp computes it.
  std::vector<float> ends;
  float sum = 0;
  for (const auto n : tensor_split) ends.push_back(sum += static_cast<float>(n));
  for (auto& e : ends) e /= sum;
  const std::uint64_t offloaded = tensor_split.empty() ? 0 : std::min(ngl, layers + 1);
  const std::uint64_t begin = layers + 1 - offloaded;
  std::vector<int> out(layers + 1, -1);
  for (std::uint64_t unit = begin; unit <= layers; ++unit) {
    const float at = static_cast<float>(unit - begin) / static_cast<float>(offloaded);
    out[unit] = static_cast<int>(std::upper_bound(ends.begin(), ends.end(), at) - ends.begin());
  }
  return out;
}

}  // namespace pocketfleet
