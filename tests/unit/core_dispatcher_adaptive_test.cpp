// The policy that foresees: who waits for whom.
#include "core_dispatcher_helpers.hpp"

#include <set>

namespace pocketfleet::testing_dispatcher {
namespace {

class adaptive_test : public dispatcher_test {
 protected:
  void begin_adaptive(std::vector<phone_config> phones) {
    begin(phones, "adaptive");
    for (const auto& p : phones) {
      phone_report r = good({qwen}, p.engine);
      r.loaded.emplace({served_model(qwen)});
      d_->report(id(p.name), r, now_);
    }
  }
  /// It has said 100 tokens at that speed.
  void teach(const std::string& name, double tokens_per_second) {
    want w;
    w.only = id(name);
    const grant g = take(w);
    d_->settle(g, verdict::success, now_, spoken(tokens_per_second));
  }
  static measured spoken(double tokens_per_second) {
    measured m;
    m.answer_tokens = 100;
    m.answer_time = nanoseconds(static_cast<std::int64_t>(100e9 / tokens_per_second));
    m.prompt_tokens = 100;
    m.prompt_time = seconds{2};
    return m;
  }
};

TEST_F(adaptive_test, the_fast_phone_is_asked_first) {
  begin_adaptive({phone_named("slow"), phone_named("fast")});
  teach("slow", 5);
  teach("fast", 10);
  EXPECT_EQ(asked(), "fast");
  EXPECT_EQ(asked(), "slow");  // 20 s there, 10 + 10 s on the fast one
}

TEST_F(adaptive_test, a_batch_waits_for_a_fast_phone_rather_than_take_a_slow_one) {
  begin_adaptive({phone_named("slow"), phone_named("fast")});
  teach("slow", 2);
  teach("fast", 10);
  want w;
  w.how_soon = urgency::batch;
  const grant first = take(w);
  EXPECT_EQ(first.phone->name, "fast");
  EXPECT_EQ(asked(w), "queued");  // 20 s against 50
  EXPECT_EQ(asked(w), "queued");
  EXPECT_EQ(asked(w), "queued");  // 40 s against 50
  EXPECT_EQ(asked(w), "slow");    // not behind all of them
  now_ += seconds{10};
  const auto next = d_->settle(first, verdict::success, now_, spoken(10));
  ASSERT_EQ(next.size(), 1U);
  EXPECT_EQ(next[0].what.phone->name, "fast");
}

TEST_F(adaptive_test, if_the_fast_one_fails_who_waited_for_it_takes_the_slow_one) {
  begin_adaptive({phone_named("slow"), phone_named("fast")});
  teach("slow", 1);
  teach("fast", 10);
  const grant first = take();
  EXPECT_EQ(asked(), "queued");  // 10 + 10 s against 100
  const auto next = d_->report(first.phone->id, bad(health::down), now_);
  ASSERT_EQ(next.size(), 1U);
  EXPECT_EQ(next[0].what.phone->name, "slow");
}

TEST_F(adaptive_test, a_conversation_goes_on_where_it_was) {
  begin_adaptive({phone_named("a"), phone_named("b"), phone_named("c")});
  for (const char* name : {"a", "b", "c"}) teach(name, 10);
  want first;
  first.prompt_bytes = 4000;
  first.prefix = {{1, 100}, {2, 4000}};
  first.avoid = {id("a"), id("c")};
  settle(take(first));
  want next;
  next.prompt_bytes = 4200;
  next.prefix = {{1, 100}, {2, 4000}, {3, 4200}};
  EXPECT_EQ(asked(next), "b");
}

TEST_F(adaptive_test, what_a_phone_has_said_itself_it_need_not_read) {
  begin_adaptive({phone_named("a"), phone_named("b")});
  for (const char* name : {"a", "b"}) teach(name, 10);
  want first;
  first.prompt_bytes = 40;
  first.prefix = {{1, 40}};
  first.only = id("b");
  const grant g = take(first);
  EXPECT_TRUE(g.foreseen);
  d_->settle(g, verdict::success, now_, {}, {{1, 40}, {2, 4000}});
  want next;
  next.prompt_bytes = 4040;
  next.prefix = {{1, 40}, {2, 4000}, {3, 4040}};
  EXPECT_EQ(asked(next), "b");
}

TEST_F(adaptive_test, after_the_phone_was_down_its_cache_is_known_to_be_gone) {
  begin_adaptive({phone_named("a"), phone_named("b")});
  for (const char* name : {"a", "b"}) teach(name, 10);
  want w;
  w.prompt_bytes = 4000;
  w.prefix = {{1, 4000}};
  w.avoid = {id("a")};
  settle(take(w));
  w.avoid.clear();
  d_->report(id("b"), bad(health::down), now_);
  phone_report r = good();
  r.loaded.emplace({served_model(qwen)});
  d_->report(id("b"), r, now_);
  EXPECT_EQ(asked(w), "a");
}

TEST_F(adaptive_test, one_popular_beginning_does_not_flood_one_phone) {
  begin_adaptive({phone_named("a"), phone_named("b"), phone_named("c"), phone_named("d")});
  for (const char* name : {"a", "b", "c", "d"}) teach(name, 10);
  want w;
  w.prompt_bytes = 800;
  w.prefix = {{1, 400}, {2, 800}};
  std::set<std::string> served;
  for (std::uint64_t i = 0; i < 4; ++i) {
    w.prefix[1].hash = 10 + i;
    served.insert(asked(w));
  }
  EXPECT_EQ(served.size(), 4U);
}

TEST_F(adaptive_test, a_session_keeps_its_phone_unless_that_is_far_too_busy) {
  begin_adaptive({phone_named("a"), phone_named("b")});
  teach("a", 10);
  teach("b", 8);
  want w;
  w.session = 77;
  w.only = id("b");
  settle(take(w));
  w.only.reset();
  EXPECT_EQ(asked(w), "b");
  EXPECT_EQ(asked(w), "queued");  // 25 s there, 10 on the other
  w.session = 78;
  EXPECT_EQ(asked(w), "a");
}

TEST_F(adaptive_test, a_session_keeps_its_phone_under_any_policy) {
  begin_up({phone_named("a"), phone_named("b"), phone_named("c")});
  want w;
  w.session = 77;
  w.only = id("c");
  settle(take(w));
  w.only.reset();
  for (int i = 0; i < 5; ++i) {
    const grant g = take(w);
    EXPECT_EQ(g.phone->name, "c");
    settle(g);
  }
}

TEST_F(adaptive_test, a_weight_counts_a_little) {
  begin_adaptive({phone_named("a", 1, 1), phone_named("b", 1, 4)});
  teach("a", 10);
  teach("b", 9);  // a tenth slower, but two halvings heavier
  EXPECT_EQ(asked(), "b");
}

TEST_F(adaptive_test, a_warm_phone_gets_less_and_says_nothing_when_unknown) {
  begin_adaptive({phone_named("a"), phone_named("b")});
  for (const char* name : {"a", "b"}) teach(name, 10);
  EXPECT_EQ(asked(), "a");
  settle(held_.back());
  auto c = phone_named("a");
  c.id = "one";
  d_->configure(std::vector{c, phone_named("b")}, now_);
  telemetry t;
  t.temperature_c = 41;
  d_->hear("one", t, seconds{10}, now_);
  EXPECT_EQ(asked(), "b");
}

TEST_F(adaptive_test, speeds_are_shown) {
  begin_adaptive({phone_named("a")});
  EXPECT_TRUE(status("a").speeds.empty());
  teach("a", 10);
  const auto speeds = status("a").speeds;
  ASSERT_EQ(speeds.size(), 1U);
  EXPECT_EQ(speeds[0].model, qwen);
  EXPECT_NEAR(speeds[0].decode, 10, 1e-6);
  EXPECT_NEAR(speeds[0].prefill, 50, 1e-6);
  EXPECT_EQ(speeds[0].slowdown, 1);
}

// ---- a second phone

class hedging_test : public adaptive_test {
 protected:
  hedging_test() { settings_.hedging = true; }
  std::string spare(const want& w = {}) {
    auto got = d_->spare(w, now_);
    if (!got) return "none";
    EXPECT_TRUE(got->hedge);
    held_.push_back(*got);
    return got->phone->name;
  }
  static want but(phone_id not_there) {
    want w;
    w.avoid = {not_there};
    return w;
  }
};

TEST_F(hedging_test, an_idle_phone_is_to_spare_if_another_stays_free) {
  begin_up({phone_named("a"), phone_named("b"), phone_named("c")});
  const grant first = take();
  EXPECT_EQ(spare(but(first.phone->id)), "b");
  EXPECT_EQ(status("b").in_flight, 1U);
  EXPECT_EQ(spare(but(first.phone->id)), "none");  // only one is left
  settle(held_.back(), verdict::neutral);
  EXPECT_EQ(status("b").in_flight, 0U);
  EXPECT_EQ(spare(but(first.phone->id)), "b");
}

TEST_F(hedging_test, no_more_than_the_budget) {
  begin_up({phone_named("a"), phone_named("b"), phone_named("c"), phone_named("d"), phone_named("e")});
  const grant first = take();
  EXPECT_NE(spare(but(first.phone->id)), "none");
  EXPECT_EQ(spare(but(first.phone->id)), "none");
}

TEST_F(hedging_test, none_while_somebody_waits_and_none_that_has_just_failed) {
  begin_up({phone_named("a"), phone_named("b"), phone_named("c"), phone_named("d")});
  const grant first = take();
  run("b", 1, verdict::failure);
  EXPECT_EQ(spare(but(first.phone->id)), "c");
  settle(held_.back(), verdict::neutral);
  want w;
  w.only = first.phone->id;
  EXPECT_EQ(asked(w), "queued");
  EXPECT_EQ(spare(but(first.phone->id)), "none");
}

TEST_F(hedging_test, off_unless_it_is_wanted) {
  settings_.hedging = false;
  begin_up({phone_named("a"), phone_named("b"), phone_named("c")});
  EXPECT_EQ(spare(but(take().phone->id)), "none");
}

}  // namespace
}  // namespace pocketfleet::testing_dispatcher
