#include "pocketfleet/core/breaker.hpp"

#include <gtest/gtest.h>

namespace pocketfleet {
namespace {

using state = breaker_state;

/// A breaker with a clock that stands still unless it is told to go on.
class breaker_test : public testing::Test {
 protected:
  void request(verdict v) {
    ASSERT_TRUE(b_.allows(now_));
    b_.begin(now_);
    b_.end(v, now_, random_);
  }
  void requests(unsigned n, verdict v) {
    for (unsigned i = 0; i < n; ++i) request(v);
  }
  /// From open to the moment of the trial.
  void rest() {
    ASSERT_EQ(b_.state(now_), state::open);
    now_ = b_.open_until();
  }
  /// Open, half-open, closed.
  void fall_and_rise() {
    requests(settings_.failures, verdict::failure);
    rest();
    requests(settings_.successes_to_close, verdict::success);
    ASSERT_EQ(b_.state(now_), state::closed);
  }
  double open_seconds() const { return std::chrono::duration<double>(b_.open_until() - now_).count(); }

  breaker_settings settings_{};
  breaker b_{settings_};
  time_point now_{seconds{10'000}};
  std::minstd_rand random_{1};
};

TEST_F(breaker_test, a_new_one_is_closed_and_lets_everything_through) {
  EXPECT_EQ(b_.state(now_), state::closed);
  EXPECT_EQ(b_.openings(), 0U);
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(b_.allows(now_));
    b_.begin(now_);
  }
}

TEST_F(breaker_test, opens_at_the_fifth_failure_in_a_row) {
  requests(4, verdict::failure);
  EXPECT_EQ(b_.state(now_), state::closed);
  request(verdict::failure);
  EXPECT_EQ(b_.state(now_), state::open);
  EXPECT_FALSE(b_.allows(now_));
  EXPECT_EQ(b_.openings(), 1U);
}

TEST_F(breaker_test, opens_at_the_third_failed_connect_in_a_row) {
  requests(2, verdict::unreachable);
  EXPECT_EQ(b_.state(now_), state::closed);
  request(verdict::unreachable);
  EXPECT_EQ(b_.state(now_), state::open);
}

TEST_F(breaker_test, failures_with_successes_between_never_open_it) {
  for (int i = 0; i < 50; ++i) {
    requests(4, verdict::failure);
    request(verdict::success);
    requests(2, verdict::unreachable);
    request(verdict::success);
  }
  EXPECT_EQ(b_.state(now_), state::closed);
}

TEST_F(breaker_test, a_failure_that_was_connected_begins_the_count_of_connects_anew) {
  requests(2, verdict::unreachable);
  request(verdict::failure);
  EXPECT_EQ(b_.state(now_), state::closed);
  request(verdict::unreachable);
  EXPECT_EQ(b_.state(now_), state::closed) << "one connect in a row";
  request(verdict::unreachable);
  EXPECT_EQ(b_.state(now_), state::open) << "five failures of either kind in a row";
}

TEST_F(breaker_test, neutral_neither_counts_nor_breaks_the_row) {
  requests(4, verdict::failure);
  requests(20, verdict::neutral);
  EXPECT_EQ(b_.state(now_), state::closed);
  request(verdict::failure);
  EXPECT_EQ(b_.state(now_), state::open);
}

TEST_F(breaker_test, verdicts_that_come_while_open_change_nothing) {
  for (int i = 0; i < 8; ++i) b_.begin(now_);
  for (int i = 0; i < 5; ++i) b_.end(verdict::failure, now_, random_);
  const auto until = b_.open_until();
  b_.end(verdict::failure, now_, random_);
  b_.end(verdict::success, now_, random_);
  b_.end(verdict::unreachable, now_, random_);
  EXPECT_EQ(b_.open_until(), until);
  EXPECT_EQ(b_.openings(), 1U);
  EXPECT_EQ(b_.state(now_), state::open);
}

TEST_F(breaker_test, is_open_until_its_time_and_half_open_then) {
  requests(5, verdict::failure);
  const auto until = b_.open_until();
  EXPECT_EQ(b_.state(until - nanoseconds{1}), state::open);
  EXPECT_FALSE(b_.allows(until - nanoseconds{1}));
  EXPECT_EQ(b_.state(until), state::half_open);
}

TEST_F(breaker_test, open_time_grows_by_thirty_seconds_up_to_three_hundred_with_jitter) {
  double least = 10;
  double most = 0;
  for (std::uint32_t seed = 1; seed <= 200; ++seed) {
    breaker b(settings_);
    std::minstd_rand random(seed);
    time_point now{seconds{1}};
    for (int i = 0; i < 5; ++i) b.end(verdict::failure, now, random);
    for (int n = 1; n <= 14; ++n) {
      ASSERT_EQ(b.state(now), state::open);
      const double base = std::min(30.0 * n, 300.0);
      const double share = std::chrono::duration<double>(b.open_until() - now).count() / base;
      ASSERT_GE(share, 0.8) << "opening " << n;
      ASSERT_LE(share, 1.2) << "opening " << n;
      least = std::min(least, share);
      most = std::max(most, share);
      now = b.open_until();
      b.begin(now);
      b.end(verdict::failure, now, random);
    }
  }
  EXPECT_LT(least, 0.82) << "the jitter spreads downwards";
  EXPECT_GT(most, 1.18) << "the jitter spreads upwards";
}

TEST_F(breaker_test, the_same_seed_gives_the_same_opening) {
  breaker other(settings_);
  std::minstd_rand random(1);
  for (int i = 0; i < 5; ++i) other.end(verdict::failure, now_, random);
  requests(5, verdict::failure);
  EXPECT_EQ(other.open_until(), b_.open_until());
}

TEST_F(breaker_test, without_jitter_the_time_is_exact) {
  settings_.jitter = 0;
  requests(5, verdict::failure);
  EXPECT_DOUBLE_EQ(open_seconds(), 30);
  rest();
  request(verdict::failure);
  EXPECT_DOUBLE_EQ(open_seconds(), 60);
}

TEST_F(breaker_test, half_open_lets_exactly_one_through_at_a_time) {
  requests(5, verdict::failure);
  rest();
  ASSERT_TRUE(b_.allows(now_));
  b_.begin(now_);
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(b_.allows(now_ + seconds{i}));
  b_.end(verdict::success, now_, random_);
  EXPECT_EQ(b_.state(now_), state::half_open) << "one success is not enough";
  EXPECT_TRUE(b_.allows(now_));
  b_.begin(now_);
  EXPECT_FALSE(b_.allows(now_));
}

TEST_F(breaker_test, two_successes_close_it) {
  requests(5, verdict::failure);
  rest();
  requests(2, verdict::success);
  EXPECT_EQ(b_.state(now_), state::closed);
  requests(4, verdict::failure);
  EXPECT_EQ(b_.state(now_), state::closed) << "the count has begun anew";
}

TEST_F(breaker_test, a_failed_trial_opens_it_for_longer) {
  settings_.jitter = 0;
  requests(5, verdict::failure);
  rest();
  request(verdict::failure);
  EXPECT_EQ(b_.state(now_), state::open);
  EXPECT_EQ(b_.openings(), 2U);
  EXPECT_DOUBLE_EQ(open_seconds(), 60);
}

TEST_F(breaker_test, a_failure_after_the_first_good_trial_opens_it_again_and_two_more_are_needed) {
  requests(5, verdict::failure);
  rest();
  request(verdict::success);
  request(verdict::failure);
  EXPECT_EQ(b_.state(now_), state::open);
  rest();
  request(verdict::success);
  EXPECT_EQ(b_.state(now_), state::half_open) << "the success before the failure no longer counts";
  request(verdict::success);
  EXPECT_EQ(b_.state(now_), state::closed);
}

TEST_F(breaker_test, a_neutral_trial_gives_its_place_back_without_a_verdict) {
  requests(5, verdict::failure);
  rest();
  for (int i = 0; i < 10; ++i) {
    request(verdict::neutral);
    EXPECT_EQ(b_.state(now_), state::half_open);
    EXPECT_TRUE(b_.allows(now_));
  }
  request(verdict::success);
  request(verdict::neutral);
  EXPECT_EQ(b_.state(now_), state::half_open) << "it is no second success either";
  request(verdict::success);
  EXPECT_EQ(b_.state(now_), state::closed);
}

TEST_F(breaker_test, reachable_gives_what_connects_have_opened_its_trial_at_once) {
  requests(3, verdict::unreachable);
  ASSERT_EQ(b_.state(now_), state::open);
  b_.reachable(now_);
  EXPECT_EQ(b_.state(now_), state::half_open);
  EXPECT_TRUE(b_.allows(now_));
}

TEST_F(breaker_test, reachable_does_not_shorten_an_opening_by_failures) {
  requests(5, verdict::failure);
  const auto until = b_.open_until();
  b_.reachable(now_);
  EXPECT_EQ(b_.state(now_), state::open);
  EXPECT_EQ(b_.open_until(), until);
}

TEST_F(breaker_test, reachable_looks_at_what_opened_it_last) {
  requests(3, verdict::unreachable);
  rest();
  request(verdict::failure);  // connected, but no good
  b_.reachable(now_);
  EXPECT_EQ(b_.state(now_), state::open);
}

TEST_F(breaker_test, reachable_changes_nothing_while_closed_or_half_open) {
  b_.reachable(now_);
  EXPECT_EQ(b_.state(now_), state::closed);
  requests(3, verdict::unreachable);
  rest();
  b_.begin(now_);
  b_.reachable(now_);
  EXPECT_FALSE(b_.allows(now_)) << "the trial under way is still the only one";
}

TEST_F(breaker_test, one_that_never_opened_has_no_slow_start) {
  EXPECT_DOUBLE_EQ(b_.ramp(now_), 1.0);
  EXPECT_DOUBLE_EQ(b_.ramp(time_point{}), 1.0);
}

TEST_F(breaker_test, slow_start_goes_from_a_tenth_to_all_of_it) {
  fall_and_rise();
  EXPECT_DOUBLE_EQ(b_.ramp(now_), 0.1);
  EXPECT_DOUBLE_EQ(b_.ramp(now_ + seconds{3}), 0.1);
  EXPECT_DOUBLE_EQ(b_.ramp(now_ + seconds{15}), 0.5);
  EXPECT_DOUBLE_EQ(b_.ramp(now_ + milliseconds{29'700}), 0.99);
  EXPECT_DOUBLE_EQ(b_.ramp(now_ + seconds{30}), 1.0);
  EXPECT_DOUBLE_EQ(b_.ramp(now_ + seconds{3000}), 1.0);
  double before = 0;
  for (int i = 0; i <= 300; ++i) {
    const double share = b_.ramp(now_ + milliseconds{i * 100});
    EXPECT_GE(share, before);
    before = share;
  }
}

TEST_F(breaker_test, soon_after_closing_the_next_opening_is_longer) {
  settings_.jitter = 0;
  fall_and_rise();
  now_ += seconds{60};
  request(verdict::success);
  requests(5, verdict::failure);
  EXPECT_DOUBLE_EQ(open_seconds(), 60);
}

TEST_F(breaker_test, a_phone_that_was_well_for_long_begins_with_the_short_time_again) {
  settings_.jitter = 0;
  fall_and_rise();
  now_ += settings_.max_open_time + seconds{1};
  request(verdict::success);
  requests(5, verdict::failure);
  EXPECT_DOUBLE_EQ(open_seconds(), 30);
}

TEST_F(breaker_test, an_idle_phone_does_not_prove_itself) {
  settings_.jitter = 0;
  fall_and_rise();
  now_ += seconds{3600};
  requests(5, verdict::failure);
  EXPECT_DOUBLE_EQ(open_seconds(), 60);
}

TEST(breaker, states_have_names) {
  EXPECT_EQ(to_string(state::closed), "closed");
  EXPECT_EQ(to_string(state::open), "open");
  EXPECT_EQ(to_string(state::half_open), "half-open");
}

}  // namespace
}  // namespace pocketfleet
