// A group is as well as the worst off of its members: the dispatcher by what their agents say.
#include "pocketfleet/core/condition.hpp"

#include <gmock/gmock.h>

#include "core_dispatcher_helpers.hpp"

namespace pocketfleet {
namespace {

using namespace std::chrono_literals;
using namespace testing_dispatcher;
using testing::HasSubstr;

class condition_test : public dispatcher_test {
 protected:
  condition_test() {
    phone_config big = phone_named("big");
    big.id = "pf-master";
    big.group.members = {{"galaxy", "10.0.0.2", 50052, "pf-a", {}}, {"pixel", "10.0.0.3", 50052, "pf-b", {}}};
    fleet_ = {big, phone_named("other")};
    begin_up(fleet_);
  }
  void says(const std::string& id, const telemetry& reads, seconds interval = 60s) {
    d_->hear(id, reads, interval, now_);
  }

  std::vector<phone_config> fleet_;
};

TEST_F(condition_test, what_nobody_says_changes_nothing) {
  says("pf-a", {});
  says("pf-x", {.temperature_c = 60});
  EXPECT_TRUE(status("big").healthy);
  EXPECT_EQ(status("big").rests, rest_kind::none);
  EXPECT_FALSE(status("big").reads);
}

TEST_F(condition_test, the_hottest_member_decides) {
  says("pf-a", {.temperature_c = 43});
  says("pf-b", {.temperature_c = 30});
  EXPECT_FALSE(status("big").healthy);
  EXPECT_EQ(status("big").rests, rest_kind::hard);
  EXPECT_EQ(status("big").reason, "galaxy: too hot: 43 C; rests until 38 C");
  EXPECT_TRUE(status("other").healthy);
  says("pf-b", {.temperature_c = 44});
  says("pf-a", {.temperature_c = 37});
  EXPECT_THAT(status("big").reason, HasSubstr("pixel: too hot")) << "until all are cool";
  says("pf-b", {.temperature_c = 37});
  EXPECT_TRUE(status("big").healthy);
}

TEST_F(condition_test, an_empty_battery_spares_the_whole_group) {
  says("pf-b", {.battery_level = 10, .charging = false});
  EXPECT_EQ(status("big").rests, rest_kind::spare);
  EXPECT_EQ(status("big").resting, "pixel: battery at 10 % and not charging: spared");
  EXPECT_TRUE(status("big").healthy);
  EXPECT_EQ(take().phone->name, "other");
  EXPECT_EQ(take().phone->name, "big") << "as there is no other";
}

TEST_F(condition_test, who_no_longer_says_anything_spares_it_too) {
  says("pf-a", {.temperature_c = 30}, 10s);
  says("pf-b", {.temperature_c = 30}, 10s);
  now_ += 29s;
  says("pf-b", {.temperature_c = 30}, 10s);
  EXPECT_FALSE(status("big").quiet);
  now_ += 2s;
  EXPECT_TRUE(status("big").quiet);
  EXPECT_EQ(take().phone->name, "other");
  EXPECT_EQ(take().phone->name, "big") << "as there is no other";
}

TEST_F(condition_test, a_choice_sees_it_when_only_time_has_passed) {
  says("pf-a", {.temperature_c = 30}, 10s);
  const grant held = take();
  EXPECT_EQ(held.phone->name, "big");
  settle(held);
  now_ += 31s;
  EXPECT_EQ(take().phone->name, "other");
  EXPECT_EQ(take().phone->name, "big");
}

TEST_F(condition_test, the_master_has_a_word_too) {
  says("pf-master", {.temperature_c = 43});
  EXPECT_THAT(status("big").reason, testing::StartsWith("too hot"));
  EXPECT_EQ(status("big").reads->temperature_c, 43);
}

TEST_F(condition_test, a_reload_forgets_only_who_has_left) {
  says("pf-a", {.temperature_c = 43});
  fleet_[0].group.members.pop_back();
  fleet_[0].group.members.insert(fleet_[0].group.members.begin(), {"new", "10.0.0.4", 50052, "pf-c", {}});
  d_->configure(fleet_, now_);
  EXPECT_EQ(status("big").rests, rest_kind::hard);
  ASSERT_EQ(status("big").members.size(), 2U);
  EXPECT_FALSE(status("big").members[0].reads);
  EXPECT_EQ(status("big").members[1].name, "galaxy");
  EXPECT_EQ(status("big").members[1].reads->temperature_c, 43);
  fleet_[0].group.members.pop_back();
  d_->configure(fleet_, now_);
  EXPECT_TRUE(status("big").healthy);
}

TEST_F(condition_test, its_status_is_found_by_a_members_id) {
  EXPECT_EQ(d_->status_of("pf-b", now_)->config.name, "big");
  EXPECT_EQ(d_->status_of("pf-master", now_)->config.name, "big");
}

TEST(condition, the_share_is_that_of_the_warmest) {
  const rest_settings settings;
  const time_point now{1h};
  condition c(settings);
  c.depend_on({{"a", "h", 1, "pf-a", {}}, {"b", "h", 2, "pf-b", {}}});
  EXPECT_EQ(c.share(now), 1);
  c.hear_member("pf-a", {.temperature_c = 40}, 60s, now);
  c.hear({.temperature_c = 39}, 60s, now);
  EXPECT_DOUBLE_EQ(c.share(now), 0.75);
  EXPECT_FALSE(c.hear_member("pf-c", {}, 60s, now));
}

TEST(condition, for_people_the_hottest_and_the_emptiest) {
  const telemetry own{.temperature_c = 31, .memory_total_kb = 8};
  telemetry hot{.temperature_c = 41, .battery_level = 80, .charging = false};
  telemetry low{.battery_level = 20, .charging = true};
  const telemetry shown = worst_of(own, {{"a", hot, {}}, {"b", low, {}}, {"c", {}, {}}});
  EXPECT_EQ(shown.temperature_c, 41);
  EXPECT_EQ(shown.battery_level, 20);
  EXPECT_EQ(shown.charging, true);
  EXPECT_EQ(shown.memory_total_kb, 8U);
  EXPECT_FALSE(worst_of({}, {}).temperature_c);
}

}  // namespace
}  // namespace pocketfleet
