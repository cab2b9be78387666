#include "pocketfleet/service/fleet_feed.hpp"

#include <gtest/gtest.h>

namespace pocketfleet {
namespace {

using namespace std::chrono_literals;

const time_point start = time_point{} + 1000s;

struct fleet_feed_test : testing::Test {
  /// What kind of event a watcher gets; "" if none.
  std::string got(std::uint64_t& seen, time_point now) {
    const auto text = feed.next(seen, now);
    return text ? text->substr(0, text->find('\n')) : "";
  }

  int pictures = 0;
  int histories = 0;
  fleet_feed feed{[this] {
                    fleet_picture now;
                    now.gateway["requests"] = ++pictures;
                    return now;
                  },
                  [this] {
                    ++histories;
                    return token_history{};
                  }};
};

TEST_F(fleet_feed_test, the_whole_first_then_a_change_each_second) {
  std::uint64_t seen = 0;
  EXPECT_EQ(got(seen, start), "event: fleet");
  EXPECT_EQ(got(seen, start + 999ms), "") << "not due yet";
  EXPECT_EQ(feed.due(), start + 1s);
  EXPECT_EQ(got(seen, start + 1s), "event: change");
  EXPECT_EQ(got(seen, start + 2s), "event: change");
}

TEST_F(fleet_feed_test, all_get_the_same_text_made_once) {
  std::uint64_t one = 0;
  std::uint64_t other = 0;
  const auto whole = feed.next(one, start);
  EXPECT_EQ(feed.next(other, start + 500ms), whole);
  const auto change = feed.next(one, start + 1s);
  EXPECT_EQ(feed.next(other, start + 1s), change);
  EXPECT_EQ(pictures, 2);
  EXPECT_EQ(histories, 1) << "only for a whole picture";
}

TEST_F(fleet_feed_test, who_has_missed_a_change_gets_the_whole_again) {
  std::uint64_t quick = 0;
  std::uint64_t slow = 0;
  got(quick, start);
  got(slow, start);
  got(quick, start + 1s);
  got(quick, start + 2s);
  EXPECT_EQ(got(slow, start + 2s), "event: fleet");
  EXPECT_EQ(got(slow, start + 3s), "event: change") << "and goes on from there";
}

TEST_F(fleet_feed_test, nothing_is_made_while_nobody_watches) {
  std::uint64_t seen = 0;
  got(seen, start);
  EXPECT_EQ(got(seen, start + 3600s), "event: change") << "from what it has seen, however long ago";
  EXPECT_EQ(pictures, 2);
}

}  // namespace
}  // namespace pocketfleet
