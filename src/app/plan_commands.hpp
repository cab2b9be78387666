// What is typed on each phone to run a plan; private to this layer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "plan_phones.hpp"
#include "pocketfleet/core/shard_planner.hpp"

namespace pocketfleet {

struct plan_command {
  std::size_t device = 0;  ///< on which it is typed
  std::string role{};      ///< "worker", "tunnel" or "master"
  std::string text{};
};

struct command_settings {
  std::string model{};  ///< the file as it was named
  std::uint16_t port = 50052;
  bool tunnel = false;
};

/// In the order in which they are started: workers, tunnels, the master.
std::vector<plan_command> commands_of(const shard_plan& plan, const plan_options& options,
                                      const std::vector<plan_phone>& phones,
                                      const command_settings& settings);

/// Where the master reaches each worker, in order.
std::vector<std::string> endpoints_of(const shard_plan& plan, const std::vector<plan_phone>& phones,
                                      const command_settings& settings);

/// One word of a shell's command; "~/" at its beginning stays the shell's.
std::string shell_word(const std::string& text);

std::uint16_t rpc_port_of(const plan_phone& phone, const command_settings& settings);

/// What has to be known before the commands are typed.
std::vector<std::string> safety_of(const shard_plan& plan, const std::vector<plan_phone>& phones,
                                   const command_settings& settings);

}  // namespace pocketfleet
