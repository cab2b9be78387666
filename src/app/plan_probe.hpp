// Whether workers can really be reached; private to this layer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pocketfleet/core/time.hpp"

namespace pocketfleet {

struct probed {
  enum class outcome : std::uint8_t {
    open,     ///< somebody accepts connections
    refused,  ///< the device answers, but nobody listens there
    silent,   ///< nothing comes back: off, asleep, another network, or a firewall
  };
  outcome what = outcome::silent;
  double rtt_ms = 0;  ///< what the answer took; 0 where there was none
  std::string words{};
};

struct probe_target {
  std::string host{};  ///< IPv4
  std::uint16_t port = 0;
};

/// Connects to each once, all at the same time, sends nothing and closes.
std::vector<probed> probe_ports(const std::vector<probe_target>& targets, milliseconds patience);

}  // namespace pocketfleet
