// What can be set about serving a request. Defaults are those of docs/configuration.md; app/settings reads
// the file.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pocketfleet/core/look_memory.hpp"
#include "pocketfleet/core/lru_cache.hpp"
#include "pocketfleet/core/time.hpp"

namespace pocketfleet {

enum class cache_mode : std::uint8_t {
  everywhere,     ///< every identical request, on every route
  always,         ///< every identical /ask, as the original design had it; else as `deterministic`
  deterministic,  ///< only temperature 0, or a seed
  never,
};

struct time_limits {
  milliseconds connect{2'000};        ///< to a phone on the LAN; room for one lost SYN
  milliseconds first_token{120'000};  ///< from sending the request
  milliseconds first_token_loading{
      300'000};  ///< the same while the phone loads the model (OLLAMA_LOAD_TIMEOUT)
  milliseconds between_tokens{30'000};
  milliseconds request{900'000};  ///< everything, queue included
  milliseconds queue{30'000};     ///< waiting for a permit
  milliseconds keepalive{
      15'000};  ///< a stream silent for so long gets a sign of life (HTML's advice for SSE)
};

struct probe_settings {
  milliseconds interval{5'000};
  milliseconds timeout{2'000};
  double jitter = 0.2;  ///< share by which an interval may be shorter
  unsigned fall = 3;    ///< failed looks in a row until a phone is down
  unsigned rise = 2;    ///< good looks in a row until one that was down is up
  unsigned inventory_every =
      6;  ///< models and slots are looked at each so many looks, and when a phone comes up

  look_rules rules() const { return {interval, jitter, fall, rise}; }
};

struct service_settings {
  time_limits times{};
  unsigned attempts = 3;  ///< in a row that bring nothing new, over different phones
  unsigned rescues = 2;   ///< of one answer that phones break off; 0: none
  cache_mode caching = cache_mode::always;
  cache_limits cache{};
  std::size_t answer_bytes = std::size_t{8} << 20U;  ///< of one answer, kept in memory while it is being made
  std::size_t batch_items = 64;
  bool pass_load_options = false;  ///< num_ctx and the like make Ollama reload the model: refused unless true
  probe_settings probe{};
};

}  // namespace pocketfleet
