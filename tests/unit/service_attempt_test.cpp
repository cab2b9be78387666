// What a try tells of its phone's speed.
#include "../../src/service/attempt.hpp"

#include <gtest/gtest.h>

namespace pocketfleet {
namespace {

using namespace std::chrono_literals;

/// Ten tokens, two seconds until the first and nine from there to the last; the engine says nothing of times.
attempt_result streamed() {
  attempt_result a{result<void>{}};
  a.counts.prompt_tokens = 30;
  a.counts.answer_tokens = 10;
  a.pieces = 10;
  a.first_token = 2s;
  a.spoke = 9s;
  return a;
}

TEST(measured_in, what_the_engine_says) {
  attempt_result a = streamed();
  a.counts.prompt_time = 1s;
  a.counts.answer_time = 5s;
  a.counts.cached_tokens = 7;
  a.counts.load_time = 3s;
  const measured m = measured_in(a);
  EXPECT_EQ(m.prompt_tokens, 30U);
  EXPECT_EQ(m.answer_tokens, 10U);
  EXPECT_EQ(m.prompt_time, 1s);
  EXPECT_EQ(m.answer_time, 5s);
  EXPECT_EQ(m.cached_tokens, 7U);
  EXPECT_EQ(m.load_time, 3s);
  EXPECT_EQ(m.first_token, 2s);
}

TEST(measured_in, where_it_says_nothing_how_the_answer_came) {
  const measured m = measured_in(streamed());
  EXPECT_EQ(m.prompt_time, 2s);
  EXPECT_EQ(m.answer_time, 10s) << "nine seconds are nine tokens: the first belongs to the prompt";
  EXPECT_EQ(m.first_token, 2s);
}

TEST(measured_in, half_of_what_it_says_is_believed_alone) {
  attempt_result a = streamed();
  a.counts.answer_time = 5s;
  EXPECT_EQ(measured_in(a).prompt_time, 0s);
  a = streamed();
  a.counts.prompt_time = 1s;
  EXPECT_EQ(measured_in(a).answer_time, 0s);
}

TEST(measured_in, a_model_that_was_loaded_first_hides_how_long_the_prompt_took) {
  attempt_result a = streamed();
  a.loads = true;
  EXPECT_EQ(measured_in(a).prompt_time, 0s);
  EXPECT_EQ(measured_in(a).answer_time, 10s);
}

TEST(measured_in, clients_that_hold_it_up_hide_its_speed) {
  attempt_result a = streamed();
  a.held_up = true;
  EXPECT_EQ(measured_in(a).prompt_time, 0s);
  EXPECT_EQ(measured_in(a).answer_time, 0s);
}

TEST(measured_in, text_that_comes_at_once_shows_nothing) {
  attempt_result a = streamed();
  a.pieces = 1;
  EXPECT_EQ(measured_in(a).answer_time, 0s);
  EXPECT_EQ(measured_in(a).prompt_time, 0s);
  a.pieces = 4;  // of ten tokens
  EXPECT_EQ(measured_in(a).answer_time, 0s);
  a.pieces = 5;
  EXPECT_GT(measured_in(a).answer_time, 0s);
}

TEST(measured_in, a_failure_shows_nothing) {
  attempt_result a = streamed();
  a.how = error(errc::connection_lost);
  const measured m = measured_in(a);
  EXPECT_EQ(m.first_token, 0s);
  EXPECT_EQ(m.prompt_time, 0s);
  EXPECT_EQ(m.answer_time, 0s);
}

}  // namespace
}  // namespace pocketfleet
