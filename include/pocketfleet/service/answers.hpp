// Answers that are there already: finished ones in the cache, and those being made for somebody else.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "pocketfleet/core/lru_cache.hpp"
#include "pocketfleet/service/generation.hpp"
#include "pocketfleet/wire/answer.hpp"

namespace pocketfleet {

struct kept_answer {
  answer what;
  std::string phone;
};

struct cache_status {
  std::size_t entries = 0;
  std::size_t bytes = 0;
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;
  std::uint64_t joined = 0;
  std::uint64_t evictions = 0;
};

/// Owned by the application, used from every worker.
class answers {
 public:
  explicit answers(const cache_limits& limits)
      : cache_(limits),
        texts_({limits.entries, limits.entries * sizeof(cache_key), sizeof(cache_key), limits.ttl}) {}

  struct found {
    std::shared_ptr<const kept_answer> hit{};  ///< either this,
    std::unique_ptr<listener> joined{};        ///< or somebody else's generation,
    std::shared_ptr<generation> mine{};        ///< or `make` is to be run, and ended by store() or forget()
  };

  /// A finished one; null: find() is to be asked.
  std::shared_ptr<const kept_answer> hit(const cache_key& key);

  /// The same by the digest of a request's text, once note() has said which question that is: what was read
  /// and checked before need not be again.
  std::shared_ptr<const kept_answer> again(const cache_key& text);
  void note(const cache_key& text, const cache_key& key);

  /// One look, one decision: two who ask the same at the same time cannot both begin.
  found find(const cache_key& key, const std::shared_ptr<waker>& wake, bool each_piece,
             const std::shared_ptr<generation>& make);

  /// A generation has ended: well (kept, if there is room), or not.
  void store(const cache_key& key, const std::shared_ptr<generation>& made);
  void forget(const cache_key& key, const std::shared_ptr<generation>& made);

  /// Forgets what is kept; how many that were. Answers that are being made are kept when they are whole.
  std::size_t clear();

  cache_status status() const;

 private:
  mutable std::mutex mutex_;
  // guarded by mutex_
  lru_cache<kept_answer> cache_;
  lru_cache<cache_key> texts_;  // what is asked in them
  // kept alive by those who make it and wait for it
  std::unordered_map<cache_key, std::weak_ptr<generation>, cache_key_hash> making_;
  std::uint64_t hits_ = 0;
  std::uint64_t misses_ = 0;
  std::uint64_t joined_ = 0;
};

}  // namespace pocketfleet
