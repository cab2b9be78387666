// What a phone's agent sends to POST /fleet/heartbeat, and what it gets back.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/core/error.hpp"
#include "pocketfleet/core/phone.hpp"
#include "pocketfleet/core/telemetry.hpp"

namespace pocketfleet {

struct heartbeat {
  std::string id;    ///< 1 to 64 of [A-Za-z0-9._-]; the phone's own for as long as it lives
  std::string name;  ///< a wish; empty: none
  seconds interval{10};
  engine_kind engine = engine_kind::unknown;
  std::uint16_t port = 0;                      ///< the engine's, on the phone
  bool engine_up = false;                      ///< as the phone itself sees it
  std::optional<std::uint16_t> tunnel_port{};  ///< on the gateway's host; leads to the engine
  telemetry reads{};
};

/// Refused with errc::bad_request and the path of what is wrong. Fields that are not known are passed over,
/// so that a newer agent can talk to an older gateway.
result<heartbeat> parse_heartbeat(std::string_view body);

/// True for text that may be a phone's id.
bool is_phone_id(std::string_view text);

}  // namespace pocketfleet
