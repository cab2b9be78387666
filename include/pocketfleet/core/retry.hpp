// When a failed attempt may be tried on another phone.
#pragma once

#include <cstddef>

#include "pocketfleet/core/breaker.hpp"
#include "pocketfleet/core/error.hpp"

namespace pocketfleet {

/// True for what another phone may do better. What the client caused is false: it would fail everywhere.
bool retryable(errc code);

/// What an attempt that ended with `code` says about its phone.
verdict verdict_of(errc code);

/// Retries in flight, bounded by a share of the requests in flight (Envoy's retry budget: 20 %, at least 3),
/// so that a fleet in trouble is not asked several times over. Owned by the dispatcher, under its lock.
class retry_budget {
 public:
  retry_budget(double share, std::size_t floor) : share_(share), floor_(floor) {}

  /// Takes a place for one retry; false if the budget is used up. `requests` are those under way now.
  bool take(std::size_t requests) {
    const auto allowed = static_cast<std::size_t>(share_ * static_cast<double>(requests));
    if (retries_ >= (allowed > floor_ ? allowed : floor_)) return false;
    ++retries_;
    return true;
  }
  void give_back() { --retries_; }
  std::size_t in_flight() const { return retries_; }

 private:
  double share_;
  std::size_t floor_;
  std::size_t retries_ = 0;
};

}  // namespace pocketfleet
