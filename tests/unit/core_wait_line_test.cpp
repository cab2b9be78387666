// The order in which those who wait are served.
#include "pocketfleet/core/wait_line.hpp"

#include <gtest/gtest.h>

#include <string>

namespace pocketfleet {
namespace {

class wait_line_test : public testing::Test {
 protected:
  /// A letter for each, by which they are told apart.
  void join(char who, std::uint64_t owner, urgency how_soon = urgency::interactive,
            turn which = turn::first) {
    want w;
    w.owner = owner;
    w.how_soon = how_soon;
    w.which = which;
    line_.join(static_cast<ticket>(who), w, now_);
  }
  std::string order() {
    std::string all;
    for (const auto& w : line_) all += static_cast<char>(w.who);
    return all;
  }
  char serve() {
    const char who = static_cast<char>(line_.begin()->who);
    line_.served(line_.begin());
    return who;
  }

  wait_line line_;
  time_point now_{seconds{1'000}};
};

TEST_F(wait_line_test, of_one_owner_first_come_is_first_served) {
  for (const char c : std::string("abcd")) join(c, 7);
  EXPECT_EQ(order(), "abcd");
}

TEST_F(wait_line_test, owners_take_turns) {
  for (const char c : std::string("abcd")) join(c, 1);
  join('x', 2);
  join('y', 2);
  join('z', 3);
  EXPECT_EQ(order(), "axzbycd");
}

TEST_F(wait_line_test, who_comes_later_takes_turns_from_then_on) {
  for (const char c : std::string("abcdef")) join(c, 1);
  EXPECT_EQ(serve(), 'a');
  EXPECT_EQ(serve(), 'b');
  EXPECT_EQ(serve(), 'c');
  join('x', 2);  // has saved up no turns for the time when it was not there
  join('y', 2);
  EXPECT_EQ(order(), "xdyef");
}

TEST_F(wait_line_test, a_batch_waits_for_who_is_interactive) {
  join('a', 1, urgency::batch);
  join('b', 1, urgency::batch);
  join('x', 2);
  join('y', 1);
  EXPECT_EQ(order(), "xyab");
}

TEST_F(wait_line_test, a_batch_does_not_wait_for_ever) {
  join('a', 1, urgency::batch);
  now_ += seconds{59};
  join('x', 2);
  EXPECT_EQ(order(), "xa");
  now_ += seconds{1};
  join('y', 3);
  EXPECT_EQ(order(), "xay");
}

TEST_F(wait_line_test, later_tries_go_first) {
  join('a', 1);
  join('r', 1, urgency::interactive, turn::retry);
  join('s', 1, urgency::batch, turn::rescue);
  join('b', 1);
  EXPECT_EQ(order(), "rsab");
}

TEST_F(wait_line_test, who_leaves_is_gone_once) {
  join('a', 1);
  join('b', 1);
  EXPECT_TRUE(line_.leave('a'));
  EXPECT_FALSE(line_.leave('a'));
  EXPECT_EQ(order(), "b");
}

}  // namespace
}  // namespace pocketfleet
