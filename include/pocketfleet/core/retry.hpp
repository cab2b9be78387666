// When a failed attempt may be tried on another phone.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pocketfleet/core/breaker.hpp"
#include "pocketfleet/core/error.hpp"

namespace pocketfleet {

/// True for what another phone may do better. What the client caused is false: it would fail everywhere.
bool retryable(errc code);

/// What an attempt that ended with `code` says about its phone.
verdict verdict_of(errc code);

/// How far a request has come when an attempt of it fails.
struct failed_attempt {
  errc code{};
  std::size_t pieces = 0;     ///< of the answer that are there
  bool shown = false;         ///< a client has seen some of them, or may have
  bool can_resume = false;    ///< the engine can go on from there
  bool resumed = false;       ///< it was to go on from there, and brought nothing
  unsigned tries = 0;         ///< in a row that brought nothing new, this one included
  unsigned phone_errors = 0;  ///< of all tries: those that ended with errc::phone_error
  unsigned rescues = 0;       ///< done so far
};

struct retry_limits {
  unsigned attempts = 3;  ///< in a row that bring nothing new (Google's SRE book)
  unsigned rescues = 2;   ///< of one answer
};

enum class next_step : std::uint8_t {
  give_up,
  again,   ///< from the beginning, on another phone
  rescue,  ///< from where it stands, on another phone
};

/// Before the first content a failure costs nobody anything but time; after it the answer goes on elsewhere
/// or ends with an honest error.
next_step after_failure(const failed_attempt& f, const retry_limits& limits);

/// Retries in flight, bounded by a share of the requests in flight (Envoy's retry budget: 20 %, at least 3),
/// so that a fleet in trouble is not asked several times over. Owned by the dispatcher, under its lock.
class retry_budget {
 public:
  retry_budget(double share, std::size_t floor) : share_(share), floor_(floor) {}

  /// True if one more retry may start. `requests` are those under way now.
  bool room(std::size_t requests) const {
    const auto allowed = static_cast<std::size_t>(share_ * static_cast<double>(requests));
    return retries_ < (allowed > floor_ ? allowed : floor_);
  }
  /// Takes a place for one; false if there is no room.
  bool take(std::size_t requests) {
    const bool can = room(requests);
    retries_ += can ? 1U : 0U;
    return can;
  }
  void give_back() { --retries_; }
  std::size_t in_flight() const { return retries_; }

 private:
  double share_;
  std::size_t floor_;
  std::size_t retries_ = 0;
};

}  // namespace pocketfleet
