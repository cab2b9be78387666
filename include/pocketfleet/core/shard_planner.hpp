// Finds the best way to run a model on a fleet: on one phone if one can hold it, otherwise the split with the
// least time for a token.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "pocketfleet/core/shard_model.hpp"

namespace pocketfleet {

/// The best of all splits with at least one worker, over all masters, subsets and orders of workers, layers
/// of each, and the two places of the output layer. Exact while a master has at most `most_workers` devices
/// to choose from; of more, the fastest are looked at.
struct split_search {
  static constexpr std::size_t most_workers = 12;

  std::optional<shard_plan> best{};
  std::optional<shard_plan> best_other_output{};  ///< with the output layer in the other place
  std::vector<double> with{};  ///< for each device: the least time for a token with it in the group; infinity
};
split_search best_split(const model_shape& model, const std::vector<plan_device>& devices,
                        const plan_options& options);

/// The model on one device alone.
struct single_fit {
  std::size_t device = 0;
  bool possible = true;  ///< its role and speed are such that it can
  shard_plan plan{};
  std::string finest{};  ///< the finest quantization that fits there; empty: none
};

/// Why a device is not in the plan.
enum class left_out : std::uint8_t {
  used,        ///< it is
  not_needed,  ///< one phone does it alone
  speed_unknown,
  unreachable,  ///< it accepts no connections, and is not the best master
  only_master,  ///< by its role, and another one is the better master
  too_small,    ///< fewer than two layers fit
  slower,       ///< with it a token takes longer: `fleet_plan::with`
  no_room,      ///< no split with it fits
};

/// A quantization, and where the model would fit in it.
struct quantization_offer {
  std::string name{};
  std::uint64_t bytes = 0;             ///< of the file, about
  std::optional<std::size_t> alone{};  ///< the fastest device that holds it
  std::optional<shard_plan> split{};   ///< if none does
};

struct fleet_plan {
  plan_options options{};  ///< with the batch that was chosen
  std::vector<single_fit> singles{};
  std::optional<shard_plan> best{};  ///< nothing: it cannot be run
  split_search search{};
  std::vector<left_out> why{};        ///< of each device
  std::uint64_t needed_bytes = 0;     ///< at least, in all: weights and context
  std::uint64_t available_bytes = 0;  ///< budgets of all devices that can take part
  std::vector<quantization_offer> offers{};
  std::uint64_t longest_context = 0;  ///< a multiple of 256 with which the plan still holds; 0: none
};

/// `batches`: tried in this order; the first with which it works.
fleet_plan plan_fleet(const model_shape& model, const std::vector<plan_device>& devices,
                      const plan_options& options, const std::vector<std::uint64_t>& batches);

}  // namespace pocketfleet
