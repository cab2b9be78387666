// A phone of the fleet that is several: a model split over them, served by one llama-server.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pocketfleet {

/// A worker: not an entry of the fleet while it is in a group.
struct group_member {
  std::string name;
  std::string host;
  std::uint16_t port = 0;
  std::string id{};            ///< by which its heartbeats are known; empty: it sends none
  std::string token_sha256{};  ///< as phone_config::token_sha256

  bool operator==(const group_member&) const = default;
};

struct phone_group {
  std::vector<group_member> members{};  ///< empty: a phone by itself
  std::string status_host{};            ///< where its supervisor tells how it is; empty: nowhere
  std::uint16_t status_port = 0;
  std::string stand_in{};  ///< the model that answers while the group cannot; empty: none

  bool operator==(const phone_group&) const = default;
};

/// What a supervisor may say, for labels: a word from elsewhere is "unknown".
inline constexpr std::array<std::string_view, 6> group_states{"starting", "serving",     "healing",
                                                              "ended",    "unreachable", "unknown"};

/// What a supervisor has said.
struct group_report {
  struct member {
    std::string name;
    std::string state;  ///< "up", "starting", "frozen", "down", "lost"
  };
  std::string state = "unknown";  ///< one of group_states
  bool usable = false;
  std::string fault{};   ///< "worker_frozen"; empty: none
  std::string reason{};  ///< for people; empty: it serves
  std::vector<member> members{};

  /// What runs there will not be ended: the processes that it ran on are gone, or are being ended. One that
  /// only stands stopped may go on yet.
  bool given_up() const {
    const bool stopped = state == "healing" && fault.empty();
    return !usable && !stopped && state != "unreachable" && state != "unknown";
  }
};

}  // namespace pocketfleet
