#include "pocketfleet/service/key_ring.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pocketfleet/wire/digest.hpp"

namespace pocketfleet {
namespace {

using testing::HasSubstr;

/// Of a client, all that counts here is its address.
class somebody final : public reply {
 public:
  explicit somebody(std::string address = "192.168.1.9") : address_(std::move(address)) {}
  task<> send(int, std::string_view, std::string, header_list) override { co_return; }
  task<> fail(const error&, header_list) override { co_return; }
  void begin(int, std::string_view, header_list) override {}
  task<bool> write(std::string_view) override { co_return false; }
  task<> end(std::string_view) override { co_return; }
  void cut() override {}
  int status() const override { return 0; }
  std::string peer() const override { return address_; }

 private:
  std::string address_;
};

api_key key_of(const std::string& text, key_role role = key_role::client) {
  api_key key;
  key.digest = sha256(text);
  key.terms.name = "the " + text;
  key.terms.role = role;
  return key;
}

class key_ring_test : public testing::Test {
 protected:
  errc refused(std::string_view key, access_level needed = access_level::client) {
    const auto got = ring_.admit(key, needed, true, client_, now_);
    EXPECT_FALSE(got.has_value()) << "it was let in";
    return got ? errc{} : got.error().code;
  }
  std::string name(std::string_view key, access_level needed = access_level::client) {
    const auto got = ring_.admit(key, needed, true, client_, now_);
    EXPECT_TRUE(got.has_value()) << got.error().message;
    return got && got->terms ? got->terms->name : "nobody";
  }

  key_ring ring_;
  somebody client_;
  time_point now_ = time_point{} + std::chrono::hours(1);
};

TEST_F(key_ring_test, without_keys_everybody_may_ask_and_nobody_change) {
  EXPECT_EQ(name(""), "nobody");
  EXPECT_EQ(name("any"), "nobody");
  EXPECT_EQ(name("", access_level::open), "nobody");
  EXPECT_EQ(refused("", access_level::admin), errc::forbidden);
  EXPECT_EQ(refused("any", access_level::admin), errc::forbidden);
}

TEST_F(key_ring_test, with_keys_one_is_needed) {
  ring_.configure({key_of("a"), key_of("b", key_role::admin)}, true);
  EXPECT_EQ(refused(""), errc::unauthorized);
  EXPECT_EQ(refused("c"), errc::unauthorized);
  EXPECT_EQ(refused("the a"), errc::unauthorized);
  EXPECT_EQ(name("a"), "the a");
  EXPECT_EQ(name("b"), "the b");
  EXPECT_EQ(name("", access_level::open), "nobody");
  EXPECT_EQ(refused("a", access_level::admin), errc::forbidden);
  EXPECT_EQ(refused("", access_level::admin), errc::unauthorized);
  EXPECT_EQ(name("b", access_level::admin), "the b");
}

TEST_F(key_ring_test, a_key_for_admins_alone_leaves_asking_free) {
  ring_.configure({key_of("b", key_role::admin)}, false);
  EXPECT_EQ(name(""), "nobody");
  EXPECT_EQ(refused("", access_level::admin), errc::unauthorized);
  EXPECT_EQ(name("b", access_level::admin), "the b");
}

TEST_F(key_ring_test, so_many_at_once) {
  api_key two = key_of("a");
  two.terms.max_concurrency = 2;
  ring_.configure({two}, true);
  auto first = ring_.admit("a", access_level::client, true, client_, now_);
  auto second = ring_.admit("a", access_level::client, true, client_, now_);
  EXPECT_TRUE(first && second);
  const auto third = ring_.admit("a", access_level::client, true, client_, now_);
  ASSERT_FALSE(third.has_value());
  EXPECT_EQ(third.error().code, errc::rate_limited);
  EXPECT_THAT(third.error().message, HasSubstr("2 requests running"));
  ring_.configure({two}, true);  // a reload forgets nothing
  EXPECT_EQ(refused("a"), errc::rate_limited);
  first = visit{};
  EXPECT_EQ(name("a"), "the a");
}

TEST_F(key_ring_test, who_only_watches_takes_no_place_and_needs_none) {
  auto key = key_of("a");
  key.terms.max_concurrency = 1;
  key.terms.rate_per_minute = 3;
  ring_.configure({key}, true);
  const auto watching = ring_.admit("a", access_level::client, false, client_, now_);
  const auto asking = ring_.admit("a", access_level::client, true, client_, now_);
  ASSERT_TRUE(watching && asking);
  EXPECT_TRUE(ring_.admit("a", access_level::client, false, client_, now_)) << "its only place is taken";
  EXPECT_EQ(ring_.admit("a", access_level::client, false, client_, now_).error().code, errc::rate_limited)
      << "so many a minute holds all the same";
  EXPECT_EQ(ring_.admit("b", access_level::client, false, client_, now_).error().code, errc::unauthorized);
}

TEST_F(key_ring_test, so_many_a_minute) {
  api_key some = key_of("a");
  some.terms.rate_per_minute = 3;
  some.terms.max_concurrency = 1;
  ring_.configure({some, key_of("b")}, true);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(name("a"), "the a");
  const auto over = ring_.admit("a", access_level::client, true, client_, now_);
  ASSERT_FALSE(over.has_value());
  EXPECT_EQ(over.error().code, errc::rate_limited);
  EXPECT_EQ(over.error().retry_after, seconds{20});
  EXPECT_EQ(name("b"), "the b") << "others have their own";
  ring_.configure({some, key_of("b")}, true);
  EXPECT_EQ(refused("a"), errc::rate_limited) << "a reload gives nothing";
  now_ += seconds{21};
  EXPECT_EQ(name("a"), "the a") << "and what was refused has taken no place";
}

TEST_F(key_ring_test, who_guesses_is_not_listened_to_for_long) {
  ring_.configure({key_of("a")}, true);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(refused("guess " + std::to_string(i)), errc::unauthorized);
  EXPECT_EQ(refused("another"), errc::rate_limited);
  EXPECT_EQ(name("a"), "the a") << "whoever has a key behind the same address is not locked out";
  EXPECT_EQ(refused(""), errc::unauthorized) << "no key is no guess";
  const somebody else_("192.168.1.10");
  EXPECT_EQ(ring_.admit("another", access_level::client, true, else_, now_).error().code, errc::unauthorized);
}

TEST_F(key_ring_test, a_key_that_is_taken_back_is_none) {
  ring_.configure({key_of("a"), key_of("b")}, true);
  const auto running = ring_.admit("a", access_level::client, true, client_, now_);
  ring_.configure({key_of("b")}, true);
  EXPECT_EQ(refused("a"), errc::unauthorized);
  EXPECT_EQ(running->terms->name, "the a") << "what it had begun goes on";
}

}  // namespace
}  // namespace pocketfleet
