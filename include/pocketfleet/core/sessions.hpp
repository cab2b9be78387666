// Which phone a session was last served by.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "pocketfleet/core/phone.hpp"

namespace pocketfleet {

/// Remembers about as many sessions as it has places; a newer one may drive out another. Owned by the
/// dispatcher.
class sessions {
 public:
  std::optional<phone_id> find(std::uint64_t session) const {
    const auto& [who, where] = places_[session % places_.size()];
    return session != 0 && who == session ? std::optional(where) : std::nullopt;
  }
  void keep(std::uint64_t session, phone_id where) {
    if (session != 0) places_[session % places_.size()] = {session, where};
  }

 private:
  struct place {
    std::uint64_t who = 0;
    phone_id where{};
  };
  std::array<place, 4096> places_{};
};

}  // namespace pocketfleet
