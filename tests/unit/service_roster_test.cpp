// What was changed by hand, and what a file that is read again makes of it.
#include "pocketfleet/service/roster.hpp"

#include <gmock/gmock.h>

namespace pocketfleet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

phone_config phone(const std::string& name, std::uint32_t weight = 1, const std::string& id = {}) {
  phone_config p;
  p.name = name;
  p.host = name + ".lan";
  p.weight = weight;
  p.id = id;
  return p;
}

class roster_test : public testing::Test {
 protected:
  result<void> add(const phone_config& p) { return all.add({p, "{}"}, {}); }
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto& p : all.phones()) out.push_back(p.name + "/" + std::to_string(p.weight));
    return out;
  }

  roster all;
};

phone_config group(const std::string& name, const std::string& member) {
  phone_config p = phone(name);
  p.group.members = {{"m", member + ".lan", 11434}};
  return p;
}

TEST_F(roster_test, a_member_of_a_group_is_no_phone_beside_it) {
  all.take_file({group("big", "a"), phone("b")});
  EXPECT_EQ(add(phone("a")).error().code, errc::conflict);
  EXPECT_EQ(add(phone("A")).error().message, "the address a.lan:11434 is m's, a member of the group big");
  EXPECT_EQ(add(group("other", "b")).error().message, "the address b.lan:11434 of its member m is b's");
  EXPECT_EQ(add(group("other", "a")).error().message,
            "the address a.lan:11434 of its member m is m's, a member of the group big");
  EXPECT_EQ(add(group("other", "big")).error().code, errc::conflict) << "a group is a phone too";
  EXPECT_TRUE(add(group("other", "c")));
  EXPECT_EQ(add(phone("c")).error().code, errc::conflict);
  EXPECT_TRUE(all.remove("big"));
  EXPECT_TRUE(add(phone("a"))) << "it is alone now";
  EXPECT_FALSE(add(group("big", "a"))) << "so the group cannot come back";
}

TEST_F(roster_test, a_members_id_is_taken) {
  phone_config big = group("big", "a");
  big.group.members[0].id = "pf-a";
  all.take_file({big, phone("b", 1, "pf-b")});
  EXPECT_EQ(add(phone("c", 1, "pf-a")).error().message, "the id pf-a is m's, a member of the group big");
  phone_config other = group("other", "c");
  other.group.members[0].id = "pf-b";
  EXPECT_EQ(add(other).error().message, "the id pf-b of its member m is b's");
  other.group.members[0].id = "pf-a";
  EXPECT_EQ(add(other).error().message, "the id pf-a of its member m is m's, a member of the group big");
}

TEST_F(roster_test, what_the_file_makes_a_member_is_no_added_phone_any_more) {
  all.take_file({phone("b")});
  add(phone("a"));
  add(group("other", "c"));
  all.take_file({phone("b"), group("big", "a"), phone("c")});
  EXPECT_THAT(names(), ElementsAre("b/1", "big/1", "c/1"));
}

TEST_F(roster_test, a_changed_weight_stays_while_the_file_says_the_same) {
  all.take_file({phone("a", 2), phone("b", 2)});
  EXPECT_TRUE(all.change("a", {.weight = 7}));
  EXPECT_FALSE(all.change("x", {.weight = 7}));
  EXPECT_THAT(names(), ElementsAre("a/7", "b/2"));
  all.take_file({phone("b", 2), phone("a", 2)});
  EXPECT_THAT(names(), ElementsAre("b/2", "a/7"));
  all.take_file({phone("a", 3)});
  EXPECT_THAT(names(), ElementsAre("a/3"));
  all.take_file({phone("a", 2)});
  EXPECT_THAT(names(), ElementsAre("a/2")) << "what the file has overruled does not come back";
}

TEST_F(roster_test, weight_and_permits_are_ruled_one_by_one) {
  all.take_file({phone("a", 2)});
  all.change("a", {.weight = 7, .max_concurrency = 4});
  all.take_file({phone("a", 3)});
  EXPECT_EQ(all.phones()[0].weight, 3U);
  EXPECT_EQ(all.phones()[0].max_concurrency, 4U);
}

TEST_F(roster_test, a_phone_with_an_id_is_known_at_another_address) {
  all.take_file({phone("a", 2, "pf-a")});
  all.change("a", {.weight = 7});
  auto moved = phone("a", 2, "pf-a");
  moved.host = "10.0.0.9";
  all.take_file({moved});
  EXPECT_EQ(all.phones()[0].weight, 7U);
  EXPECT_EQ(all.phones()[0].host, "10.0.0.9") << "in everything else the file is right";
}

TEST_F(roster_test, a_removed_phone_stays_away_while_its_entry_is_the_same) {
  all.take_file({phone("a"), phone("b")});
  EXPECT_TRUE(all.remove("a"));
  EXPECT_FALSE(all.remove("a"));
  EXPECT_FALSE(all.change("a", {.weight = 2}));
  EXPECT_THAT(names(), ElementsAre("b/1"));
  auto with_key = phone("a");
  with_key.api_key = "another one in the same file of keys";
  all.take_file({with_key, phone("b")});
  EXPECT_THAT(names(), ElementsAre("b/1"));
  all.take_file({phone("a", 2), phone("b")});
  EXPECT_THAT(names(), ElementsAre("a/2", "b/1"));
}

TEST_F(roster_test, a_removed_phone_that_is_added_as_the_file_has_it_is_the_files_again) {
  all.take_file({phone("a"), phone("b")});
  all.change("a", {.weight = 5});
  all.remove("a");
  ASSERT_TRUE(add(phone("a")));
  EXPECT_THAT(names(), ElementsAre("a/1", "b/1"));
  EXPECT_TRUE(all.entries()[0].said);
  EXPECT_EQ(all.entries().size(), 2U);
}

TEST_F(roster_test, an_added_phone_stays_until_the_file_has_it) {
  all.take_file({phone("a")});
  ASSERT_TRUE(add(phone("c", 4)));
  all.take_file({phone("a")});
  EXPECT_THAT(names(), ElementsAre("a/1", "c/4"));
  EXPECT_FALSE(all.entries()[1].said);
  all.take_file({phone("a"), phone("c", 6)});
  EXPECT_THAT(names(), ElementsAre("a/1", "c/6"));
  all.take_file({phone("a")});
  EXPECT_THAT(names(), ElementsAre("a/1")) << "now it was the file's";
}

TEST_F(roster_test, an_added_phone_in_the_place_of_a_removed_one_goes_when_that_comes_back) {
  all.take_file({phone("a")});
  all.remove("a");
  auto other = phone("a");
  other.host = "10.0.0.9";
  ASSERT_TRUE(add(other));
  all.take_file({phone("a")});
  ASSERT_EQ(all.phones().size(), 1U);
  EXPECT_EQ(all.phones()[0].host, "10.0.0.9");
  all.take_file({phone("a", 2)});
  ASSERT_EQ(all.phones().size(), 1U);
  EXPECT_EQ(all.phones()[0].host, "a.lan");
}

TEST_F(roster_test, no_two_with_one_name_address_or_id) {
  all.take_file({phone("a", 1, "pf-a")});
  EXPECT_THAT(add(phone("a")).error().message, HasSubstr("the name \"a\" is taken"));
  auto p = phone("b");
  p.host = "A.LAN";
  EXPECT_THAT(add(p).error().message, HasSubstr("the address A.LAN:11434 is a's"));
  EXPECT_THAT(add(phone("b", 1, "pf-a")).error().message, HasSubstr("the id pf-a is a's"));
  EXPECT_EQ(add(p).error().code, errc::conflict);
  const auto joined = phone("j");
  EXPECT_THAT(all.add({phone("j"), "{}"}, {joined}).error().message, HasSubstr("taken"));
  EXPECT_TRUE(add(phone("b")));
  EXPECT_FALSE(add(phone("b")));
}

TEST_F(roster_test, what_has_been_saved_is_the_files) {
  all.take_file({phone("a", 2), phone("b")});
  all.change("a", {.weight = 5});
  all.remove("b");
  ASSERT_TRUE(add(phone("c")));
  const auto saved = all.phones();
  all.take_file(saved);
  EXPECT_EQ(all.phones(), saved);
  for (const auto& e : all.entries()) {
    EXPECT_TRUE(e.said && *e.said == e.now);
    EXPECT_FALSE(e.removed);
  }
}

}  // namespace
}  // namespace pocketfleet
