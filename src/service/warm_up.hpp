// Making a phone read its model into memory. Private to this layer.
#pragma once

#include <string>

#include "pocketfleet/service/desk.hpp"
#include "pocketfleet/service/ports.hpp"
#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {

struct warm_up_order {
  want wanted{};
  std::string model{};  ///< as the client called it; empty: the phone's own
  json keep_alive{};    ///< null, or what Ollama takes; 0: out of memory
  time_point deadline{};
};

/// The name of the phone. Takes its permit meanwhile, so that a long load stands in nobody's way unseen, and
/// keeps the connection open to the end: Ollama stops loading when the one who asked for it leaves.
task<result<std::string>> warm_up(http_call& call, desk& fleet, const warm_up_order& order);

}  // namespace pocketfleet
