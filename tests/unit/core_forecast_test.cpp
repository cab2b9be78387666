// Learned speed, and what is foretold from it.
#include "pocketfleet/core/forecast.hpp"

#include <gtest/gtest.h>

namespace pocketfleet {
namespace {

using std::chrono::milliseconds;

/// An answer of so many tokens at so many a second, after a prompt of so many at so many a second.
measured answer(std::uint64_t tokens, double rate, std::uint64_t prompt = 0, double read = 100,
                std::uint64_t cached = 0) {
  measured m;
  m.answer_tokens = tokens;
  m.answer_time = nanoseconds(static_cast<std::int64_t>(1e9 * static_cast<double>(tokens) / rate));
  m.prompt_tokens = prompt;
  m.cached_tokens = cached;
  m.prompt_time = nanoseconds(static_cast<std::int64_t>(1e9 * static_cast<double>(prompt - cached) / read));
  return m;
}

class learned_speed_test : public testing::Test {
 protected:
  void learn(const measured& m, double beside = 0) { speed_.learn(m, beside, now_); }
  double rate() const { return 1 / speed_.decode(now_); }

  learned_speed speed_;
  time_point now_{seconds{1'000}};
};

TEST_F(learned_speed_test, the_first_answer_is_believed) {
  learn(answer(100, 8, 200, 26));
  EXPECT_NEAR(rate(), 8, 1e-6);
  EXPECT_NEAR(1 / speed_.prefill(), 26, 1e-6);
  EXPECT_EQ(speed_.slowdown(now_), 1);
}

TEST_F(learned_speed_test, what_was_in_the_cache_was_not_read) {
  learn(answer(100, 8, 1000, 26, 900));
  EXPECT_NEAR(1 / speed_.prefill(), 26, 1e-6);
}

TEST_F(learned_speed_test, a_phone_that_throttles_is_noticed_within_two_answers) {
  for (int i = 0; i < 10; ++i) learn(answer(100, 10));
  learn(answer(100, 5));
  learn(answer(100, 5));
  EXPECT_LT(rate(), 6);
  EXPECT_LT(speed_.slowdown(now_), 0.6);
}

TEST_F(learned_speed_test, left_alone_it_cools_down_to_its_best) {
  for (int i = 0; i < 10; ++i) learn(answer(100, 10));
  for (int i = 0; i < 5; ++i) learn(answer(100, 5));
  const double hot = rate();
  now_ += seconds{420};
  EXPECT_GT(rate(), hot);
  now_ += seconds{7200};
  EXPECT_GT(rate(), 9);
}

TEST_F(learned_speed_test, a_short_answer_moves_little) {
  for (int i = 0; i < 10; ++i) learn(answer(100, 10));
  learn(answer(4, 2));
  EXPECT_GT(rate(), 7);
}

TEST_F(learned_speed_test, others_beside_are_not_the_phones_fault) {
  learn(answer(100, 10));
  learn(answer(100, 6.25), 1);
  EXPECT_NEAR(rate(), 10, 0.1);
}

TEST_F(learned_speed_test, what_an_engine_does_not_say_teaches_nothing) {
  learn({});
  EXPECT_EQ(speed_.decode(now_), 0);
  EXPECT_EQ(speed_.prefill(), 0);
  EXPECT_EQ(speed_.answers(), 0U);
}

class forecaster_test : public testing::Test {
 protected:
  double takes(phone_past& p, const want& w = {}, bool load = false) {
    return forecasts_.takes(p, "m", w, {.load = load}, now_).whole;
  }
  forecast begin(phone_past& p, const want& w = {}) {
    return forecasts_.begin(p, "m", w, {}, forecasts_.takes(p, "m", w, {}, now_), now_);
  }
  void serve(phone_past& p, const measured& m, const want& w = {}) {
    const forecast f = begin(p, w);
    forecasts_.end(p, f, m, 0, now_);
  }
  static want asking(std::uint64_t bytes, std::uint32_t limit = 0) {
    want w;
    w.prompt_bytes = bytes;
    w.answer_limit = limit;
    return w;
  }

  forecaster forecasts_;
  phone_past fast_;
  phone_past slow_;
  time_point now_{seconds{1'000}};
};

TEST_F(forecaster_test, prefill_and_decode_by_what_was_learned) {
  serve(fast_, answer(100, 10, 100, 50), asking(400));
  EXPECT_NEAR(takes(fast_, asking(400)), 100 / 50.0 + 100 / 10.0, 1e-6);
  EXPECT_NEAR(takes(fast_, asking(400, 20)), 100 / 50.0 + 20 / 10.0, 1e-6);
}

TEST_F(forecaster_test, an_unknown_phone_is_taken_for_the_fleets_best) {
  serve(slow_, answer(100, 2));
  serve(fast_, answer(100, 10));
  serve(slow_, answer(100, 2));
  phone_past unknown;
  EXPECT_NEAR(takes(unknown), takes(fast_), 1e-6);
  EXPECT_GT(takes(slow_), 4 * takes(fast_));
}

TEST_F(forecaster_test, what_the_phone_has_read_before_is_free) {
  serve(fast_, answer(100, 10, 1000, 50), asking(4000));
  want first = asking(4000);
  first.prefix = {{1, 2000}, {2, 4000}};
  want next = asking(4400);
  next.prefix = {{1, 2000}, {2, 4000}, {3, 4400}};
  const double cold = takes(fast_, next);
  begin(fast_, first);
  EXPECT_NEAR(cold - takes(fast_, next), 1000 / 50.0, 1e-6);
}

TEST_F(forecaster_test, an_engine_that_does_not_say_what_it_had_read_is_not_taken_for_a_faster_reader) {
  serve(fast_, answer(100, 10, 1000, 50), asking(4000));
  want w = asking(4000);
  w.prefix = {{1, 3600}, {2, 4000}};
  begin(fast_, w);
  measured m = answer(100, 10, 1000, 50, 900);  // a hundred of the thousand were read
  m.cached_tokens = 0;
  w.prefix[1].hash = 3;
  serve(fast_, m, w);
  EXPECT_NEAR(fast_.speeds(now_).front().prefill, 50, 1);
  m = answer(100, 10, 1000, 50);  // nothing of it was there after all
  w.prefix[1].hash = 4;
  serve(fast_, m, w);
  EXPECT_NEAR(fast_.speeds(now_).front().prefill, 50, 1);
}

TEST_F(forecaster_test, an_answer_is_read_with_its_prompt) {
  serve(fast_, answer(100, 10, 1000, 50), asking(4000));
  want w = asking(4000);
  w.prefix = {{1, 4000}};
  const forecast f = begin(fast_, w);
  forecasts_.end(fast_, f, answer(100, 10, 1000, 50), 0, now_, {{1, 4000}, {2, 4400}});
  want next = asking(4800);
  next.prefix = {{1, 4000}, {2, 4400}, {3, 4800}};
  const double with_answer = takes(fast_, next);
  next.prefix = {{1, 4000}, {7, 4400}, {3, 4800}};
  EXPECT_NEAR(takes(fast_, next) - with_answer, 100 / 50.0, 0.1);
}

/// Two conversations in turn in one slot; how fast their prompts are read shows what the engine keeps.
TEST_F(forecaster_test, an_engine_that_keeps_prompts_beside_its_slots_need_not_say_so) {
  serve(fast_, answer(100, 10, 1000, 50), asking(4000));
  serve(slow_, answer(100, 10, 1000, 50), asking(4000));
  want turn[2] = {asking(0), asking(0)};
  for (std::uint64_t i = 0; i < 8; ++i) {
    want& w = turn[i % 2];
    w.prompt_bytes += 2000;
    w.prefix.push_back({10 * (i % 2 + 1) + i, static_cast<std::uint32_t>(w.prompt_bytes)});
    const std::uint64_t tokens = w.prompt_bytes / 4;
    measured all = answer(100, 10, tokens, 50);
    measured last = answer(100, 10, tokens, 50, i < 2 ? 0 : tokens - 500);
    last.cached_tokens = 0;  // it does not say
    serve(slow_, all, w);
    serve(fast_, last, w);
  }
  want next = turn[0];
  next.prompt_bytes += 400;
  next.prefix.push_back({99, static_cast<std::uint32_t>(next.prompt_bytes)});
  EXPECT_NEAR(takes(slow_, next) - takes(fast_, next), 2000 / 50.0, 1);
  EXPECT_NEAR(fast_.speeds(now_).front().prefill, 50, 1);
}

TEST_F(forecaster_test, a_model_that_is_not_in_memory_is_read_first) {
  measured m = answer(100, 10);
  m.load_time = seconds{12};
  serve(fast_, m);
  EXPECT_NEAR(takes(fast_, {}, true) - takes(fast_), 12, 1e-6);
}

TEST_F(forecaster_test, a_permit_is_free_when_what_runs_is_thought_to_end) {
  serve(fast_, answer(100, 10));
  EXPECT_EQ(fast_.free_in(1, 1, now_), 0);
  const forecast f = begin(fast_);
  EXPECT_NEAR(fast_.free_in(1, 2, now_), 10, 1e-6);
  EXPECT_EQ(fast_.free_in(2, 3, now_), 0);
  now_ += seconds{4};
  EXPECT_NEAR(fast_.free_in(1, 4, now_), 6, 1e-6);
  now_ += seconds{16};  // twice as long as was thought: some more
  EXPECT_NEAR(fast_.free_in(1, 5, now_), 4, 1e-6);
  forecasts_.end(fast_, f, {}, 0, now_);
  EXPECT_EQ(fast_.free_in(1, 6, now_), 0);
}

TEST_F(forecaster_test, who_has_a_permit_in_mind_takes_it_for_the_rest_of_the_pass) {
  EXPECT_EQ(fast_.free_in(2, 1, now_), 0);
  fast_.place(7);
  EXPECT_EQ(fast_.free_in(2, 1, now_), 0);
  fast_.place(5);
  EXPECT_EQ(fast_.free_in(2, 1, now_), 5);
  EXPECT_EQ(fast_.free_in(2, 2, now_), 0);
}

TEST_F(forecaster_test, late_is_later_than_nineteen_of_twenty) {
  serve(fast_, answer(100, 10, 100, 50), asking(400));
  measured m = answer(100, 10, 100, 50);
  EXPECT_EQ(fast_.late_after(begin(fast_, asking(400))), duration{0});
  for (int i = 1; i <= 40; ++i) {
    m.first_token = milliseconds(i * 100);
    serve(fast_, m, asking(400));
  }
  const std::chrono::duration<double> late = fast_.late_after(begin(fast_, asking(400)));
  EXPECT_NEAR(late.count(), 3.9, 0.05);
  const std::chrono::duration<double> longer = fast_.late_after(begin(fast_, asking(4000)));
  EXPECT_GT(longer.count(), 6 * late.count());
}

}  // namespace
}  // namespace pocketfleet
