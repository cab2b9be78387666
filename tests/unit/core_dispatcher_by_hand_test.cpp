// What an operator does to phones while requests run: drain, breaker, weight, permits.
#include <gmock/gmock.h>

#include "core_dispatcher_helpers.hpp"

namespace pocketfleet::testing_dispatcher {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

phone_config with_id(const std::string& name, const std::string& host, const std::string& id) {
  auto c = phone_named(name);
  c.host = host;
  c.id = id;
  return c;
}

// ---- drain

TEST_F(dispatcher_test, a_drained_phone_finishes_what_it_has_and_gets_nothing_new) {
  begin_up({phone_named("a", 2), phone_named("b", 2)});
  want on_a;
  on_a.only = id("a");
  const grant running = take(on_a);
  d_->drain("a", true, now_);
  EXPECT_EQ(asked(), "b");
  EXPECT_EQ(asked(), "b");
  EXPECT_EQ(asked(), "queued") << "rather than a's second permit";
  EXPECT_EQ(status("a").in_flight, 1U);
  EXPECT_TRUE(status("a").drained);
  EXPECT_FALSE(status("a").draining) << "it is still in the fleet";
  EXPECT_FALSE(status("a").healthy);
  EXPECT_EQ(status("a").reason, "drained by hand; its last requests are being finished");
  EXPECT_THAT(settle(running), IsEmpty()) << "the one who waits does not get it";
  EXPECT_EQ(status("a").in_flight, 0U);
  EXPECT_EQ(status("a").reason, "drained by hand");
}

TEST_F(dispatcher_test, a_fleet_is_of_use_while_one_phone_of_it_is_healthy) {
  begin({phone_named("a"), phone_named("b")});
  EXPECT_FALSE(d_->any_healthy(now_)) << "not looked at yet";
  up("a");
  EXPECT_TRUE(d_->any_healthy(now_));
  d_->drain("a", true, now_);
  EXPECT_FALSE(d_->any_healthy(now_));
  up("b");
  EXPECT_TRUE(d_->any_healthy(now_));
  d_->hold_breaker_open("b", true, now_);
  EXPECT_FALSE(d_->any_healthy(now_));
  d_->hold_breaker_open("b", false, now_);
  EXPECT_TRUE(d_->any_healthy(now_));
  d_->configure({}, now_);
  EXPECT_FALSE(d_->any_healthy(now_));
}

TEST_F(dispatcher_test, undraining_serves_those_who_wait) {
  begin_up({phone_named("a", 2), phone_named("b")});
  d_->drain("a", true, now_);
  ASSERT_EQ(asked(), "b");
  ASSERT_EQ(asked(), "queued");
  ASSERT_EQ(asked(), "queued");
  ASSERT_EQ(asked(), "queued");
  const auto out = d_->drain("a", false, now_);
  ASSERT_THAT(out, SizeIs(2));
  EXPECT_EQ(out[0].waiter, 2U);
  EXPECT_EQ(out[0].what.phone->name, "a");
  EXPECT_TRUE(status("a").healthy);
  EXPECT_EQ(status("a").reason, "");
}

TEST_F(dispatcher_test, nobody_waits_for_a_fleet_that_is_drained) {
  begin_up({phone_named("a")});
  d_->drain("a", true, now_);
  EXPECT_EQ(refused().code, errc::no_phone);
  EXPECT_EQ(refused(model(qwen)).code, errc::no_phone) << "it has the model: it is not missing";
  want rescue;
  rescue.which = turn::rescue;
  EXPECT_EQ(refused(rescue).code, errc::no_phone);
  EXPECT_EQ(refused(model("gemma:2b")).code, errc::model_not_found);
}

TEST_F(dispatcher_test, a_drain_survives_looks_and_a_new_configuration) {
  begin_up({phone_named("a"), phone_named("b")});
  d_->drain("a", true, now_);
  EXPECT_THAT(up("a"), IsEmpty());
  d_->configure(std::vector{phone_named("b"), phone_named("a", 2, 3)}, now_);
  EXPECT_TRUE(status("a").drained);
  EXPECT_EQ(status("a").config.weight, 3U);
  EXPECT_EQ(asked(), "b");
  EXPECT_EQ(asked(), "queued");
}

TEST_F(dispatcher_test, a_drain_goes_with_the_phone_to_another_address) {
  begin_up({with_id("a", "10.0.0.1", "pf-a")});
  d_->drain("a", true, now_);
  d_->configure(std::vector{with_id("a", "10.0.0.2", "pf-a")}, now_);
  up("a");
  EXPECT_TRUE(status("a").drained);
  EXPECT_EQ(asked(), "no_phone");
}

TEST_F(dispatcher_test, a_drain_is_remembered_while_a_phone_with_an_id_is_away) {
  begin_up({with_id("a", "10.0.0.1", "pf-a"), phone_named("b")});
  d_->drain("a", true, now_);
  d_->configure(std::vector{phone_named("b")}, now_);
  ASSERT_FALSE(known("a"));
  d_->configure(std::vector{phone_named("b"), with_id("a", "10.0.0.9", "pf-a")}, now_);
  EXPECT_TRUE(status("a").drained);
  d_->drain("a", false, now_);
  d_->configure(std::vector{phone_named("b")}, now_);
  d_->configure(std::vector{phone_named("b"), with_id("a", "10.0.0.9", "pf-a")}, now_);
  EXPECT_FALSE(status("a").drained);
}

TEST_F(dispatcher_test, another_phone_at_the_address_of_one_that_was_drained_is_not) {
  begin_up({phone_named("a"), phone_named("b")});
  d_->drain("a", true, now_);
  d_->configure(std::vector{phone_named("b")}, now_);
  auto other = phone_named("c");
  other.host = "a.lan";
  d_->configure(std::vector{phone_named("b"), other}, now_);
  EXPECT_FALSE(status("c").drained);
}

TEST_F(dispatcher_test, by_hand_nothing_happens_to_a_phone_that_is_not_there) {
  begin_up({phone_named("a")});
  d_->drain("x", true, now_);
  d_->hold_breaker_open("x", true, now_);
  EXPECT_TRUE(status("a").healthy);
  EXPECT_FALSE(d_->status_named("x", now_));
  EXPECT_EQ(d_->status_named("a", now_)->config.host, "a.lan");
}

TEST_F(dispatcher_test, a_removed_phone_cannot_be_drained_any_more) {
  begin_up({phone_named("a"), phone_named("b")});
  const grant a = take();
  const grant b = take();
  const std::string first = a.phone->name;
  d_->configure(std::vector{phone_named(first == "a" ? "b" : "a")}, now_);
  d_->drain(first, true, now_);
  EXPECT_FALSE(status(first).drained);
  EXPECT_FALSE(d_->status_named(first, now_));
}

// ---- breaker

TEST_F(dispatcher_test, a_breaker_that_is_opened_by_hand_stays_open) {
  begin_up({phone_named("a", 2), phone_named("b", 8)});
  want on_a;
  on_a.only = id("a");
  const grant running = take(on_a);
  d_->hold_breaker_open("a", true, now_);
  EXPECT_EQ(asked(on_a), "no_phone");
  EXPECT_EQ(status("a").breaker, breaker_state::open);
  EXPECT_TRUE(status("a").breaker_held);
  EXPECT_EQ(status("a").reason, "its breaker was opened by hand");
  settle(running);
  now_ += seconds{100'000};
  d_->report(id("a"), bad(health::down), now_);
  up("a");
  d_->tick(now_);
  d_->configure(std::vector{phone_named("a", 2), phone_named("b", 8)}, now_);
  EXPECT_EQ(status("a").breaker, breaker_state::open);
  EXPECT_EQ(asked(on_a), "no_phone");
}

TEST_F(dispatcher_test, a_breaker_that_is_closed_by_hand_serves_at_once_with_all_its_permits) {
  begin_up({phone_named("a", 3)});
  trip("a");
  ASSERT_EQ(status("a").breaker, breaker_state::open);
  d_->hold_breaker_open("a", false, now_);
  EXPECT_EQ(status("a").breaker, breaker_state::closed);
  EXPECT_FALSE(status("a").suspect);
  EXPECT_EQ(status("a").permits, 3U) << "no slow start";
  EXPECT_EQ(asked(), "a");
}

TEST_F(dispatcher_test, closing_by_hand_counts_failures_anew) {
  begin_up({phone_named("a")});
  run("a", 4, verdict::failure);
  d_->hold_breaker_open("a", true, now_);
  d_->hold_breaker_open("a", false, now_);
  run("a", 4, verdict::failure);
  EXPECT_EQ(status("a").breaker, breaker_state::closed);
  run("a", 1, verdict::failure);
  EXPECT_EQ(status("a").breaker, breaker_state::open);
  EXPECT_FALSE(status("a").breaker_held) << "that was not by hand";
  now_ += seconds{31};
  EXPECT_EQ(status("a").breaker, breaker_state::half_open);
}

TEST_F(dispatcher_test, closing_by_hand_serves_those_who_wait) {
  begin_up({phone_named("a", 2), phone_named("b")});
  d_->hold_breaker_open("a", true, now_);
  ASSERT_EQ(asked(), "b");
  ASSERT_EQ(asked(), "queued");
  EXPECT_THAT(d_->hold_breaker_open("a", false, now_), SizeIs(1));
}

TEST_F(dispatcher_test, a_breaker_held_open_goes_with_the_phone) {
  begin_up({with_id("a", "10.0.0.1", "pf-a")});
  d_->hold_breaker_open("a", true, now_);
  d_->configure(std::vector{with_id("a", "10.0.0.2", "pf-a")}, now_);
  EXPECT_TRUE(status("a").breaker_held);
}

TEST_F(dispatcher_test, a_trial_that_runs_while_the_breaker_is_opened_by_hand_changes_nothing) {
  begin_up({phone_named("a")});
  trip("a");
  now_ += seconds{31};
  const grant trial = take();
  ASSERT_TRUE(trial.trial);
  d_->hold_breaker_open("a", true, now_);
  settle(trial, verdict::success);
  EXPECT_EQ(status("a").breaker, breaker_state::open);
  d_->hold_breaker_open("a", false, now_);
  EXPECT_EQ(asked(), "a");
}

// ---- weight and permits, by a new configuration

TEST_F(dispatcher_test, more_permits_serve_those_who_wait_at_once) {
  begin_up({phone_named("a")});
  ASSERT_EQ(asked(), "a");
  ASSERT_EQ(asked(), "queued");
  ASSERT_EQ(asked(), "queued");
  ASSERT_EQ(asked(), "queued");
  EXPECT_THAT(d_->configure(std::vector{phone_named("a", 3)}, now_), SizeIs(2));
}

TEST_F(dispatcher_test, fewer_permits_let_what_runs_go_on) {
  begin_up({phone_named("a", 3)});
  const grant first = take();
  const grant second = take();
  d_->configure(std::vector{phone_named("a", 1)}, now_);
  EXPECT_EQ(status("a").in_flight, 2U);
  ASSERT_EQ(asked(), "queued");
  EXPECT_THAT(settle(first), IsEmpty()) << "one still runs";
  EXPECT_THAT(settle(second), SizeIs(1));
}

TEST_F(dispatcher_test, a_new_weight_counts_from_the_next_request_on) {
  begin_up({phone_named("a", 100), phone_named("b", 100)});
  d_->configure(std::vector{phone_named("a", 100, 3), phone_named("b", 100)}, now_);
  std::string order;
  for (int i = 0; i < 8; ++i) order += asked();
  EXPECT_EQ(std::count(order.begin(), order.end(), 'a'), 6);
}

}  // namespace
}  // namespace pocketfleet::testing_dispatcher
