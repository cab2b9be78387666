#include "pocketfleet/core/pulse.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

namespace pocketfleet {
namespace {

using namespace std::chrono_literals;
using testing::Each;

const time_point start = time_point{} + 1000s;

std::uint32_t sum(const std::vector<std::uint32_t>& all) {
  return std::accumulate(all.begin(), all.end(), 0U);
}

TEST(pulse, is_still_at_first) {
  EXPECT_EQ(pulse().rate(start), 0);
  EXPECT_THAT(pulse().history(start), Each(0U));
  EXPECT_EQ(pulse().history(start).size(), pulse::kept);
}

TEST(pulse, the_running_second_does_not_count_yet) {
  pulse p;
  p.add(start + 200ms, 6);
  EXPECT_EQ(p.rate(start + 900ms), 0);
  EXPECT_EQ(p.rate(start + 1s), 2);
}

TEST(pulse, is_the_mean_of_three_seconds_and_ends_with_them) {
  pulse p;
  for (int i = 0; i < 50; ++i) p.add(start + i * 100ms, 1);
  EXPECT_DOUBLE_EQ(p.rate(start + 5s), 10);
  EXPECT_NEAR(p.rate(start + 6s), 20 / 3.0, 1e-9);
  EXPECT_NEAR(p.rate(start + 7s), 10 / 3.0, 1e-9);
  EXPECT_EQ(p.rate(start + 8s), 0);
}

TEST(pulse, remembers_a_minute_oldest_first) {
  pulse p;
  for (std::uint32_t s = 0; s < 100; ++s) p.add(start + seconds{s}, s);
  const auto all = p.history(start + 100s);
  ASSERT_EQ(all.size(), 60U);
  EXPECT_EQ(all.front(), 40U);
  EXPECT_EQ(all.back(), 99U);
}

TEST(pulse, a_pause_leaves_nothing_of_an_earlier_minute) {
  pulse p;
  for (int s = 0; s < 61; ++s) p.add(start + seconds{s}, 1);
  p.add(start + 90s, 5);
  EXPECT_EQ(sum(p.history(start + 91s)), 5U + 30U) << "those of 31 to 60, and the new ones";
  p.add(start + 1000s, 7);
  EXPECT_EQ(sum(p.history(start + 1001s)), 7U);
  EXPECT_EQ(sum(p.history(start + 2000s)), 0U);
}

}  // namespace
}  // namespace pocketfleet
