// How much has come in each of the last seconds.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "pocketfleet/core/time.hpp"

namespace pocketfleet {

/// Counts by the second; what is older than a minute is forgotten. Time does not run backwards.
class pulse {
 public:
  static constexpr std::size_t kept = 60;  ///< whole seconds

  void add(time_point now, std::uint32_t n);

  /// Each second, over the last three whole ones: long enough to be calm, short enough to be now.
  double rate(time_point now) const;

  /// Of the last minute's whole seconds, the oldest first.
  std::vector<std::uint32_t> history(time_point now) const;

 private:
  std::uint32_t at(std::int64_t second) const;

  std::array<std::uint32_t, kept + 1> counts_{};  // one more for the second that is running
  std::int64_t newest_ = 0;                       // the second that was last counted in
};

}  // namespace pocketfleet
