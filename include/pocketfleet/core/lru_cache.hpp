// Least recently used cache, bounded by entries, bytes and age.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <list>
#include <memory>
#include <unordered_map>

#include "pocketfleet/core/time.hpp"

namespace pocketfleet {

/// SHA-256 over the canonical form of everything that shapes an answer (wire/cache_key.hpp makes it).
using cache_key = std::array<std::uint8_t, 32>;

struct cache_key_hash {
  std::size_t operator()(const cache_key& key) const {
    std::size_t value = 0;  // the key is a digest already: any part of it is as good as a hash
    std::memcpy(&value, key.data(), sizeof value);
    return value;
  }
};

struct cache_limits {
  std::size_t entries = 1024;
  std::size_t bytes = std::size_t{64} << 20U;         ///< over all entries
  std::size_t entry_bytes = std::size_t{256} << 10U;  ///< one entry; a larger one is not kept
  seconds ttl{3600};
};

/// Not thread-safe; its owner locks. Values are shared, so one that is evicted while it is being replayed
/// stays whole.
template <class Value>
class lru_cache {
 public:
  explicit lru_cache(const cache_limits& limits) : limits_(limits) {}

  /// The value, now the most recently used; null if there is none or it is too old.
  std::shared_ptr<const Value> find(const cache_key& key, time_point now) {
    const auto found = index_.find(key);
    if (found == index_.end()) return nullptr;
    if (now - found->second->stored >= limits_.ttl) {
      erase(found->second);
      return nullptr;
    }
    entries_.splice(entries_.begin(), entries_, found->second);
    return found->second->value;
  }

  /// `size` is what the value costs in bytes. Replaces what was there. False if it is too large to keep.
  bool put(const cache_key& key, std::shared_ptr<const Value> value, std::size_t size, time_point now) {
    if (const auto found = index_.find(key); found != index_.end()) erase(found->second);
    if (limits_.entries == 0 || size > limits_.entry_bytes || size > limits_.bytes) return false;
    while (!entries_.empty() && (entries_.size() >= limits_.entries || bytes_ + size > limits_.bytes)) {
      erase(std::prev(entries_.end()));
      ++evictions_;
    }
    entries_.push_front(entry{key, std::move(value), size, now});
    index_.emplace(key, entries_.begin());
    bytes_ += size;
    return true;
  }

  void clear() {
    entries_.clear();
    index_.clear();
    bytes_ = 0;
  }

  std::size_t size() const { return entries_.size(); }
  std::size_t bytes() const { return bytes_; }
  std::uint64_t evictions() const { return evictions_; }

 private:
  struct entry {
    cache_key key;
    std::shared_ptr<const Value> value;
    std::size_t size;
    time_point stored;
  };
  using iterator = typename std::list<entry>::iterator;

  void erase(iterator it) {
    bytes_ -= it->size;
    index_.erase(it->key);
    entries_.erase(it);
  }

  cache_limits limits_;
  std::list<entry> entries_;  // most recently used first
  std::unordered_map<cache_key, iterator, cache_key_hash> index_;
  std::size_t bytes_ = 0;
  std::uint64_t evictions_ = 0;
};

}  // namespace pocketfleet
