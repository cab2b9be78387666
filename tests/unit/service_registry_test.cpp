#include "pocketfleet/service/registry.hpp"

#include <gtest/gtest.h>

namespace pocketfleet {
namespace {

using namespace std::chrono_literals;

const std::string fleet_token(64, 'f');

phone_config phone_of_file(std::string name, std::string host, std::string id = {},
                           std::uint16_t port = 11434) {
  phone_config p;
  p.name = std::move(name);
  p.host = std::move(host);
  p.port = port;
  p.id = std::move(id);
  return p;
}

class registry_test : public testing::Test {
 protected:
  void begin(registration_mode mode, std::vector<phone_config> phones) {
    settings.mode = mode;
    settings.token_sha256 = fleet_token;
    all.configure(settings, std::move(phones));
  }
  result<registry::taken> hear(const std::string& id, const std::string& peer, std::uint16_t port = 11434,
                               std::optional<std::uint16_t> tunnel = {}) {
    heartbeat h;
    h.id = id;
    h.name = "pixel";
    h.engine = engine_kind::ollama;
    h.port = port;
    h.tunnel_port = tunnel;
    return all.take(h, peer, fleet_token, now);
  }
  std::string where(const std::string& id) const {
    for (const auto& p : all.fleet()) {
      if (p.id == id) return p.host + ":" + std::to_string(p.port);
    }
    return "nowhere";
  }

  registration_settings settings{};
  registry all;
  time_point now{1h};
};

TEST_F(registry_test, off_moves_nobody) {
  begin(registration_mode::off, {phone_of_file("a", "10.0.0.1", "pf-a")});
  const auto taken = hear("pf-a", "10.0.0.9");
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->phone, "a");
  EXPECT_FALSE(taken->moved);
  EXPECT_EQ(where("pf-a"), "10.0.0.1:11434");
}

TEST_F(registry_test, known_follows_the_files_phones) {
  begin(registration_mode::known, {phone_of_file("a", "10.0.0.1", "pf-a")});
  EXPECT_FALSE(hear("pf-a", "10.0.0.1")->moved) << "it is where it was";
  EXPECT_TRUE(hear("pf-a", "10.0.0.9", 8080)->moved);
  EXPECT_EQ(where("pf-a"), "10.0.0.9:8080");
  EXPECT_EQ(hear("pf-b", "10.0.0.2")->phone, "");
  EXPECT_EQ(all.fleet().size(), 1U);
}

TEST_F(registry_test, open_lets_phones_join_under_names_of_their_own) {
  begin(registration_mode::open, {phone_of_file("pixel", "10.0.0.1")});
  EXPECT_EQ(hear("pf-a", "10.0.0.2")->phone, "pixel-2");
  EXPECT_EQ(hear("pf-b", "10.0.0.3")->phone, "pixel-3");
  EXPECT_EQ(all.fleet().size(), 3U);
  EXPECT_FALSE(hear("pf-a", "10.0.0.2")->joined) << "only once";
}

TEST_F(registry_test, there_is_an_end_to_joining) {
  settings.most = 2;
  begin(registration_mode::open, {});
  EXPECT_TRUE(hear("pf-a", "10.0.0.1"));
  EXPECT_TRUE(hear("pf-b", "10.0.0.2"));
  EXPECT_EQ(hear("pf-c", "10.0.0.3").error().code, errc::forbidden);
  EXPECT_TRUE(hear("pf-a", "10.0.0.4")->moved) << "those that are in may move";
}

TEST_F(registry_test, the_address_has_to_be_in_a_network_of_phones) {
  begin(registration_mode::open, {});
  EXPECT_EQ(hear("pf-a", "8.8.8.8").error().code, errc::forbidden);
  EXPECT_EQ(hear("pf-a", "10.0.0.1", 80).error().code, errc::forbidden);
  EXPECT_TRUE(hear("pf-a", "127.0.0.1")->phone.empty()) << "over USB: where the engine is cannot be seen";
  EXPECT_TRUE(all.fleet().empty());
}

TEST_F(registry_test, a_known_phone_over_usb_stays_where_the_file_says) {
  begin(registration_mode::open, {phone_of_file("a", "127.0.0.1", "pf-a", 21000)});
  EXPECT_EQ(hear("pf-a", "127.0.0.1")->phone, "a");
  EXPECT_EQ(where("pf-a"), "127.0.0.1:21000");
}

TEST_F(registry_test, tunnels_end_at_ports_for_tunnels) {
  begin(registration_mode::open, {});
  EXPECT_EQ(hear("pf-a", "203.0.113.5", 11434, 22).error().code, errc::forbidden);
  EXPECT_TRUE(hear("pf-a", "203.0.113.5", 11434, 20001)->joined) << "from anywhere";
  EXPECT_EQ(where("pf-a"), "127.0.0.1:20001");
}

TEST_F(registry_test, a_static_phone_keeps_its_address_and_one_with_an_id_makes_room) {
  begin(registration_mode::open, {phone_of_file("s", "10.0.0.1"), phone_of_file("a", "10.0.0.2", "pf-a")});
  EXPECT_EQ(hear("pf-b", "10.0.0.1").error().code, errc::forbidden);
  EXPECT_TRUE(hear("pf-b", "10.0.0.2")->joined);
  EXPECT_EQ(where("pf-a"), "nowhere");
  EXPECT_TRUE(hear("pf-a", "10.0.0.3")->moved) << "and is back with its next heartbeat";
  EXPECT_EQ(where("pf-a"), "10.0.0.3:11434");
  EXPECT_EQ(where("pf-b"), "10.0.0.2:11434");
}

phone_config group_of(const std::string& name, const std::string& host, std::uint16_t port) {
  phone_config p = phone_of_file(name, "10.0.0.100");
  p.group.members = {{"galaxy", host, port}};
  return p;
}

TEST_F(registry_test, a_members_address_is_nobodys_to_take) {
  begin(registration_mode::open,
        {group_of("big", "10.0.0.5", 11434), phone_of_file("a", "10.0.0.2", "pf-a")});
  for (const auto* id : {"pf-a", "pf-b"}) {
    const auto taken = hear(id, "10.0.0.5");
    ASSERT_FALSE(taken);
    EXPECT_EQ(taken.error().code, errc::forbidden);
    EXPECT_EQ(taken.error().message, "the address 10.0.0.5:11434 is galaxy's, a member of the group big");
  }
  EXPECT_EQ(where("pf-a"), "10.0.0.2:11434");
  EXPECT_TRUE(hear("pf-b", "10.0.0.5", 8080)->joined) << "another port is another's";
}

TEST_F(registry_test, who_has_become_a_member_is_no_phone_any_more) {
  begin(registration_mode::open, {phone_of_file("a", "10.0.0.2", "pf-a")});
  hear("pf-a", "10.0.0.5");
  hear("pf-b", "10.0.0.6");
  ASSERT_EQ(all.fleet().size(), 2U);
  phone_config both = group_of("big", "10.0.0.5", 11434);
  both.group.members.push_back({"pixel", "10.0.0.6", 11434});
  all.configure({phone_of_file("a", "10.0.0.2", "pf-a"), both});
  ASSERT_EQ(all.fleet().size(), 1U);
  EXPECT_EQ(all.fleet()[0].name, "big");
  EXPECT_TRUE(hear("pf-a", "10.0.0.7")) << "until it says that it is somewhere else";
  now += 1h;
  hear("pf-a", "10.0.0.7");
  EXPECT_EQ(where("pf-a"), "10.0.0.7:11434");
}

TEST_F(registry_test, a_member_is_heard_and_stays_where_it_is) {
  phone_config big = group_of("big", "10.0.0.5", 50052);
  big.group.members[0].id = "pf-a";
  begin(registration_mode::open, {big});
  const auto taken = hear("pf-a", "10.0.0.5");
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->phone, "big");
  EXPECT_FALSE(taken->joined || taken->moved);
  EXPECT_TRUE(hear("pf-a", "10.0.0.77")) << "wherever it is";
  EXPECT_EQ(all.fleet().size(), 1U);

  big.group.members[0].token_sha256 = std::string(64, 'a');
  all.configure({big});
  EXPECT_EQ(hear("pf-a", "10.0.0.5").error().code, errc::unauthorized) << "the fleet's will not do";
  EXPECT_TRUE(all.knows(std::string(64, 'a')));
  heartbeat h;
  h.id = "pf-a";
  EXPECT_TRUE(all.take(h, "10.0.0.5", std::string(64, 'a'), now));
  settings.token_sha256.clear();
  all.configure(settings, {big});
  EXPECT_TRUE(all.listens());
}

TEST_F(registry_test, who_has_joined_and_is_a_member_by_its_id_is_no_phone_any_more) {
  begin(registration_mode::open, {});
  hear("pf-a", "10.0.0.5");
  phone_config big = group_of("big", "10.0.0.5", 50052);
  big.group.members[0].id = "pf-a";
  all.configure({big});
  ASSERT_EQ(all.fleet().size(), 1U);
  EXPECT_EQ(all.fleet()[0].name, "big");
}

TEST_F(registry_test, a_phone_moves_at_most_every_thirty_seconds) {
  begin(registration_mode::known, {phone_of_file("a", "10.0.0.1", "pf-a")});
  EXPECT_TRUE(hear("pf-a", "10.0.0.2")->moved);
  now += 29s;
  EXPECT_FALSE(hear("pf-a", "10.0.0.3")->moved);
  EXPECT_EQ(where("pf-a"), "10.0.0.2:11434");
  now += 2s;
  EXPECT_TRUE(hear("pf-a", "10.0.0.3")->moved);
}

TEST_F(registry_test, tokens) {
  phone_config own = phone_of_file("a", "10.0.0.1", "pf-a");
  own.token_sha256 = std::string(64, 'a');
  begin(registration_mode::open, {own});
  EXPECT_EQ(hear("pf-a", "10.0.0.1").error().code, errc::unauthorized) << "the fleet's will not do";
  EXPECT_TRUE(all.knows(own.token_sha256));
  EXPECT_TRUE(all.knows(fleet_token));
  EXPECT_FALSE(all.knows(std::string(64, 'x')));
  EXPECT_FALSE(all.knows(""));
  settings.token_sha256.clear();
  all.configure(settings, {phone_of_file("a", "10.0.0.1", "pf-a")});
  EXPECT_FALSE(all.listens());
  EXPECT_FALSE(all.knows(""));
  EXPECT_EQ(hear("pf-a", "10.0.0.1").error().code, errc::unauthorized);
}

TEST_F(registry_test, what_is_kept_brings_the_fleet_back) {
  begin(registration_mode::open, {phone_of_file("a", "10.0.0.1", "pf-a")});
  hear("pf-a", "10.0.0.5");
  hear("pf-b", "10.0.0.6", 8080);
  registry later;
  later.configure(settings, {phone_of_file("a", "10.0.0.1", "pf-a")});
  later.restore(all.registered());
  EXPECT_EQ(later.fleet(), all.fleet());
}

TEST_F(registry_test, an_address_that_is_changed_in_the_file_is_newer_than_what_was_heard) {
  begin(registration_mode::known, {phone_of_file("a", "10.0.0.1", "pf-a")});
  hear("pf-a", "10.0.0.5");
  all.configure(settings, {phone_of_file("a", "10.0.0.1", "pf-a")});
  EXPECT_EQ(where("pf-a"), "10.0.0.5:11434");
  all.configure(settings, {phone_of_file("a", "10.0.0.9", "pf-a")});
  EXPECT_EQ(where("pf-a"), "10.0.0.9:11434");
}

TEST_F(registry_test, what_the_file_says_now_goes_before_what_was_heard) {
  begin(registration_mode::open, {});
  hear("pf-b", "10.0.0.6");
  all.configure(settings, {phone_of_file("static", "10.0.0.6")});
  ASSERT_EQ(all.fleet().size(), 1U);
  EXPECT_EQ(all.fleet()[0].name, "static");
}

TEST_F(registry_test, what_is_changed_by_hand_of_a_phone_that_joined_stays_when_it_moves) {
  begin(registration_mode::open, {phone_of_file("a", "10.0.0.1", "pf-a")});
  hear("pf-a", "10.0.0.2");
  hear("pf-b", "10.0.0.6");
  EXPECT_TRUE(all.change("pixel", {.weight = 5, .max_concurrency = 3}));
  EXPECT_FALSE(all.change("a", {.weight = 5})) << "that is the file's";
  EXPECT_FALSE(all.change("nobody", {.weight = 5}));
  now += 1h;
  hear("pf-b", "10.0.0.7");
  all.configure({phone_of_file("a", "10.0.0.1", "pf-a")});
  ASSERT_EQ(all.fleet().size(), 2U);
  EXPECT_EQ(where("pf-b"), "10.0.0.7:11434");
  EXPECT_EQ(where("pf-a"), "10.0.0.2:11434") << "settings and what was heard stay";
  EXPECT_EQ(all.fleet()[1].weight, 5U);
  EXPECT_EQ(all.fleet()[1].max_concurrency, 3U);
  const auto kept = all.registered();
  registry next;
  next.configure(settings, {});
  next.restore(kept);
  EXPECT_EQ(next.registered(), kept);
}

TEST_F(registry_test, one_that_is_forgotten_joins_again_as_new) {
  begin(registration_mode::open, {});
  hear("pf-b", "10.0.0.6");
  all.change("pixel", {.weight = 5});
  EXPECT_TRUE(all.forget("pf-b"));
  EXPECT_FALSE(all.forget("pf-b"));
  EXPECT_TRUE(all.fleet().empty());
  EXPECT_TRUE(hear("pf-b", "10.0.0.6")->joined);
  EXPECT_EQ(all.fleet()[0].weight, 1U);
}

}  // namespace
}  // namespace pocketfleet
