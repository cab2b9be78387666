// What a model costs on a phone, or split over several by llama.cpp's RPC: memory, time for a token, traffic.
// The formulas and where their numbers come from: docs/groups.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "pocketfleet/core/model_shape.hpp"

namespace pocketfleet {

/// Between a device and the middle of the network, where all of them meet: a Wi-Fi's access point.
struct device_link {
  double rtt_s = 0;
  double up_bytes_s = std::numeric_limits<double>::infinity();    ///< out of the device
  double down_bytes_s = std::numeric_limits<double>::infinity();  ///< into it
};

/// A phone, or a computer beside the phones.
struct plan_device {
  std::string name{};
  std::uint64_t ram_bytes = 0;
  std::optional<std::uint64_t> free_bytes{};
  double bytes_s = 0;  ///< of weights that it reads while it makes tokens; 0: not known, so it gets no layers
  device_link link{};
  bool accepts = true;     ///< others can connect to it
  bool may_master = true;  ///< it has, or can have, the model's file
  bool may_work = true;
};

struct plan_options {
  std::uint64_t context = 4096;
  std::uint64_t batch = 512;       ///< tokens of a prompt that are computed at once (llama-server's -ub)
  double share = 0.7;              ///< of a device's memory that may be used
  bool tunnel = false;             ///< by SSH: who cannot be connected to can still be a worker
  std::uint64_t least_layers = 2;  ///< of a worker; with fewer it costs more than it brings
};

/// Who has how many layers. The master has the first ones, then the workers in order. Without workers: all of
/// it on one device.
struct shard_layout {
  struct worker {
    std::size_t device = 0;
    std::uint64_t layers = 0;
    bool operator==(const worker&) const = default;
  };
  std::size_t master = 0;
  std::uint64_t master_layers = 0;
  bool output_on_master = false;  ///< by an override; without workers it is there anyway
  std::vector<worker> workers{};
  bool operator==(const shard_layout&) const = default;
};

struct shard_member {
  std::size_t device = 0;
  std::uint64_t first_layer = 0;
  std::uint64_t layers = 0;
  bool output = false;  ///< it has the output layer
  // memory, in bytes
  std::uint64_t weights = 0;
  std::uint64_t kv = 0;       ///< of the whole context
  std::uint64_t compute = 0;  ///< llama.cpp's compute buffer
  std::uint64_t process = 0;  ///< the program itself
  std::uint64_t budget = 0;   ///< what it may use
  // for one token, with the context full
  double compute_s = 0;
  double round_trip_s = 0;
  double transfer_s = 0;
  std::uint64_t up_bytes = 0;    ///< from the master to it
  std::uint64_t down_bytes = 0;  ///< back
  double load_s = 0;             ///< to send it its weights

  std::uint64_t memory() const { return weights + kv + compute + process; }
  double token_s() const { return compute_s + round_trip_s + transfer_s; }
};

struct shard_plan {
  shard_layout layout{};
  std::vector<shard_member> members{};  ///< the master first
  double token_s = 0;
  double load_s = 0;  ///< all weights over the network; from one's own storage: 0

  bool fits() const;
  /// llama-server's: one number for each worker, units (layers, and the output layer) counted.
  std::vector<std::uint64_t> tensor_split() const;
  std::uint64_t ngl() const;  ///< their sum
  std::uint64_t bytes_per_token() const;
};

/// What a device may use: the share of its memory, and never more than is free.
std::uint64_t budget_of(const plan_device& device, const plan_options& options);

/// True if `worker` can be one of `master`'s.
bool can_serve(const plan_device& worker, const plan_device& master, const plan_options& options);

/// What a device's part does in the split, as far as its memory depends on it.
struct shard_role {
  bool master = false;
  bool layers = true;      ///< it computes some
  bool first = false;      ///< the first worker, when the master has no layers
  bool pipelined = false;  ///< llama.cpp keeps four copies of inputs: two or more workers have everything
};
std::uint64_t compute_buffer(const model_shape& model, const plan_options& options, const shard_role& role);
std::uint64_t process_bytes(bool master);

/// For one token: what a worker is sent and sends back.
struct shard_traffic {
  std::uint64_t up = 0;
  std::uint64_t down = 0;
};
shard_traffic traffic_of(const model_shape& model, const plan_options& options, std::uint64_t layers,
                         bool first, bool master_has_layers, bool logits);

/// Seconds for a byte between two devices; each crosses the network's middle, and both share its air.
double send_s(const plan_device& from, const plan_device& to);

/// Everything about one layout, whether it fits or not. The layout is a sound one: all layers, each device
/// once.
shard_plan evaluate(const model_shape& model, const std::vector<plan_device>& devices,
                    const plan_options& options, const shard_layout& layout);

/// What llama.cpp makes of --tensor-split and -ngl: for each unit (the layers, then the output layer) the
/// index of the RPC server, or -1 for the master.
std::vector<int> replay_split(std::uint64_t layers, const std::vector<std::uint64_t>& tensor_split,
                              std::uint64_t ngl);

}  // namespace pocketfleet
