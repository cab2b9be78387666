// Faults that a simulated phone shows on command.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "pocketfleet/core/time.hpp"

namespace pocketfleet::sim {

/// What goes wrong. "After k tokens" counts the tokens of one answer; requests without a stream count
/// silently and then fail the same way, their body being cut. Phone: the whole phone is hit, GET requests
/// too. Request: only requests that generate (POST), so that health probes stay green, as they do with a real
/// half-broken phone.
enum class fault_kind : std::uint8_t {
  none,
  refuse,  ///< phone: not listening any more, idle connections are closed, running answers go on
  crash,   ///< phone: as refuse, and every connection is reset at once
  hang,    ///< phone: accepts and reads, answers nothing until cleared; with `times` > 0 only those requests
  error_500,    ///< request: the engine's HTTP 500
  busy_503,     ///< request: 503, Ollama's full queue
  loading_503,  ///< request: 503, the model is being loaded
  html,         ///< request: 200 with an HTML page, as a captive portal or another server on the port answers
  reset_after,  ///< request: TCP reset after k tokens; 0: before the header
  close_after,  ///< request: orderly TCP close after k tokens, between two chunks; 0: before the header
  truncated,    ///< request: closes in the middle of the chunk that follows token k
  silent_after,      ///< request: nothing more after k tokens, connection and slot are kept; 0: not even the
                     ///< header
  end_without_done,  ///< request: the body ends properly after k tokens, without done:true or [DONE]
  error_in_stream,   ///< request: the engine's error event after k tokens; 0: HTTP 500, as the engines do
  garbage,           ///< request: a line that is not JSON after k tokens, then the answer goes on
  huge_line,         ///< request: 2 MiB of one line after k tokens, then the answer goes on
  slow,  ///< request: decode rate times `factor`; when `times` is 0 the whole phone is slower: running
         ///< answers too, and how it reads prompts
};

std::string_view to_string(fault_kind kind);  ///< the enumerator's own name
std::optional<fault_kind> fault_from_string(std::string_view name);

/// A fault and how long it lasts.
struct fault {
  fault_kind kind = fault_kind::none;
  unsigned after_tokens = 0;
  unsigned times = 0;            ///< how many requests it hits; 0: until cleared
  double factor = 0.1;           ///< of slow; over 0
  milliseconds clears_after{0};  ///< clears itself after this time; 0: never. Over HTTP: "duration_ms"
};

}  // namespace pocketfleet::sim
