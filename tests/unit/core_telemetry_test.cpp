#include "pocketfleet/core/telemetry.hpp"

#include <gtest/gtest.h>

namespace pocketfleet {
namespace {

using namespace std::chrono_literals;

class rest_test : public testing::Test {
 protected:
  rest_kind after(const telemetry& t) {
    now += 10s;
    state.hear(t, now);
    return state.kind(now);
  }
  rest_kind at(double celsius) { return after({.temperature_c = celsius}); }
  rest_kind battery(double level, std::optional<bool> charging) {
    return after({.battery_level = level, .charging = charging});
  }
  rest_kind answer(milliseconds a_token, std::uint64_t tokens = 100) {
    now += 10s;
    state.learn({.answer_tokens = tokens, .answer_time = a_token * static_cast<std::int64_t>(tokens)}, now);
    return state.kind(now);
  }

  rest_settings settings{};
  time_point now{1h};
  rest state{settings};
};

TEST_F(rest_test, a_phone_that_says_nothing_works) {
  EXPECT_EQ(state.kind(now), rest_kind::none);
  EXPECT_EQ(after({}), rest_kind::none);
  EXPECT_EQ(state.reason(now), "");
}

TEST_F(rest_test, heat_stops_it_and_only_well_below_it_goes_on) {
  EXPECT_EQ(at(41.9), rest_kind::none);
  EXPECT_EQ(at(42.0), rest_kind::hard);
  EXPECT_EQ(state.reason(now), "too hot: 42 C; rests until 38 C");
  EXPECT_EQ(at(40.0), rest_kind::hard);
  EXPECT_EQ(at(38.1), rest_kind::hard);
  EXPECT_EQ(state.reason(now), "too hot: 38.1 C; rests until 38 C");
  EXPECT_EQ(at(38.0), rest_kind::none);
  EXPECT_EQ(at(41.9), rest_kind::none);
}

TEST_F(rest_test, an_unknown_temperature_changes_nothing_until_the_known_one_is_old) {
  EXPECT_EQ(at(45), rest_kind::hard);
  for (int i = 0; i < 30; ++i) EXPECT_EQ(after({}), rest_kind::hard);
  EXPECT_EQ(after({}), rest_kind::none) << "301 s old by now";
}

TEST_F(rest_test, cold_below_zero_reads_well) {
  settings.resume_c = -0.5;
  EXPECT_EQ(at(43), rest_kind::hard);
  EXPECT_EQ(state.reason(now), "too hot: 43 C; rests until -0.5 C");
}

TEST_F(rest_test, a_low_battery_is_spared_until_it_is_charged) {
  EXPECT_EQ(battery(16, false), rest_kind::none);
  EXPECT_EQ(battery(15, false), rest_kind::spare);
  EXPECT_EQ(state.reason(now), "battery at 15 % and not charging: spared");
  EXPECT_EQ(battery(24, false), rest_kind::spare);
  EXPECT_EQ(battery(25, false), rest_kind::none);
  EXPECT_EQ(battery(10, std::nullopt), rest_kind::spare) << "whether it charges is not known";
  EXPECT_EQ(battery(10, true), rest_kind::none);
}

TEST_F(rest_test, heat_goes_before_battery) {
  EXPECT_EQ(after({.temperature_c = 44, .battery_level = 3, .charging = false}), rest_kind::hard);
}

TEST_F(rest_test, three_slow_answers_in_a_row_spare_it_for_a_while) {
  EXPECT_EQ(answer(100ms), rest_kind::none);
  EXPECT_EQ(answer(210ms), rest_kind::none);
  EXPECT_EQ(answer(210ms), rest_kind::none);
  EXPECT_EQ(answer(190ms), rest_kind::none) << "not slower than half";
  EXPECT_EQ(answer(210ms), rest_kind::none);
  EXPECT_EQ(answer(210ms), rest_kind::none);
  EXPECT_EQ(answer(210ms), rest_kind::spare);
  EXPECT_NE(state.reason(now), "");
  now += 119s;
  EXPECT_EQ(state.kind(now), rest_kind::spare);
  now += 1s;
  EXPECT_EQ(state.kind(now), rest_kind::none);
}

TEST_F(rest_test, being_seen_cool_ends_it_earlier) {
  answer(100ms);
  for (int i = 0; i < 3; ++i) answer(300ms);
  EXPECT_EQ(at(39), rest_kind::spare);
  EXPECT_EQ(at(37.5), rest_kind::none);
}

TEST_F(rest_test, short_answers_and_those_without_times_say_nothing) {
  answer(100ms);
  for (int i = 0; i < 9; ++i) EXPECT_EQ(answer(900ms, 15), rest_kind::none);
  for (int i = 0; i < 9; ++i) EXPECT_EQ(answer(0ms), rest_kind::none);
}

TEST_F(rest_test, a_phone_that_stays_slow_is_believed_in_the_end) {
  answer(100ms);
  int rests = 0;
  for (int i = 0; i < 300; ++i) {
    now += 200s;
    if (answer(300ms) == rest_kind::spare) ++rests;
  }
  EXPECT_GT(rests, 0);
  EXPECT_LT(rests, 8);
}

}  // namespace
}  // namespace pocketfleet
