// When a look is believed, and how soon a phone that dies is known to be down: in time that goes on by
// itself.
#include "pocketfleet/core/look_memory.hpp"

#include <gtest/gtest.h>

#include <random>

#include "pocketfleet/service/settings.hpp"

namespace pocketfleet {
namespace {

using std::chrono::duration_cast;
using enum health;

const look_rules defaults = probe_settings{}.rules();

/// How long a phone is dead until it is believed: looks take no time, as where a connection is refused.
duration noticed_after(const look_rules& rules, duration dies, std::minstd_rand& random) {
  std::uniform_real_distribution<double> chance(0, 1);
  look_memory m;
  for (duration now{0};; now += m.until_next(rules, chance(random))) {
    m.note(now < dies ? up : down, rules);
    if (m.state() == down) return now - dies;
  }
}

TEST(look_memory, by_default_an_idle_phone_that_dies_is_down_within_six_seconds) {
  // Besides: room for the looks themselves, and for who watches.
  EXPECT_LE(defaults.worst_case(), milliseconds{5'700});
  std::minstd_rand random(1);
  duration longest{0};
  for (int i = 0; i < 20'000; ++i) {
    const auto took = noticed_after(defaults, milliseconds{1 + 7 * i}, random);
    ASSERT_LE(took, defaults.worst_case()) << "died after " << 7 * i << " ms";
    longest = std::max(longest, took);
  }
  EXPECT_GT(longest, defaults.worst_case() - milliseconds{200}) << "the bound is met";
}

TEST(look_memory, a_phone_that_is_well_is_looked_at_every_four_to_five_seconds) {
  look_memory m;
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(m.note(up, defaults));
    EXPECT_EQ(duration_cast<milliseconds>(m.until_next(defaults, 0)), seconds{5});
    EXPECT_EQ(duration_cast<milliseconds>(m.until_next(defaults, 1)), seconds{4});
  }
}

TEST(look_memory, so_is_one_that_is_down_and_one_that_loads) {
  for (const auto state : {down, loading}) {
    look_memory m;
    EXPECT_TRUE(m.note(state, defaults)) << "the first look is believed";
    EXPECT_EQ(m.state(), state);
    EXPECT_GE(m.until_next(defaults, 1), milliseconds{3'999});
  }
}

TEST(look_memory, a_moments_trouble_is_looked_into_and_forgotten) {
  look_memory m;
  m.note(up, defaults);
  EXPECT_FALSE(m.note(down, defaults));
  EXPECT_LT(m.until_next(defaults, 0), milliseconds{500});
  EXPECT_FALSE(m.note(down, defaults));
  EXPECT_TRUE(m.note(up, defaults));
  EXPECT_EQ(m.state(), up);
  EXPECT_GE(m.until_next(defaults, 1), milliseconds{3'999});
  EXPECT_FALSE(m.note(down, defaults)) << "counted anew";
  EXPECT_FALSE(m.note(down, defaults));
  EXPECT_TRUE(m.note(down, defaults));
  EXPECT_EQ(m.state(), down);
}

TEST(look_memory, one_good_look_does_not_bring_a_phone_back) {
  look_memory m;
  m.note(down, defaults);
  EXPECT_FALSE(m.note(up, defaults));
  EXPECT_EQ(m.state(), down);
  EXPECT_LT(m.until_next(defaults, 0), milliseconds{500});
  EXPECT_TRUE(m.note(up, defaults));
  EXPECT_EQ(m.state(), up);
}

}  // namespace
}  // namespace pocketfleet
