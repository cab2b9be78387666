// Keys of clients: what each may do, how often, and how often somebody may be wrong. No I/O, no clock.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/core/time.hpp"

namespace pocketfleet {

enum class key_role : std::uint8_t {
  client,  ///< may ask
  admin,   ///< and may change the fleet
};

/// With whom a client shares the cache.
enum class cache_scope : std::uint8_t {
  shared,  ///< with everybody of this scope
  own,     ///< with itself
  none,    ///< it neither gets kept answers nor leaves any
};

/// What a client may do, as its key says. Immutable and shared once in use.
struct client_terms {
  std::string name;  ///< in logs; the key itself never is
  key_role role = key_role::client;
  std::uint32_t rate_per_minute = 0;  ///< requests; 0: no limit
  std::uint32_t max_concurrency = 0;  ///< requests at once; 0: no limit
  std::vector<std::string> models{};  ///< normalized names; empty: all
  cache_scope cache = cache_scope::shared;

  bool may_use(std::string_view normalized_model) const;
  bool operator==(const client_terms&) const = default;
};

/// As it is kept: nobody can make the key of it.
struct api_key {
  std::array<unsigned char, 32> digest{};  ///< SHA-256 of the key
  client_terms terms{};
  bool operator==(const api_key&) const = default;
};

/// A limit of so many a minute, of which as many may come at once. Not thread-safe.
class token_bucket {
 public:
  explicit token_bucket(std::uint32_t per_minute) : per_minute_(per_minute), left_(per_minute) {}

  /// Takes one. If there is none: how long until there is.
  std::optional<duration> take(time_point now);
  bool full(time_point now);

 private:
  void fill(time_point now);

  double per_minute_;
  double left_;
  time_point seen_{};
};

/// Who has been wrong how often, by address. Not thread-safe.
class failed_attempts {
 public:
  failed_attempts(std::uint32_t per_minute, std::size_t most_addresses)
      : per_minute_(per_minute), most_(most_addresses) {}

  /// One more. If that are too many: how long until the next one is listened to.
  std::optional<duration> note(const std::string& address, time_point now);
  std::size_t size() const { return seen_.size(); }

 private:
  std::uint32_t per_minute_;
  std::size_t most_;
  std::map<std::string, token_bucket, std::less<>> seen_;
};

}  // namespace pocketfleet
