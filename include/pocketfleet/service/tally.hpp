// What the observer hears, added up for those who watch: how fast each phone is now, and what came of
// requests.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "pocketfleet/core/pulse.hpp"
#include "pocketfleet/service/ports.hpp"
#include "pocketfleet/wire/fleet_picture.hpp"

namespace pocketfleet {

/// Owned by the application; told from any worker, outside every lock. Knows only what has happened since the
/// process was started: an absent value is not known.
class tally {
 public:
  /// Of one phone.
  struct speed {
    double tokens_per_s = 0;                    ///< now, as they come
    std::optional<double> answer_speed{};       ///< of its last whole answer, as its engine measured it
    std::optional<milliseconds> first_token{};  ///< of its last answer, from sending
    std::uint64_t answers = 0;
    std::uint64_t failures = 0;
    std::uint64_t answer_tokens = 0;
  };
  struct totals {
    std::uint64_t requests = 0;  ///< that ask a model something, and are over
    std::uint64_t failed = 0;    ///< of these, for reasons that are not the client's
  };
  using speeds = std::map<std::string, speed, std::less<>>;

  void on_pieces(std::string_view phone, std::size_t pieces, time_point now);
  void on_attempt(const attempt_record& r);
  void on_request(const request_record& r);

  /// Of the phones that something is known of.
  speeds phones(time_point now) const;
  token_history histories(time_point now) const;
  totals requests() const;

 private:
  struct known {
    pulse tokens{};
    speed rest{};
  };
  known& of(std::string_view name);  // under the lock

  mutable std::mutex mutex_;
  // guarded by mutex_
  std::map<std::string, known, std::less<>> phones_;  // by name, which come from the configuration
  totals totals_;
};

}  // namespace pocketfleet
