// Permits and the queue. What the fleet's state does to them: core_dispatcher_fleet_test.cpp.
#include "core_dispatcher_helpers.hpp"

#include <gmock/gmock.h>

#include <map>
#include <set>

namespace pocketfleet::testing_dispatcher {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

// ---- permits

TEST_F(dispatcher_test, a_free_phone_is_granted_at_once) {
  begin_up({phone_named("a")});
  const grant g = take();
  EXPECT_EQ(g.phone->name, "a");
  EXPECT_EQ(g.phone->host, "a.lan");
  EXPECT_EQ(g.phone->host_header, "a.lan:11434");
  EXPECT_EQ(g.phone->model, qwen);
  EXPECT_EQ(g.phone->engine, engine_kind::ollama);
  EXPECT_EQ(g.since, now_);
  EXPECT_EQ(status("a").in_flight, 1U);
  EXPECT_EQ(d_->in_flight(), 1U);
  EXPECT_TRUE(settle(g).empty());
  EXPECT_EQ(status("a").in_flight, 0U);
  EXPECT_EQ(d_->in_flight(), 0U);
}

TEST_F(dispatcher_test, an_ipv6_host_is_in_brackets_in_the_host_field) {
  auto c = phone_named("a");
  c.host = "fe80::1";
  c.port = 8080;
  begin_up({c});
  EXPECT_EQ(take().phone->host_header, "[fe80::1]:8080");
}

TEST_F(dispatcher_test, a_phone_gets_as_many_as_it_has_permits) {
  begin_up({phone_named("a", 3)});
  EXPECT_EQ(asked(), "a");
  EXPECT_EQ(asked(), "a");
  EXPECT_EQ(asked(), "a");
  EXPECT_EQ(asked(), "queued");
  EXPECT_EQ(status("a").in_flight, 3U);
}

TEST_F(dispatcher_test, free_phones_share_by_weight) {
  begin_up({phone_named("a", 100, 5), phone_named("b", 100, 1), phone_named("c", 100, 1)});
  std::string order;
  for (int i = 0; i < 14; ++i) order += asked();
  EXPECT_EQ(order, "aabacaaaabacaa");
}

TEST_F(dispatcher_test, every_verdict_gives_the_permit_back) {
  begin_up({phone_named("a")});
  for (const auto how : {verdict::success, verdict::neutral, verdict::failure, verdict::unreachable}) {
    settle(take(), how);
    EXPECT_EQ(status("a").in_flight, 0U);
  }
}

// ---- the queue

TEST_F(dispatcher_test, waiters_are_served_first_come_first_served) {
  begin_up({phone_named("a")});
  grant g = take();
  for (int i = 0; i < 5; ++i) EXPECT_EQ(asked(), "queued");
  EXPECT_EQ(d_->waiting(), 5U);
  for (ticket expected = 2; expected <= 6; ++expected) {
    auto out = settle(g);
    ASSERT_THAT(out, SizeIs(1));
    EXPECT_EQ(out[0].waiter, expected);
    EXPECT_EQ(out[0].what.since, now_);
    g = out[0].what;
  }
  EXPECT_TRUE(settle(g).empty());
}

TEST_F(dispatcher_test, one_that_cannot_be_served_holds_up_nobody_behind_it) {
  begin_up({phone_named("a"), phone_named("b", 1, 1, "gemma:2b")});
  d_->report(id("b"), good({"gemma:2b"}), now_);
  const grant a = take(model(qwen));
  const grant b = take(model("gemma:2b"));
  ASSERT_EQ(asked(model(qwen)), "queued");        // 3
  ASSERT_EQ(asked(model("gemma:2b")), "queued");  // 4
  ASSERT_EQ(asked(model(qwen)), "queued");        // 5
  auto out = settle(b);
  ASSERT_THAT(out, SizeIs(1));
  EXPECT_EQ(out[0].waiter, 4U);
  out = settle(a);
  ASSERT_THAT(out, SizeIs(1));
  EXPECT_EQ(out[0].waiter, 3U);
}

TEST_F(dispatcher_test, a_waiter_is_bound_to_no_phone_until_one_is_free) {
  begin_up({phone_named("a", 1, 100), phone_named("b", 1, 1)});
  const grant first = take();
  const grant second = take();
  ASSERT_EQ(asked(), "queued");
  const grant& light = first.phone->name == "b" ? first : second;
  const auto out = settle(light);
  ASSERT_THAT(out, SizeIs(1));
  EXPECT_EQ(out[0].what.phone->name, "b") << "the one that came free, however heavy the other is";
}

TEST_F(dispatcher_test, a_full_queue_refuses) {
  settings_.queue_capacity = 2;
  begin_up({phone_named("a")});
  const grant g = take();
  EXPECT_EQ(asked(), "queued");
  EXPECT_EQ(asked(), "queued");
  EXPECT_EQ(refused().code, errc::queue_full);
  EXPECT_EQ(d_->waiting(), 2U);
  EXPECT_THAT(settle(g), SizeIs(1));
  EXPECT_EQ(asked(), "queued") << "a place has come free";
}

TEST_F(dispatcher_test, without_a_queue_only_free_phones_serve) {
  settings_.queue_capacity = 0;
  begin_up({phone_named("a")});
  const grant g = take();
  EXPECT_EQ(refused().code, errc::queue_full);
  settle(g);
  EXPECT_EQ(asked(), "a");
}

TEST_F(dispatcher_test, a_full_queue_says_when_to_come_back_from_the_measured_rate) {
  settings_.queue_capacity = 4;
  begin_up({phone_named("a"), phone_named("b")});
  for (int i = 0; i < 4; ++i) {  // each request holds its phone for ten seconds
    const grant g = take();
    now_ += seconds{10};
    settle(g);
  }
  take();
  take();
  for (int i = 0; i < 4; ++i) ASSERT_EQ(asked(), "queued");
  // Two permits, ten seconds each: the fifth in line is served after 25 s.
  EXPECT_EQ(refused().retry_after, seconds{25});
}

TEST_F(dispatcher_test, the_measured_rate_follows_the_phones) {
  settings_.queue_capacity = 1;
  begin_up({phone_named("a")});
  const auto held_for = [&](seconds time) {
    const grant g = take();
    now_ += time;
    settle(g);
  };
  const auto advice = [&] {
    const grant g = take();
    const ticket waiter = last_ticket_ + 1;
    EXPECT_EQ(asked(), "queued");
    const seconds told = refused().retry_after;
    d_->cancel(waiter);
    settle(g, verdict::neutral);
    return told;
  };
  held_for(seconds{10});
  EXPECT_EQ(advice(), seconds{20});
  held_for(seconds{20});
  EXPECT_GT(advice(), seconds{20}) << "slower than before";
  EXPECT_LT(advice(), seconds{30}) << "but one answer is not all";
  for (int i = 0; i < 50; ++i) held_for(seconds{2});
  EXPECT_LE(advice(), seconds{5}) << "what was long ago no longer counts";
}

TEST_F(dispatcher_test, the_advice_to_come_back_stays_within_bounds) {
  settings_.queue_capacity = 1;
  begin_up({phone_named("a")});
  grant g = take();
  ASSERT_EQ(asked(), "queued");
  EXPECT_EQ(refused().retry_after, seconds{1}) << "nothing is measured yet";
  now_ += std::chrono::hours{1};
  const auto out = settle(g);
  ASSERT_EQ(asked(), "queued");
  EXPECT_EQ(refused().retry_after, seconds{60});
}

TEST_F(dispatcher_test, only_whole_answers_are_measured) {
  settings_.queue_capacity = 1;
  begin_up({phone_named("a")});
  for (const auto how : {verdict::failure, verdict::neutral}) {
    const grant g = take();
    now_ += seconds{100};
    settle(g, how);
  }
  take();
  ASSERT_EQ(asked(), "queued");
  EXPECT_EQ(refused().retry_after, seconds{1});
}

TEST_F(dispatcher_test, one_who_leaves_the_queue_is_never_served) {
  begin_up({phone_named("a")});
  const grant g = take();
  ASSERT_EQ(asked(), "queued");  // 2
  ASSERT_EQ(asked(), "queued");  // 3
  EXPECT_TRUE(d_->cancel(2));
  EXPECT_FALSE(d_->cancel(2)) << "it has left already";
  EXPECT_EQ(d_->waiting(), 1U);
  const auto out = settle(g);
  ASSERT_THAT(out, SizeIs(1));
  EXPECT_EQ(out[0].waiter, 3U);
  EXPECT_FALSE(d_->cancel(3)) << "it has been served";
  EXPECT_FALSE(d_->cancel(99));
}

TEST_F(dispatcher_test, a_breaker_that_has_just_become_half_open_serves_the_queue_first) {
  begin_up({phone_named("a"), phone_named("b")});
  trip("b");
  take();
  ASSERT_EQ(asked(), "queued");
  const ticket first = last_ticket_;
  now_ += seconds{31};  // b may be tried again, and nobody has said so
  ASSERT_EQ(asked(), "queued") << "it came later than the one who waits";
  const auto out = d_->tick(now_);
  ASSERT_THAT(out, SizeIs(1));
  EXPECT_EQ(out[0].waiter, first);
}

// ---- which phones

TEST_F(dispatcher_test, phones_to_avoid_are_not_granted) {
  begin_up({phone_named("a"), phone_named("b"), phone_named("c")});
  want w;
  w.avoid = {id("a"), id("c")};
  EXPECT_EQ(asked(w), "b");
  EXPECT_EQ(asked(w), "queued") << "b is worth waiting for";
}

TEST_F(dispatcher_test, when_every_phone_is_to_be_avoided_waiting_does_not_help) {
  begin_up({phone_named("a"), phone_named("b")});
  want w;
  w.avoid = {id("a"), id("b")};
  EXPECT_EQ(refused(w).code, errc::no_phone);
}

TEST_F(dispatcher_test, one_phone_can_be_asked_for) {
  begin_up({phone_named("a"), phone_named("b")});
  want w;
  w.only = id("b");
  EXPECT_EQ(asked(w), "b");
  EXPECT_EQ(asked(w), "queued") << "a is free, but not asked for";
  EXPECT_EQ(asked(), "a");
}

TEST_F(dispatcher_test, models_are_compared_as_ollama_compares_them) {
  begin({phone_named("a", 1, 1, ""), phone_named("b", 1, 1, "")});
  d_->report(id("a"), good({"Qwen2.5"}), now_);
  d_->report(id("b"), good({"gemma:2b"}), now_);
  const grant g = take(model("qwen2.5:latest"));
  EXPECT_EQ(g.phone->name, "a");
  settle(g);
  EXPECT_EQ(refused(model("qwen2.5:7b")).code, errc::model_not_found);
}

TEST_F(dispatcher_test, without_a_name_any_model_serves) {
  begin({phone_named("a", 1, 1, "")});
  d_->report(id("a"), good({"gemma:2b", "phi:latest"}), now_);
  EXPECT_EQ(take().phone->model, "gemma:2b") << "the phone's first, where the file names none";
}

TEST_F(dispatcher_test, the_default_is_the_files_then_the_loaded_one) {
  begin({phone_named("a", 2, 1, "phi"), phone_named("b", 2, 1, "")});
  auto r = good({"gemma:2b", "phi:latest", "qwen:latest"});
  r.loaded = {"qwen:latest"};
  d_->report(id("a"), r, now_);
  d_->report(id("b"), r, now_);
  want w;
  w.only = id("a");
  EXPECT_EQ(take(w).phone->model, "phi");
  w.only = id("b");
  EXPECT_EQ(take(w).phone->model, "qwen:latest");
  EXPECT_THAT(take(w).phone->loaded, ElementsAre("qwen:latest"));
}

TEST_F(dispatcher_test, a_model_that_nobody_has_is_refused_with_those_there_are) {
  begin({phone_named("a", 1, 1, ""), phone_named("b", 1, 1, "")});
  d_->report(id("a"), good({"qwen:1b", "gemma:2b"}), now_);
  d_->report(id("b"), good({"gemma:2b", "phi:latest"}), now_);
  const error e = refused(model("llama:latest"));
  EXPECT_EQ(e.code, errc::model_not_found);
  EXPECT_THAT(e.message, HasSubstr("gemma:2b, phi:latest, qwen:1b")) << "each once, in order";
}

TEST_F(dispatcher_test, a_fleet_without_models_says_so) {
  begin({phone_named("a", 1, 1, "")});
  d_->report(id("a"), good({}), now_);
  EXPECT_THAT(refused(model("x:latest")).message, HasSubstr("there is none"));
}

TEST_F(dispatcher_test, a_model_that_an_unheard_phone_may_have_is_not_said_to_be_missing) {
  begin({phone_named("a", 1, 1, ""), phone_named("b", 1, 1, "")});
  d_->report(id("a"), good({"gemma:2b"}), now_);
  EXPECT_EQ(asked(model("llama:latest")), "queued") << "b has not been looked at yet";
  d_->report(id("b"), bad(health::down), now_);
  EXPECT_EQ(refused(model("llama:latest")).code, errc::no_phone) << "b is away, and may have it";
  d_->report(id("b"), good({"phi:latest"}), now_);
  EXPECT_EQ(refused(model("llama:latest")).code, errc::model_not_found);
}

TEST_F(dispatcher_test, what_ollama_lists_counts_more_than_what_the_file_says) {
  begin({phone_named("a", 1, 1, "phi")});
  d_->report(id("a"), good({"gemma:2b"}), now_);
  EXPECT_EQ(refused(model("phi:latest")).code, errc::model_not_found);
}

TEST_F(dispatcher_test, llama_server_answers_to_the_files_name_and_to_its_own) {
  begin({phone_named("a", 2, 1, "Qwen", engine_kind::llama_server)});
  d_->report(id("a"), good({"/data/q4.gguf"}, engine_kind::llama_server), now_);
  EXPECT_EQ(asked(model("qwen:latest")), "a");
  EXPECT_EQ(asked(model("/data/q4.gguf")), "a");
  EXPECT_EQ(refused(model("gemma:2b")).code, errc::model_not_found);
}

// ---- the retry budget

TEST_F(dispatcher_test, retries_are_bounded_by_what_is_in_flight_and_waiting) {
  settings_.retry_floor = 1;
  begin_up({phone_named("a", 40)});
  for (int i = 0; i < 19; ++i) take();
  want again;
  again.which = turn::retry;
  for (int i = 0; i < 4; ++i) take(again);  // a fifth of what runs: of 19, 20, 21, 22
  EXPECT_EQ(asked(again), "queued") << "though the phone is free";
  EXPECT_EQ(asked(), "a") << "which a first try may use meanwhile";
}

TEST_F(dispatcher_test, a_retry_that_is_answered_makes_room_for_the_next) {
  settings_.retry_floor = 1;
  begin_up({phone_named("a", 4)});
  want again;
  again.which = turn::retry;
  auto first = take(again);
  ASSERT_EQ(asked(again), "queued");
  EXPECT_THAT(d_->answered(first, now_), SizeIs(1));
  EXPECT_THAT(d_->answered(first, now_), SizeIs(0)) << "it counts once";
}

TEST_F(dispatcher_test, later_tries_go_before_those_who_wait_for_their_first) {
  settings_.queue_capacity = 1;
  begin_up({phone_named("a")});
  const auto held = take();
  ASSERT_EQ(asked(), "queued");
  want rescue;
  rescue.which = turn::rescue;
  ASSERT_EQ(asked(rescue), "queued") << "it was let in before: the queue's bound is for new ones";
  const auto rescued = last_ticket_;
  const auto out = settle(held);
  ASSERT_THAT(out, SizeIs(1));
  EXPECT_EQ(out[0].waiter, rescued);
}

TEST_F(dispatcher_test, a_rescue_waits_for_a_phone_that_is_gone) {
  begin_up({phone_named("a"), phone_named("b")});
  d_->report(id("a"), bad(health::down), now_);
  d_->report(id("b"), bad(health::down), now_);
  want w;
  EXPECT_EQ(refused(w).code, errc::no_phone);
  w.which = turn::rescue;
  w.avoid = {id("a")};
  EXPECT_EQ(asked(w), "queued");
  EXPECT_THAT(up("a"), SizeIs(0)) << "that one has failed it";
  EXPECT_THAT(up("b"), SizeIs(1));
  w.avoid = {id("a"), id("b")};
  EXPECT_EQ(refused(w).code, errc::no_phone) << "no other is left";
}

TEST_F(dispatcher_test, an_answer_goes_on_only_with_the_very_same_model) {
  begin_up({phone_named("a"), phone_named("b"), phone_named("c")});
  auto report = good();
  report.models = {served_model{"other-name", "digest 1"}, served_model{qwen, "digest 2"}};
  d_->report(id("b"), report, now_);
  want w;
  w.identity = "digest 1";
  EXPECT_EQ(take(w).phone->name, "b") << "whatever it is called there";
  w.identity = "digest 3";
  EXPECT_NE(refused(w).code, errc::aborted);
}

// ---- suspects

TEST_F(dispatcher_test, a_phone_that_has_just_failed_is_the_last_choice) {
  begin_up({phone_named("a", 8), phone_named("b", 8)});
  for (int i = 0; i < 2; ++i) {
    const auto g = take();
    settle(g, g.phone->name == "a" ? verdict::failure : verdict::success);
  }
  for (int i = 0; i < 6; ++i) EXPECT_EQ(asked(), "b");
  up("a");
  const std::set<std::string> now{asked(), asked()};
  EXPECT_THAT(now, SizeIs(2)) << "seen well, it is as good as the other";
}

TEST_F(dispatcher_test, a_first_try_takes_a_suspect_when_the_others_are_busy_and_a_later_one_waits) {
  begin_up({phone_named("a"), phone_named("b")});
  const auto g = take();
  settle(g, verdict::unreachable);
  const auto busy = take();
  ASSERT_NE(busy.phone->name, g.phone->name);
  want again;
  again.which = turn::rescue;
  EXPECT_EQ(asked(again), "queued");
  EXPECT_EQ(asked(), g.phone->name);
  EXPECT_THAT(settle(busy), SizeIs(1));
}

TEST_F(dispatcher_test, a_suspect_that_answers_is_none) {
  begin_up({phone_named("a"), phone_named("b")});
  const auto g = take();
  settle(g, verdict::failure);
  const auto other = take();
  const auto again = take();
  ASSERT_EQ(again.phone->name, g.phone->name);
  settle(again);
  want later;
  later.which = turn::rescue;
  EXPECT_EQ(asked(later), g.phone->name);
  settle(other);
}

// ---- one trial

TEST_F(dispatcher_test, what_began_before_the_breaker_opened_is_no_trial) {
  settings_.breaker.failures = 2;
  begin_up({phone_named("a", 4)});
  const auto old = take();
  const auto second = take();
  const auto third = take();
  settle(second, verdict::failure);
  settle(third, verdict::failure);
  ASSERT_EQ(status("a").breaker, breaker_state::open);
  now_ += settings_.breaker.open_time;
  ASSERT_EQ(status("a").breaker, breaker_state::half_open);
  EXPECT_EQ(asked(), "queued") << "one at a time, whenever it began";
  EXPECT_THAT(settle(old, verdict::failure), SizeIs(1));
  EXPECT_EQ(status("a").breaker, breaker_state::half_open) << "its failure belongs to the time before";
}

}  // namespace
}  // namespace pocketfleet::testing_dispatcher
