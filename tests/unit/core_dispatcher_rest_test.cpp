// What phones say of themselves, and who gets the requests then.
#include <gmock/gmock.h>

#include "core_dispatcher_helpers.hpp"

namespace pocketfleet {
namespace {

using namespace std::chrono_literals;
using namespace testing_dispatcher;
using testing::HasSubstr;
using testing::SizeIs;

class dispatcher_rest_test : public dispatcher_test {
 protected:
  static phone_config with_id(const std::string& name, const std::string& host = {}) {
    phone_config c = phone_named(name);
    c.id = "pf-" + name;
    if (!host.empty()) c.host = host;
    return c;
  }
  std::vector<granted> says(const std::string& name, const telemetry& reads, seconds interval = 60s) {
    return d_->hear("pf-" + name, reads, interval, now_);
  }
  /// Who gets the next of `n` requests, one after the other.
  std::string next(int n = 4) {
    std::string out;
    for (int i = 0; i < n; ++i) {
      const grant g = take();
      out += g.phone->name;
      settle(g);
    }
    return out;
  }
};

TEST_F(dispatcher_rest_test, a_hot_phone_gets_nothing_new_and_finishes_what_it_has) {
  begin_up({with_id("a"), with_id("b")});
  const grant running = take();
  EXPECT_EQ(running.phone->name, "a");
  says("a", {.temperature_c = 43});
  EXPECT_FALSE(status("a").healthy);
  EXPECT_THAT(status("a").reason, HasSubstr("too hot"));
  settle(running);
  EXPECT_EQ(next(), "bbbb");
  says("a", {.temperature_c = 37});
  EXPECT_THAT(next(), HasSubstr("a"));
}

TEST_F(dispatcher_rest_test, who_waits_is_served_when_a_phone_is_cool_again) {
  begin_up({with_id("a"), with_id("b")});
  says("a", {.temperature_c = 43});
  take();
  ASSERT_EQ(asked(), "queued");
  EXPECT_THAT(says("a", {.temperature_c = 30}), SizeIs(1));
}

TEST_F(dispatcher_rest_test, when_all_are_hot_there_is_none_for_a_minute) {
  begin_up({with_id("a"), with_id("b")});
  says("a", {.temperature_c = 43});
  says("b", {.temperature_c = 43});
  const error why = refused();
  EXPECT_EQ(why.code, errc::no_phone);
  EXPECT_EQ(why.retry_after, 60s);
}

TEST_F(dispatcher_rest_test, a_spared_phone_works_when_the_others_are_busy) {
  begin_up({with_id("a"), with_id("b")});
  says("a", {.battery_level = 5});
  EXPECT_TRUE(status("a").healthy);
  EXPECT_EQ(next(), "bbbb");
  take();
  EXPECT_EQ(asked(), "a");
}

TEST_F(dispatcher_rest_test, a_spared_phone_goes_before_a_suspect_and_takes_rescues) {
  begin_up({with_id("a"), with_id("b")});
  says("a", {.battery_level = 5});
  run("b", 1, verdict::failure);
  EXPECT_EQ(next(2), "aa");
  want rescue;
  rescue.which = turn::rescue;
  EXPECT_EQ(asked(rescue), "a");
}

TEST_F(dispatcher_rest_test, a_phone_that_falls_silent_is_asked_last) {
  begin_up({with_id("a"), with_id("b")});
  says("a", {}, 10s);
  now_ += 30s;
  EXPECT_FALSE(status("a").quiet);
  now_ += 1s;
  EXPECT_TRUE(status("a").quiet);
  EXPECT_TRUE(status("a").healthy);
  EXPECT_EQ(next(), "bbbb");
  take();
  EXPECT_EQ(asked(), "a");
  EXPECT_FALSE(status("b").quiet) << "it has never said anything";
}

TEST_F(dispatcher_rest_test, nobody_is_spared_where_all_are) {
  begin_up({with_id("a"), with_id("b")});
  says("a", {.battery_level = 5});
  says("b", {.battery_level = 5});
  EXPECT_EQ(next(), "abab");
}

TEST_F(dispatcher_rest_test, a_phone_that_got_slow_is_spared) {
  begin_up({with_id("a"), with_id("b")});
  const auto answer = [&](milliseconds a_token) {
    want w;
    w.only = id("a");
    const grant g = take(w);
    d_->settle(g, verdict::success, now_, {.answer_tokens = 20, .answer_time = a_token * 20});
  };
  answer(100ms);
  for (int i = 0; i < 3; ++i) answer(250ms);
  EXPECT_EQ(status("a").rests, rest_kind::spare);
  EXPECT_EQ(next(), "bbbb");
}

TEST_F(dispatcher_rest_test, two_answers_at_once_are_slower_and_say_nothing) {
  auto wide = with_id("a");
  wide.max_concurrency = 2;
  begin_up({wide});
  const auto both = [&](milliseconds a_token) {
    const grant one = take();
    const grant two = take();
    for (const grant& g : {one, two})
      d_->settle(g, verdict::success, now_, {.answer_tokens = 20, .answer_time = a_token * 20});
  };
  const grant alone = take();
  d_->settle(alone, verdict::success, now_, {.answer_tokens = 20, .answer_time = 2s});
  for (int i = 0; i < 9; ++i) both(300ms);
  EXPECT_EQ(status("a").rests, rest_kind::none);
}

TEST_F(dispatcher_rest_test, a_phone_that_moves_is_looked_at_anew_and_stays_as_hot_as_it_was) {
  begin_up({with_id("a", "old")});
  says("a", {.temperature_c = 44});
  const grant running = [&] {
    says("a", {.temperature_c = 30});
    const grant g = take();
    says("a", {.temperature_c = 44});
    return g;
  }();
  d_->configure(std::vector{with_id("a", "new")}, now_);
  const auto all = d_->status(now_);
  ASSERT_THAT(all, SizeIs(2)) << "the old address drains";
  EXPECT_TRUE(all[0].draining);
  EXPECT_EQ(all[1].config.host, "new");
  EXPECT_EQ(all[1].state, health::unknown);
  EXPECT_EQ(all[1].rests, rest_kind::hard);
  settle(running);
  EXPECT_THAT(d_->status(now_), SizeIs(1));
  up("a");
  says("a", {.temperature_c = 30});
  EXPECT_EQ(take().phone->host, "new");
}

TEST_F(dispatcher_rest_test, another_phone_at_the_same_address_is_another_phone) {
  begin_up({with_id("a", "here")});
  says("a", {.temperature_c = 44});
  d_->configure(std::vector{with_id("b", "here")}, now_);
  EXPECT_EQ(status("b").state, health::unknown);
  EXPECT_EQ(status("b").rests, rest_kind::none);
}

TEST_F(dispatcher_rest_test, an_id_given_later_changes_nothing) {
  begin_up({phone_named("a")});
  auto named = phone_named("a");
  named.id = "pf-a";
  d_->configure(std::vector{named}, now_);
  EXPECT_EQ(status("a").state, health::up);
  says("a", {.temperature_c = 20.5});
  EXPECT_EQ(status("a").reads->temperature_c, 20.5);
  EXPECT_EQ(status("a").heard_ago, 0s);
}

}  // namespace
}  // namespace pocketfleet
