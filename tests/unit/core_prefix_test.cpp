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

double loses(const prefix_memory& m, const char* messages, std::size_t slots, int second) {
  return m.look(prompt(messages), slots, at(second)).loses;
}

TEST(prefix_memory_test, what_others_lose_is_less_the_longer_it_was_not_used) {
  prefix_memory m;
  EXPECT_EQ(loses(m, "xyz", 1, 1), 0);
  m.keep(prompt("abc"), 1, at(1));
  EXPECT_EQ(loses(m, "abcd", 1, 1), 0) << "it goes on with it";
  EXPECT_EQ(loses(m, "abx", 1, 1), 100) << "two of the three stay";
  EXPECT_EQ(loses(m, "xyz", 1, 1), 300);
  EXPECT_NEAR(loses(m, "xyz", 1, 61), 110, 1);
  EXPECT_EQ(loses(m, "xyz", 2, 1), 0) << "there is room";
}

TEST(prefix_memory_test, a_slot_at_work_is_nobody_elses) {
  prefix_memory m;
  m.keep(prompt("sabc"), 2, at(1), 7);
  m.keep(prompt("sxyz"), 2, at(2), 8);  // begins alike, and yet gets a slot of its own
  EXPECT_EQ(m.size(), 2U);
  m.release(7, {}, at(3));
  EXPECT_EQ(m.known(prompt("sxyz1"), 2), 100U) << "what is idle has the first message";
  m.release(8, {}, at(4));
  EXPECT_EQ(m.known(prompt("sxyz1"), 2), 400U);
}

TEST(prefix_memory_test, what_was_answered_is_there_too) {
  prefix_memory m;
  m.keep(prompt("ab"), 1, at(1), 7);
  m.release(8, prompt("abX"), at(2));
  EXPECT_EQ(m.known(prompt("abAc")), 200U) << "that was somebody else's";
  m.release(7, prompt("abA"), at(2));
  EXPECT_EQ(m.known(prompt("abAc")), 300U);
  EXPECT_EQ(m.size(), 1U);
}

/// Two conversations in turn on a phone with one slot, until the engine has shown what it does.
class one_slot : public testing::Test {
 protected:
  prefix_belief turn(const char* messages, bool engine_keeps) {
    const prefix_belief thought = memory_.keep(prompt(messages), 1, at(++second_));
    memory_.learn(thought, engine_keeps ? std::max(thought.in_slot, thought.aside) : thought.in_slot);
    return thought;
  }
  void in_turn(bool engine_keeps) {
    for (const char* messages : {"abc", "xyz", "abcde", "xyz01", "abcdefg"}) turn(messages, engine_keeps);
  }

  prefix_memory memory_;
  int second_ = 0;
};

TEST_F(one_slot, what_lost_its_slot_is_gone_as_long_as_nothing_else_was_seen) {
  in_turn(false);
  EXPECT_EQ(memory_.known(prompt("xyz0123")), 0U);
  EXPECT_EQ(loses(memory_, "xyz0123", 1, second_), 700);
}

TEST_F(one_slot, an_engine_that_has_it_again_and_again_is_believed_to_keep_it) {
  in_turn(true);
  EXPECT_EQ(memory_.known(prompt("xyz0123")), 500U);
  EXPECT_EQ(loses(memory_, "xyz0123", 1, second_), 0) << "and then nobody loses anything";
  EXPECT_EQ(memory_.known(prompt("abcdefghi")), 700U) << "in the slot";
}

TEST_F(one_slot, once_is_not_enough) {
  for (const char* messages : {"abc", "xyz"}) turn(messages, true);
  turn("abcde", true);
  EXPECT_EQ(memory_.known(prompt("xyz01")), 0U);
}

TEST_F(one_slot, what_was_not_there_after_all_makes_the_room_smaller) {
  in_turn(true);
  turn("pqr", true);
  const prefix_belief thought = turn("xyz0123", false);
  EXPECT_EQ(thought.known, 500U);
  turn("mno", true);
  EXPECT_EQ(memory_.known(prompt("abcdefghi")), 0U) << "it lost its slot before";
}

TEST_F(one_slot, the_room_has_an_end) {
  in_turn(true);
  const std::string numbers = "0123456789";
  for (const char c : numbers) turn((std::string(1, c) + "abcd").c_str(), true);
  EXPECT_EQ(memory_.known(prompt("xyz0123")), 0U);
  EXPECT_EQ(memory_.known(prompt("8abcde")), 500U);
  EXPECT_GT(loses(memory_, "vwv", 1, second_), 0) << "the longest unused makes room";
  for (int i = 0; i < 100; ++i) turn(std::to_string(1000 + i).c_str(), true);
  EXPECT_LE(memory_.watched(), 32U);
}

TEST_F(one_slot, a_little_of_a_long_one_is_not_fetched) {
  in_turn(true);
  turn("abcdefghijklmnop", true);
  turn("xyz0123", true);
  EXPECT_EQ(memory_.known(prompt("aXXXXXXXXXXX")), 0U) << "a sixteenth of it";
}

TEST_F(one_slot, a_phone_whose_cache_never_helps_is_believed_less_and_less) {
  turn("abcdef", true);
  for (int i = 0; i < 10; ++i) memory_.learn(memory_.keep(prompt("abcdef"), 1, at(++second_)), 0);
  EXPECT_LT(memory_.known(prompt("abcdefg")), 60U);
  for (int i = 0; i < 10; ++i) memory_.learn(memory_.keep(prompt("abcdef"), 1, at(++second_)), 590);
  EXPECT_GT(memory_.known(prompt("abcdefg")), 540U);
}

TEST(prefix_memory_test, it_forgets) {
  prefix_memory m;
  m.keep(prompt("abc"), 1, at(1));
  m.forget();
  EXPECT_EQ(m.known(prompt("abc")), 0U);
}

}  // namespace
}  // namespace pocketfleet
