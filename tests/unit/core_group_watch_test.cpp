// What a group's supervisor does, told by its events: no process, no port, no clock.
#include "pocketfleet/core/group_watch.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pocketfleet {
namespace {

using enum group_fault;
using what = group_action::what;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr std::size_t a = 0;
constexpr std::size_t b = 1;
constexpr std::size_t m = 2;
const group_action start_a{what::start, a};
const group_action start_b{what::start, b};
const group_action start_m{what::start, m};
const group_action kill_a{what::kill, a};
const group_action kill_b{what::kill, b};
const group_action kill_m{what::kill, m};

/// Two workers and a master, and time that goes on when it is told to.
struct group : testing::Test {
  group_limits limits{};
  group_watch watch{2, limits};
  time_point now{};
  group_look look = well();

  static group_look well() {
    group_look l;
    l.ready = true;
    l.workers.resize(2);
    for (auto& w : l.workers) {
      w.state = process_state::running;
      w.clients = 1;
    }
    l.master.state = process_state::running;
    return l;
  }

  /// Looks every second for as long, or until something is to be done.
  group_watch::actions after(duration time) {
    for (duration passed{0}; passed < time; passed += seconds{1}) {
      now += seconds{1};
      if (auto out = watch.looked(look, now); !out.empty()) return out;
    }
    return {};
  }
  void settle() { EXPECT_THAT(after(limits.settled + seconds{2}), IsEmpty()); }

  /// From the workers' start, which has been told, to a group that serves.
  void come_up() {
    watch.listening(a, now);
    watch.listening(b, now);
    EXPECT_THAT(watch.tick(now), ElementsAre(start_m));
    look = well();
    EXPECT_THAT(watch.looked(look, now), IsEmpty());
    EXPECT_EQ(watch.phase(), group_phase::serving);
  }
  void serve() {
    EXPECT_THAT(watch.begin(now), ElementsAre(start_a, start_b));
    come_up();
  }
  group_watch::actions paused() {
    now += limits.longest_pause;
    return watch.tick(now);
  }
};

TEST_F(group, the_master_is_started_when_all_workers_listen) {
  EXPECT_THAT(watch.begin(now), ElementsAre(start_a, start_b));
  watch.listening(b, now);
  EXPECT_THAT(watch.tick(now), IsEmpty());
  watch.listening(a, now);
  EXPECT_THAT(watch.tick(now), ElementsAre(start_m));
  look.ready = false;
  EXPECT_THAT(watch.looked(look, now), IsEmpty());
  EXPECT_FALSE(watch.usable());
  look.ready = true;
  watch.looked(look, now);
  EXPECT_TRUE(watch.usable());
}

TEST_F(group, a_worker_that_died_is_started_before_the_master) {
  serve();
  EXPECT_THAT(watch.exited(a, {}, now), ElementsAre(kill_m));
  EXPECT_FALSE(watch.usable());
  EXPECT_EQ(watch.fault(), worker_dead);
  EXPECT_THAT(paused(), IsEmpty()) << "the master has not ended yet";
  watch.exited(m, {}, now);
  EXPECT_THAT(paused(), ElementsAre(start_a)) << "the other one serves the next master";
  EXPECT_THAT(watch.tick(now), IsEmpty());
  watch.listening(a, now);
  EXPECT_THAT(watch.tick(now), ElementsAre(start_m));
  watch.looked(look, now);
  EXPECT_TRUE(watch.usable());
  EXPECT_EQ(watch.fault(), none);
  ASSERT_EQ(watch.events().size(), 1U);
  EXPECT_EQ(watch.events()[0].healed, now);
}

TEST_F(group, a_master_that_aborts_over_a_dead_worker_is_not_to_blame) {
  serve();
  watch.exited(m, {}, now);
  EXPECT_EQ(watch.fault(), master_dead);
  watch.exited(b, {}, now + milliseconds{30});
  EXPECT_EQ(watch.fault(), worker_dead);
  EXPECT_EQ(watch.whose_fault(), b);
  EXPECT_EQ(watch.events().size(), 1U);
  EXPECT_EQ(watch.members()[m].failures, 0U);
  EXPECT_THAT(paused(), ElementsAre(start_b));
}

TEST_F(group, a_dead_master_leaves_its_workers) {
  serve();
  EXPECT_THAT(watch.exited(m, {}, now), IsEmpty());
  EXPECT_EQ(watch.fault(), master_dead);
  now += seconds{1};
  EXPECT_THAT(watch.tick(now), IsEmpty()) << "the workers' turn: they run";
  EXPECT_THAT(watch.tick(now), ElementsAre(start_m));
}

TEST_F(group, a_stopped_worker_is_unusable_at_once_and_replaced_soon) {
  serve();
  look.workers[b].state = process_state::stopped;
  EXPECT_THAT(after(seconds{1}), IsEmpty());
  EXPECT_FALSE(watch.usable());
  look.workers[b].state = process_state::running;  // goes on, and nothing is lost
  EXPECT_THAT(after(seconds{10}), IsEmpty());
  EXPECT_TRUE(watch.usable());
  look.workers[b].state = process_state::stopped;
  EXPECT_THAT(after(seconds{10}), ElementsAre(kill_m, kill_b));
  EXPECT_EQ(watch.fault(), worker_frozen);
  EXPECT_EQ(watch.whose_fault(), b);
}

TEST_F(group, a_stopped_master_is_not_taken_for_one_that_hangs) {
  serve();
  look.master.state = process_state::stopped;
  look.answers = false;
  now += limits.stall;  // the question to it took so long
  EXPECT_THAT(after(seconds{1}), IsEmpty());
  EXPECT_THAT(after(seconds{10}), ElementsAre(kill_m));
  EXPECT_EQ(watch.fault(), master_frozen);
}

TEST_F(group, tokens_that_stand_mean_a_link_that_is_down) {
  serve();
  look.busy = true;
  for (int i = 0; i < 100; ++i) {
    ++look.progress;
    EXPECT_THAT(after(seconds{1}), IsEmpty());
  }
  look.workers[a].unheard = true;
  EXPECT_THAT(after(limits.stall + seconds{2}), ElementsAre(kill_m, kill_a, kill_b));
  EXPECT_EQ(watch.fault(), link_down);
  EXPECT_EQ(watch.whose_fault(), a);
}

TEST_F(group, a_worker_without_a_client_has_vanished_from_its_master) {
  serve();
  look.busy = true;
  look.workers[b].clients = 0;
  EXPECT_THAT(after(limits.stall + seconds{2}), ElementsAre(kill_m, kill_a, kill_b));
  EXPECT_EQ(watch.fault(), master_hung);
  EXPECT_EQ(watch.whose_fault(), b);
}

TEST_F(group, a_master_that_tells_nothing_hangs) {
  serve();
  look.answers = false;
  EXPECT_THAT(after(limits.stall + seconds{2}), ElementsAre(kill_m, kill_a, kill_b));
  EXPECT_EQ(watch.fault(), master_hung);
  EXPECT_EQ(watch.whose_fault(), m);
}

TEST_F(group, an_idle_group_may_stand_for_ever) {
  serve();
  EXPECT_THAT(after(std::chrono::hours{1}), IsEmpty());
  look.busy = true;  // only from here on is there something that could move
  EXPECT_THAT(after(limits.stall - seconds{2}), IsEmpty());
}

TEST_F(group, who_computes_is_not_stuck) {
  serve();
  look.busy = true;
  milliseconds spent{1};
  for (int i = 0; i < 300; ++i) {
    look.workers[a].cpu = spent += milliseconds{900};
    ASSERT_THAT(after(seconds{1}), IsEmpty());
  }
  for (int i = 0; i < 15; ++i) {
    look.workers[a].cpu = spent += milliseconds{20};  // no more than answering takes
    ASSERT_THAT(after(seconds{1}), IsEmpty());
  }
  EXPECT_THAT(after(seconds{10}), ElementsAre(kill_m, kill_a, kill_b));
}

TEST_F(group, a_master_that_does_not_get_ready_frees_its_workers) {
  watch.begin(now);
  watch.listening(a, now);
  watch.listening(b, now);
  watch.tick(now);
  look.ready = false;
  look.workers[b].clients = 2;
  EXPECT_THAT(after(limits.ready + seconds{2}), ElementsAre(kill_m, kill_a, kill_b));
  EXPECT_EQ(watch.fault(), master_stuck);
  EXPECT_EQ(watch.whose_fault(), b) << "it serves somebody else";
}

TEST_F(group, pauses_grow_and_a_member_is_lost_in_the_end) {
  serve();
  duration last{0};
  std::vector<group_action> done = watch.exited(a, {}, now);
  watch.exited(m, {}, now);
  unsigned tries = 1;
  while (std::find(done.begin(), done.end(), group_action{what::lost, a}) == done.end()) {
    ASSERT_LE(++tries, limits.restarts + 1);
    const time_point from = now;
    for (done.clear(); done.empty(); done = watch.tick(now)) now += milliseconds{100};
    EXPECT_THAT(done, ElementsAre(start_a));
    EXPECT_GE(now - from, last);
    EXPECT_LE(now - from, limits.longest_pause + milliseconds{100});
    last = now - from;
    done = watch.exited(a, {}, now);
  }
  EXPECT_EQ(tries, limits.restarts + 1);
  EXPECT_TRUE(watch.members()[a].lost);
  EXPECT_GT(last, 8 * limits.first_pause);
  EXPECT_THAT(paused(), ElementsAre(start_a)) << "it may come back";
}

TEST_F(group, who_serves_long_has_got_over_it) {
  serve();
  for (unsigned i = 0; i < 3 * limits.restarts; ++i) {
    watch.exited(a, {}, now);
    watch.exited(m, {}, now);
    now += seconds{1};
    ASSERT_THAT(watch.tick(now), ElementsAre(start_a)) << "a short pause each time";
    watch.listening(a, now);
    watch.tick(now);
    watch.looked(look, now);
    settle();
  }
}

TEST_F(group, another_version_is_named) {
  watch.begin(now);
  watch.listening(a, now);
  watch.listening(b, now);
  watch.tick(now);
  EXPECT_THAT(watch.exited(m, group_cause{version_mismatch, b}, now), ElementsAre(kill_b))
      << "it may be another one by then";
  EXPECT_EQ(watch.fault(), version_mismatch);
  EXPECT_EQ(watch.whose_fault(), b);
}

TEST_F(group, what_looked_like_another_version_was_a_worker_that_died) {
  watch.begin(now);
  watch.listening(a, now);
  watch.listening(b, now);
  watch.tick(now);
  watch.exited(m, group_cause{version_mismatch, m}, now);
  watch.exited(b, {}, now);
  EXPECT_EQ(watch.fault(), worker_dead);
  EXPECT_EQ(watch.whose_fault(), b);
  EXPECT_EQ(watch.events().size(), 1U);
}

TEST_F(group, it_ends_the_master_first_and_then_by_force) {
  serve();
  EXPECT_THAT(watch.end(now), ElementsAre(group_action{what::terminate, m}));
  EXPECT_THAT(watch.tick(now), IsEmpty());
  EXPECT_THAT(watch.exited(m, {}, now),
              ElementsAre(group_action{what::terminate, a}, group_action{what::terminate, b}));
  watch.exited(a, {}, now);
  EXPECT_THAT(watch.tick(now), IsEmpty());
  now += limits.grace;
  EXPECT_THAT(watch.tick(now), ElementsAre(kill_b));
  watch.exited(b, {}, now);
  EXPECT_EQ(watch.phase(), group_phase::ended);
}

TEST_F(group, a_master_that_does_not_end_is_killed) {
  serve();
  watch.end(now);
  now += limits.grace;
  EXPECT_THAT(watch.tick(now), ElementsAre(kill_m));
}

TEST_F(group, nothing_is_started_again_while_it_ends) {
  serve();
  watch.exited(a, {}, now);
  watch.end(now);
  watch.exited(m, {}, now);
  watch.exited(b, {}, now);
  EXPECT_EQ(watch.phase(), group_phase::ended);
  EXPECT_THAT(paused(), IsEmpty());
}

}  // namespace
}  // namespace pocketfleet
