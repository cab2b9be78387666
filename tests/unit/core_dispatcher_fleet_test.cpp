// What reports, breakers and a new configuration do to permits and waiters.
#include "core_dispatcher_helpers.hpp"

#include <gmock/gmock.h>

namespace pocketfleet::testing_dispatcher {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

// ---- reports

TEST_F(dispatcher_test, requests_wait_for_a_phone_that_has_not_been_looked_at) {
  begin({phone_named("a")});
  EXPECT_EQ(status("a").reason, "not looked at yet");
  ASSERT_EQ(asked(), "queued");
  const auto out = up("a");
  ASSERT_THAT(out, SizeIs(1));
  EXPECT_EQ(out[0].waiter, 1U);
}

TEST_F(dispatcher_test, requests_wait_for_a_phone_that_loads_its_model) {
  begin_up({phone_named("a")});
  d_->report(id("a"), bad(health::loading, "loading its model"), now_);
  EXPECT_EQ(status("a").reason, "loading its model");
  EXPECT_FALSE(status("a").healthy);
  ASSERT_EQ(asked(), "queued");
  EXPECT_THAT(d_->tick(now_ + seconds{100}), IsEmpty());
  EXPECT_THAT(up("a"), SizeIs(1));
}

TEST_F(dispatcher_test, a_phone_that_is_down_gets_nothing) {
  begin_up({phone_named("a"), phone_named("b")});
  d_->report(id("a"), bad(health::down, "connection refused"), now_);
  EXPECT_FALSE(status("a").healthy);
  EXPECT_EQ(status("a").reason, "connection refused");
  EXPECT_EQ(asked(), "b");
  EXPECT_EQ(asked(), "queued");
}

TEST_F(dispatcher_test, with_all_phones_down_the_answer_is_no_and_when_to_come_back) {
  begin_up({phone_named("a"), phone_named("b")});
  for (const auto* name : {"a", "b"}) d_->report(id(name), bad(health::down), now_);
  const error e = refused();
  EXPECT_EQ(e.code, errc::no_phone);
  EXPECT_EQ(e.retry_after, settings_.probe_interval);
}

TEST_F(dispatcher_test, an_empty_fleet_has_no_phone) {
  begin({});
  EXPECT_EQ(refused().code, errc::no_phone);
  EXPECT_EQ(refused(model("x:latest")).code, errc::model_not_found);
}

TEST_F(dispatcher_test, what_a_report_does_not_mention_stays_known) {
  begin({phone_named("a", 4)});
  auto r = good();
  r.slots = 2;
  r.loaded = {qwen};
  d_->report(id("a"), r, now_);
  d_->report(id("a"), bad(health::down), now_);
  phone_report plain;
  plain.state = health::up;
  d_->report(id("a"), plain, now_);
  const auto s = status("a");
  EXPECT_EQ(s.engine, engine_kind::ollama);
  EXPECT_THAT(s.models, ElementsAre(qwen));
  EXPECT_THAT(s.loaded, ElementsAre(qwen));
  EXPECT_EQ(s.slots, 2U);
}

TEST_F(dispatcher_test, slots_lower_the_permits_and_never_raise_them) {
  begin_up({phone_named("a", 4)});
  auto r = good();
  for (const auto& [slots, permits] : {std::pair{2U, 2U}, {0U, 1U}, {9U, 4U}}) {
    r.slots = slots;
    d_->report(id("a"), r, now_);
    EXPECT_EQ(status("a").permits, permits) << slots;
  }
  r.slots = 2;
  d_->report(id("a"), r, now_);
  EXPECT_EQ(asked(), "a");
  EXPECT_EQ(asked(), "a");
  ASSERT_EQ(asked(), "queued");
  r.slots = 3;
  EXPECT_THAT(d_->report(id("a"), r, now_), SizeIs(1)) << "a slot more serves the one who waits";
}

TEST_F(dispatcher_test, a_report_of_a_phone_that_is_not_in_the_fleet_is_ignored) {
  begin_up({phone_named("a"), phone_named("b")});
  const auto was = id("b");
  const grant a = take(model(qwen));
  const grant b = take(model(qwen));
  d_->configure(std::vector{phone_named("a")}, now_);  // b drains
  ASSERT_EQ(asked(), "queued");
  EXPECT_THAT(d_->report(was, good(), now_), IsEmpty()) << "while it drains";
  d_->report(was, bad(health::down), now_);
  EXPECT_EQ(status("b").state, health::up) << "it stays as it was";
  settle(a.phone->name == "b" ? a : b);
  EXPECT_THAT(d_->report(was, good(), now_), IsEmpty()) << "when it is forgotten";
  EXPECT_THAT(d_->report(static_cast<phone_id>(77), good(), now_), IsEmpty()) << "one that never was";
  EXPECT_FALSE(known("b"));
}

// ---- breakers

TEST_F(dispatcher_test, a_phone_whose_breaker_is_open_gets_nothing) {
  begin_up({phone_named("a"), phone_named("b")});
  trip("a");
  EXPECT_EQ(status("a").breaker, breaker_state::open);
  EXPECT_FALSE(status("a").healthy);
  EXPECT_EQ(status("a").reason, "failed too often; resting");
  EXPECT_EQ(asked(), "b");
  EXPECT_EQ(asked(), "queued");
}

TEST_F(dispatcher_test, when_all_rest_the_first_to_be_tried_again_says_when_to_come_back) {
  begin_up({phone_named("a"), phone_named("b")});
  trip("a");
  now_ += seconds{12};
  trip("b");
  now_ += milliseconds{500};
  const error e = refused();
  EXPECT_EQ(e.code, errc::no_phone);
  EXPECT_EQ(e.retry_after, seconds{18}) << "a rests for 17.5 s more, b for 29.5 s";
}

TEST_F(dispatcher_test, a_long_rest_is_not_told_to_clients_in_full) {
  settings_.breaker.open_time = seconds{300};
  begin_up({phone_named("a")});
  trip("a");
  EXPECT_EQ(refused().retry_after, seconds{60});
}

TEST_F(dispatcher_test, of_a_hundred_waiters_a_half_open_phone_gets_one) {
  settings_.queue_capacity = 100;
  begin_up({phone_named("a", 8)});
  std::vector<grant> running;
  for (int i = 0; i < 8; ++i) running.push_back(take());
  for (int i = 0; i < 100; ++i) ASSERT_EQ(asked(), "queued");
  for (int i = 0; i < 4; ++i) {  // each failure lets the next one try
    auto out = settle(running[static_cast<std::size_t>(i)], verdict::failure);
    ASSERT_THAT(out, SizeIs(1));
    running.push_back(out[0].what);
  }
  for (std::size_t i = 4; i < running.size(); ++i) {
    EXPECT_THAT(settle(running[i], verdict::failure), IsEmpty()) << "it rests";
  }
  EXPECT_EQ(d_->waiting(), 96U);
  EXPECT_THAT(d_->tick(now_ + milliseconds{29'999}), IsEmpty());
  now_ += seconds{30};
  auto out = d_->tick(now_);
  ASSERT_THAT(out, SizeIs(1));
  EXPECT_EQ(status("a").permits, 1U);
  EXPECT_THAT(d_->tick(now_), IsEmpty());
  EXPECT_EQ(asked(), "queued");

  out = settle(out[0].what, verdict::neutral);
  ASSERT_THAT(out, SizeIs(1)) << "the client left: the next one is the trial";
  out = settle(out[0].what, verdict::failure);
  EXPECT_THAT(out, IsEmpty()) << "it rests again";
  EXPECT_THAT(d_->tick(now_ + seconds{59}), IsEmpty()) << "for longer";
  now_ += seconds{60};
  out = d_->tick(now_);
  ASSERT_THAT(out, SizeIs(1));
  out = settle(out[0].what);
  ASSERT_THAT(out, SizeIs(1)) << "the second trial";
  out = settle(out[0].what);
  ASSERT_THAT(out, SizeIs(1)) << "closed; slow start: one at a time";
  EXPECT_EQ(status("a").breaker, breaker_state::closed);
  EXPECT_EQ(status("a").permits, 1U);
  now_ += seconds{30};
  EXPECT_THAT(d_->tick(now_), SizeIs(7)) << "slow start is over: all eight permits";
}

TEST_F(dispatcher_test, requests_from_before_an_opening_hold_back_the_trial) {
  begin_up({phone_named("a", 2), phone_named("b")});
  want w;
  w.only = id("a");
  const grant old = take(w);
  run("a", 5, verdict::failure);
  take();  // b
  now_ += seconds{31};
  d_->tick(now_);
  EXPECT_EQ(asked(w), "queued") << "one at a time, whenever it began";
  EXPECT_THAT(settle(old, verdict::neutral), SizeIs(1));
}

TEST_F(dispatcher_test, slow_start_gives_one_permit_and_a_small_share) {
  settings_.queue_capacity = 0;
  begin_up({phone_named("a", 100), phone_named("b", 100)});
  trip("a");
  now_ += seconds{30};
  run("a", 2, verdict::success);
  now_ += seconds{3};  // a tenth of its weight
  unsigned a = 0;
  for (int i = 0; i < 110; ++i) {
    const grant g = take();
    a += g.phone->name == "a" ? 1U : 0U;
    settle(g);
  }
  EXPECT_NEAR(a, 10, 1);
  want w;
  w.only = id("a");
  take(w);
  EXPECT_EQ(refused(w).code, errc::queue_full) << "one permit";
}

TEST_F(dispatcher_test, a_phone_that_comes_back_is_tried_at_once_where_connects_had_failed) {
  begin_up({phone_named("a")});
  run("a", 3, verdict::unreachable);
  d_->report(id("a"), bad(health::down), now_);
  EXPECT_EQ(status("a").breaker, breaker_state::open);
  up("a");
  EXPECT_EQ(status("a").breaker, breaker_state::half_open);
  EXPECT_EQ(asked(), "a");
}

TEST_F(dispatcher_test, a_phone_that_comes_back_rests_on_where_its_answers_were_bad) {
  begin_up({phone_named("a")});
  trip("a");
  d_->report(id("a"), bad(health::down), now_);
  up("a");
  EXPECT_EQ(status("a").breaker, breaker_state::open);
}

// ---- a new configuration

TEST_F(dispatcher_test, a_new_file_keeps_the_state_of_known_phones) {
  begin_up({phone_named("a"), phone_named("b")});
  trip("b");
  const auto before = id("a");
  const grant g = take();
  d_->configure(std::vector{phone_named("c"), phone_named("b"), phone_named("a")}, now_);
  EXPECT_EQ(id("a"), before);
  EXPECT_EQ(status("a").in_flight, 1U);
  EXPECT_EQ(status("a").state, health::up);
  EXPECT_THAT(status("a").models, ElementsAre(qwen));
  EXPECT_EQ(status("b").breaker, breaker_state::open);
  EXPECT_EQ(status("c").state, health::unknown);
  settle(g);
  EXPECT_EQ(asked(), "a");
}

TEST_F(dispatcher_test, a_phone_is_known_by_host_and_port) {
  begin_up({phone_named("a")});
  auto renamed = phone_named("a");
  renamed.name = "kitchen";
  d_->configure(std::vector{renamed}, now_);
  EXPECT_EQ(take().phone->name, "kitchen");
  auto moved = renamed;
  moved.port = 8080;
  d_->configure(std::vector{moved}, now_);
  EXPECT_EQ(asked(), "queued") << "another port is another phone, not looked at yet";
}

TEST_F(dispatcher_test, a_new_phone_serves_those_who_wait_as_soon_as_it_is_up) {
  begin_up({phone_named("a")});
  take();
  ASSERT_EQ(asked(), "queued");
  EXPECT_THAT(d_->configure(std::vector{phone_named("a"), phone_named("b")}, now_), IsEmpty());
  const auto out = up("b");
  ASSERT_THAT(out, SizeIs(1));
  EXPECT_EQ(out[0].what.phone->name, "b");
}

TEST_F(dispatcher_test, a_removed_phone_drains_and_is_forgotten) {
  begin_up({phone_named("a", 2), phone_named("b")});
  want w;
  w.only = id("a");
  const grant first = take(w);
  const grant second = take(w);
  d_->configure(std::vector{phone_named("b")}, now_);
  EXPECT_TRUE(status("a").draining);
  EXPECT_FALSE(status("a").healthy);
  EXPECT_THAT(status("a").reason, HasSubstr("removed"));
  EXPECT_THAT(d_->targets(), SizeIs(1));
  EXPECT_EQ(asked(), "b");
  settle(first);
  EXPECT_EQ(asked(), "queued") << "its free permit is no longer given out";
  EXPECT_TRUE(known("a"));
  settle(second);
  EXPECT_FALSE(known("a"));
}

TEST_F(dispatcher_test, an_idle_phone_that_is_removed_is_forgotten_at_once) {
  begin_up({phone_named("a"), phone_named("b")});
  d_->configure(std::vector{phone_named("b")}, now_);
  EXPECT_FALSE(known("a"));
  d_->configure(std::vector{phone_named("a"), phone_named("b")}, now_);
  EXPECT_EQ(status("a").state, health::unknown) << "it is a new one";
}

TEST_F(dispatcher_test, a_phone_added_again_while_it_drains_goes_on) {
  begin_up({phone_named("a")});
  const auto was = id("a");
  const grant g = take();
  d_->configure(std::vector<phone_config>{}, now_);
  d_->configure(std::vector{phone_named("a")}, now_);
  EXPECT_EQ(id("a"), was);
  EXPECT_FALSE(status("a").draining);
  EXPECT_EQ(status("a").in_flight, 1U);
  EXPECT_EQ(asked(), "queued") << "its permit is still held";
  EXPECT_THAT(settle(g), SizeIs(1));
}

TEST_F(dispatcher_test, a_phone_added_again_serves_those_who_wait) {
  begin_up({phone_named("a", 2)});
  take();
  d_->configure(std::vector{phone_named("b")}, now_);
  ASSERT_EQ(asked(), "queued");
  const auto out = d_->configure(std::vector{phone_named("a", 2), phone_named("b")}, now_);
  ASSERT_THAT(out, SizeIs(1));
  EXPECT_EQ(out[0].what.phone->name, "a");
}

TEST_F(dispatcher_test, new_weights_and_permits_count_from_then_on) {
  begin_up({phone_named("a", 100), phone_named("b", 100)});
  d_->configure(std::vector{phone_named("a", 100, 3), phone_named("b", 100, 1)}, now_);
  std::string order;
  for (int i = 0; i < 8; ++i) order += asked();
  EXPECT_EQ(std::count(order.begin(), order.end(), 'a'), 6);

  begin_up({phone_named("a", 3)});
  std::vector<grant> held{take(), take(), take()};
  ASSERT_EQ(asked(), "queued");
  d_->configure(std::vector{phone_named("a", 1)}, now_);
  EXPECT_THAT(settle(held[0]), IsEmpty()) << "two are under way where one is allowed";
  EXPECT_THAT(settle(held[1]), IsEmpty());
  EXPECT_THAT(settle(held[2]), SizeIs(1));
  ASSERT_EQ(asked(), "queued");
  EXPECT_THAT(d_->configure(std::vector{phone_named("a", 2)}, now_), SizeIs(1)) << "a permit more";
}

TEST_F(dispatcher_test, an_engine_named_anew_counts_and_one_unnamed_is_looked_for) {
  begin_up({phone_named("a")});
  d_->configure(std::vector{phone_named("a", 1, 1, qwen, engine_kind::unknown)}, now_);
  EXPECT_EQ(asked(), "queued");
  EXPECT_THAT(up("a", engine_kind::llama_server), SizeIs(1));
  EXPECT_EQ(status("a").engine, engine_kind::llama_server);
}

TEST_F(dispatcher_test, the_policy_can_be_changed) {
  begin_up({phone_named("a", 10, 1), phone_named("b", 10, 9)});
  d_->use_policy(make_policy("least_loaded"));
  held_.push_back(take(model(qwen)));
  EXPECT_EQ(held_[0].phone->name, "b");
  EXPECT_EQ(asked(), "a") << "idle, so before the heavier one that is not";
}

}  // namespace
}  // namespace pocketfleet::testing_dispatcher
