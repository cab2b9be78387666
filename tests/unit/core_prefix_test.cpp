// What a phone is thought to have in its prompt cache.
#include "pocketfleet/core/prefix.hpp"

#include <gtest/gtest.h>

namespace pocketfleet {
namespace {

/// A prompt in messages of 100 bytes; a letter is what a message says.
prefix_chain prompt(const char* messages) {
  prefix_chain out;
  std::uint64_t hash = 7;
  for (const char* c = messages; *c != 0; ++c) {
    hash = hash * 1'000'003 + static_cast<unsigned char>(*c);
    out.push_back({hash, static_cast<std::uint32_t>(100 * (out.size() + 1))});
  }
  return out;
}

constexpr time_point at(int second) {
  return time_point{seconds{second}};
}

TEST(prefix_memory_test, nothing_is_known_at_first) {
  EXPECT_EQ(prefix_memory{}.known(prompt("abc")), 0U);
  EXPECT_EQ(prefix_memory{}.known({}), 0U);
}

TEST(prefix_memory_test, the_common_beginning_counts) {
  prefix_memory m;
  m.keep(prompt("abc"), 1, at(1));
  EXPECT_EQ(m.known(prompt("abcde")), 300U);
  EXPECT_EQ(m.known(prompt("abx")), 200U);
  EXPECT_EQ(m.known(prompt("ab")), 200U);
  EXPECT_EQ(m.known(prompt("xabc")), 0U);
}

TEST(prefix_memory_test, one_slot_holds_one_prompt) {
  prefix_memory m;
  m.keep(prompt("abc"), 1, at(1));
  m.keep(prompt("xyz"), 1, at(2));
  EXPECT_EQ(m.known(prompt("abc")), 0U);
  EXPECT_EQ(m.known(prompt("xyz")), 300U);
}

TEST(prefix_memory_test, a_conversation_stays_in_its_slot_and_the_longest_unused_is_replaced) {
  prefix_memory m;
  m.keep(prompt("abc"), 2, at(1));
  m.keep(prompt("xyz"), 2, at(2));
  m.keep(prompt("abcde"), 2, at(3));
  EXPECT_EQ(m.known(prompt("xyz")), 300U);
  EXPECT_EQ(m.known(prompt("abcdef")), 500U);
  m.keep(prompt("pqr"), 2, at(4));
  EXPECT_EQ(m.known(prompt("xyz")), 0U);
  EXPECT_EQ(m.known(prompt("abcde")), 500U);
  EXPECT_EQ(m.size(), 2U);
}

TEST(prefix_memory_test, a_beginning_under_a_tenth_takes_a_slot_of_its_own) {
  prefix_memory m;
  m.keep(prompt("abc"), 2, at(1));
  m.keep(prompt("a0123456789"), 2, at(2));
  EXPECT_EQ(m.known(prompt("abc")), 300U);
  EXPECT_EQ(m.known(prompt("a012")), 400U);
}

TEST(prefix_memory_test, what_others_lose_is_less_the_longer_it_was_not_used) {
  prefix_memory m;
  EXPECT_EQ(m.loses(prompt("xyz"), 1, at(1)), 0);
  m.keep(prompt("abc"), 1, at(1));
  EXPECT_EQ(m.loses(prompt("abcd"), 1, at(1)), 0) << "it goes on with it";
  EXPECT_EQ(m.loses(prompt("abx"), 1, at(1)), 100) << "two of the three stay";
  EXPECT_EQ(m.loses(prompt("xyz"), 1, at(1)), 300);
  EXPECT_NEAR(m.loses(prompt("xyz"), 1, at(121)), 110, 1);
  EXPECT_EQ(m.loses(prompt("xyz"), 2, at(1)), 0) << "there is room";
}

TEST(prefix_memory_test, it_forgets) {
  prefix_memory m;
  m.keep(prompt("abc"), 1, at(1));
  m.forget();
  EXPECT_EQ(m.known(prompt("abc")), 0U);
}

}  // namespace
}  // namespace pocketfleet
