#include "pocketfleet/core/lru_cache.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

namespace pocketfleet {
namespace {

using cache = lru_cache<std::string>;

constexpr time_point start{seconds{5'000}};

/// A key whose last byte differs, and whose first bytes, the hash, may collide.
cache_key key(unsigned n, bool same_hash = false) {
  cache_key out{};
  out[31] = static_cast<std::uint8_t>(n);
  out[30] = static_cast<std::uint8_t>(n >> 8U);
  if (!same_hash) out[0] = static_cast<std::uint8_t>(n);
  return out;
}

bool put(cache& c, unsigned n, std::size_t size = 1, time_point now = start) {
  return c.put(key(n), std::make_shared<const std::string>(std::to_string(n)), size, now);
}

std::string get(cache& c, unsigned n, time_point now = start) {
  const auto found = c.find(key(n), now);
  return found ? *found : "-";
}

TEST(lru_cache, finds_what_was_put_and_nothing_else) {
  cache c({});
  EXPECT_EQ(get(c, 1), "-");
  EXPECT_TRUE(put(c, 1, 10));
  EXPECT_EQ(get(c, 1), "1");
  EXPECT_EQ(get(c, 2), "-");
  EXPECT_EQ(c.size(), 1U);
  EXPECT_EQ(c.bytes(), 10U);
}

TEST(lru_cache, keys_with_the_same_hash_are_kept_apart) {
  cache c({});
  c.put(key(1, true), std::make_shared<const std::string>("one"), 1, start);
  c.put(key(2, true), std::make_shared<const std::string>("two"), 1, start);
  EXPECT_EQ(*c.find(key(1, true), start), "one");
  EXPECT_EQ(*c.find(key(2, true), start), "two");
  EXPECT_EQ(c.find(key(3, true), start), nullptr);
}

TEST(lru_cache, drops_the_least_recently_used_over_the_bound_of_entries) {
  cache c({.entries = 3});
  for (const unsigned n : {1U, 2U, 3U}) put(c, n);
  EXPECT_EQ(get(c, 1), "1");  // now 2 is the oldest
  put(c, 4);
  EXPECT_EQ(c.size(), 3U);
  EXPECT_EQ(get(c, 2), "-");
  EXPECT_EQ(get(c, 1), "1");
  EXPECT_EQ(get(c, 3), "3");
  EXPECT_EQ(get(c, 4), "4");
  EXPECT_EQ(c.evictions(), 1U);
}

TEST(lru_cache, a_look_that_finds_nothing_changes_no_order) {
  cache c({.entries = 2});
  put(c, 1);
  put(c, 2);
  get(c, 9);
  put(c, 3);
  EXPECT_EQ(get(c, 1), "-");
  EXPECT_EQ(get(c, 2), "2");
}

TEST(lru_cache, drops_as_many_as_needed_over_the_bound_of_bytes) {
  cache c({.bytes = 100, .entry_bytes = 100});
  for (unsigned n = 1; n <= 10; ++n) put(c, n, 10);
  EXPECT_EQ(c.bytes(), 100U);
  EXPECT_TRUE(put(c, 11, 35));
  EXPECT_EQ(c.bytes(), 95U);
  for (unsigned n = 1; n <= 4; ++n) EXPECT_EQ(get(c, n), "-") << n;
  for (unsigned n = 5; n <= 11; ++n) EXPECT_NE(get(c, n), "-") << n;
  EXPECT_EQ(c.evictions(), 4U);
}

TEST(lru_cache, an_entry_of_exactly_the_bound_fits_alone) {
  cache c({.bytes = 100, .entry_bytes = 100});
  put(c, 1, 60);
  EXPECT_TRUE(put(c, 2, 100));
  EXPECT_EQ(c.size(), 1U);
  EXPECT_EQ(c.bytes(), 100U);
  EXPECT_EQ(get(c, 2), "2");
}

TEST(lru_cache, an_entry_over_its_own_bound_is_not_kept_and_drops_nobody) {
  cache c({.bytes = 1000, .entry_bytes = 10});
  put(c, 1, 10);
  EXPECT_FALSE(put(c, 2, 11));
  EXPECT_EQ(get(c, 2), "-");
  EXPECT_EQ(get(c, 1), "1");
  EXPECT_EQ(c.evictions(), 0U);
}

TEST(lru_cache, an_entry_over_all_bytes_is_not_kept_even_if_its_own_bound_allows_it) {
  cache c({.bytes = 50, .entry_bytes = 1000});
  put(c, 1, 20);
  EXPECT_FALSE(put(c, 2, 51));
  EXPECT_EQ(c.bytes(), 20U);
}

TEST(lru_cache, keeps_nothing_with_room_for_none) {
  cache c({.entries = 0});
  EXPECT_FALSE(put(c, 1));
  EXPECT_EQ(c.size(), 0U);
  EXPECT_EQ(get(c, 1), "-");
}

TEST(lru_cache, forgets_what_is_as_old_as_the_ttl) {
  cache c({.ttl = seconds{60}});
  put(c, 1, 7);
  EXPECT_EQ(get(c, 1, start + seconds{60} - nanoseconds{1}), "1");
  EXPECT_EQ(get(c, 1, start + seconds{60}), "-");
  EXPECT_EQ(c.size(), 0U) << "and gives its bytes back";
  EXPECT_EQ(c.bytes(), 0U);
}

TEST(lru_cache, being_used_makes_no_entry_younger) {
  cache c({.ttl = seconds{60}});
  put(c, 1);
  for (int i = 1; i < 60; ++i) EXPECT_EQ(get(c, 1, start + seconds{i}), "1");
  EXPECT_EQ(get(c, 1, start + seconds{60}), "-");
}

TEST(lru_cache, replaces_value_size_and_age) {
  cache c({.bytes = 100, .entry_bytes = 100, .ttl = seconds{60}});
  put(c, 1, 90);
  c.put(key(1), std::make_shared<const std::string>("new"), 20, start + seconds{50});
  EXPECT_EQ(c.size(), 1U);
  EXPECT_EQ(c.bytes(), 20U);
  EXPECT_EQ(get(c, 1, start + seconds{70}), "new");
  EXPECT_EQ(c.evictions(), 0U);
}

TEST(lru_cache, a_replacement_that_is_too_large_leaves_no_stale_value) {
  cache c({.entry_bytes = 10});
  put(c, 1, 10);
  EXPECT_FALSE(c.put(key(1), std::make_shared<const std::string>("new"), 11, start));
  EXPECT_EQ(get(c, 1), "-");
  EXPECT_EQ(c.bytes(), 0U);
}

TEST(lru_cache, a_value_in_use_survives_its_eviction) {
  cache c({.entries = 1});
  put(c, 1);
  const auto held = c.find(key(1), start);
  put(c, 2);
  EXPECT_EQ(get(c, 1), "-");
  EXPECT_EQ(*held, "1");
  EXPECT_EQ(held.use_count(), 1) << "the cache has let go of it";
  c.clear();
  EXPECT_EQ(*held, "1");
}

TEST(lru_cache, clear_empties_it) {
  cache c({});
  for (unsigned n = 0; n < 10; ++n) put(c, n, 5);
  c.clear();
  EXPECT_EQ(c.size(), 0U);
  EXPECT_EQ(c.bytes(), 0U);
  EXPECT_EQ(get(c, 3), "-");
  EXPECT_TRUE(put(c, 3));
  EXPECT_EQ(get(c, 3), "3");
}

/// The same in the plainest way: a vector, the most recently used last.
struct naive {
  struct entry {
    unsigned key;
    unsigned value;
    std::size_t size;
    time_point stored;
  };
  cache_limits limits;
  std::vector<entry> entries{};

  std::size_t bytes() const {
    std::size_t sum = 0;
    for (const auto& e : entries) sum += e.size;
    return sum;
  }
  auto at(unsigned k) {
    return std::find_if(entries.begin(), entries.end(), [&](const entry& e) { return e.key == k; });
  }
  std::string find(unsigned k, time_point now) {
    const auto it = at(k);
    if (it == entries.end()) return "-";
    const entry e = *it;
    entries.erase(it);
    if (now - e.stored >= limits.ttl) return "-";
    entries.push_back(e);
    return std::to_string(e.value);
  }
  bool put(unsigned k, unsigned value, std::size_t size, time_point now) {
    if (const auto it = at(k); it != entries.end()) entries.erase(it);
    if (limits.entries == 0 || size > limits.entry_bytes || size > limits.bytes) return false;
    while (entries.size() + 1 > limits.entries || bytes() + size > limits.bytes)
      entries.erase(entries.begin());
    entries.push_back({k, value, size, now});
    return true;
  }
};

TEST(lru_cache, random_operations_agree_with_a_naive_model) {
  for (std::uint32_t seed = 1; seed <= 40; ++seed) {
    std::minstd_rand random(seed);
    const cache_limits limits{.entries = random() % 12,
                              .bytes = random() % 300,
                              .entry_bytes = 20 + random() % 60,
                              .ttl = seconds{20 + random() % 200}};
    cache tested(limits);
    naive model{limits};
    time_point now = start;
    for (unsigned step = 0; step < 2'000; ++step) {
      const unsigned k = random() % 20;
      switch (random() % 4) {
        case 0:
        case 1:
          ASSERT_EQ(get(tested, k, now), model.find(k, now)) << "seed " << seed << " step " << step;
          break;
        case 2: {
          const std::size_t size = random() % 90;
          const auto value = std::make_shared<const std::string>(std::to_string(step));
          ASSERT_EQ(tested.put(key(k), value, size, now), model.put(k, step, size, now))
              << "seed " << seed << " step " << step;
          break;
        }
        default: now += seconds{random() % 5}; break;
      }
      ASSERT_EQ(tested.size(), model.entries.size()) << "seed " << seed << " step " << step;
      ASSERT_EQ(tested.bytes(), model.bytes()) << "seed " << seed << " step " << step;
      ASSERT_LE(tested.bytes(), limits.bytes);
      ASSERT_LE(tested.size(), limits.entries);
    }
  }
}

}  // namespace
}  // namespace pocketfleet
