#include "pocketfleet/core/pace.hpp"

#include <gtest/gtest.h>

namespace pocketfleet {
namespace {

using namespace std::chrono_literals;

pace of(nanoseconds prompt_token, nanoseconds answer_token) {
  pace p;
  p.learn({.prompt_tokens = 10,
           .answer_tokens = 10,
           .prompt_time = prompt_token * 10,
           .answer_time = answer_token * 10});
  return p;
}

TEST(pace, a_phone_not_known_gets_the_whole_limit) {
  EXPECT_EQ(pace().first_token(1'000'000, 120s), 120s);
  EXPECT_EQ(pace().between_tokens(30s), 30s);
}

TEST(pace, a_short_prompt_on_a_known_phone_gets_less) {
  const auto p = of(20ms, 100ms);
  EXPECT_LT(p.first_token(100, 120s), 25s);
  EXPECT_GE(p.first_token(100, 120s), 20s);
}

TEST(pace, a_prompt_that_takes_longer_than_the_limit_gets_more) {
  // 4,000 tokens at 20 a second: 200 s of silence, and no reason to leave.
  EXPECT_GT(of(50ms, 100ms).first_token(16'000, 120s), 300s);
}

TEST(pace, silence_between_tokens_is_measured_by_what_a_token_takes) {
  EXPECT_EQ(of(1ms, 100ms).between_tokens(30s), 20s);
  EXPECT_EQ(of(1ms, 250ms).between_tokens(30s), 25s);
  EXPECT_EQ(of(1ms, 5s).between_tokens(30s), 30s) << "never over the setting";
  EXPECT_EQ(of(1ms, 100ms).between_tokens(2s), 2s) << "nor over a short one";
}

TEST(pace, slower_counts_at_once_and_faster_little_by_little) {
  auto p = of(10ms, 100ms);
  p.learn({.prompt_tokens = 1, .answer_tokens = 1, .prompt_time = 40ms, .answer_time = 400ms});
  EXPECT_EQ(p.prompt_token(), 40ms);
  EXPECT_EQ(p.answer_token(), 400ms);
  p.learn({.prompt_tokens = 1, .answer_tokens = 1, .prompt_time = 8ms, .answer_time = 80ms});
  EXPECT_EQ(p.prompt_token(), 36ms);
  EXPECT_EQ(p.answer_token(), 360ms);
}

TEST(pace, what_the_engine_does_not_say_changes_nothing) {
  auto p = of(10ms, 100ms);
  p.learn({});
  p.learn({.prompt_tokens = 5, .answer_tokens = 5});
  EXPECT_EQ(p.prompt_token(), 10ms);
  EXPECT_EQ(p.answer_token(), 100ms);
}

}  // namespace
}  // namespace pocketfleet
