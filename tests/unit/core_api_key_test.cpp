#include "pocketfleet/core/api_key.hpp"

#include <gtest/gtest.h>

namespace pocketfleet {
namespace {

time_point at(double seconds_from_start) {
  return time_point{} + std::chrono::hours(1) +
         std::chrono::duration_cast<duration>(std::chrono::duration<double>(seconds_from_start));
}

TEST(token_bucket, gives_a_minutes_worth_at_once_and_then_as_many_as_have_come) {
  token_bucket bucket(60);
  for (int i = 0; i < 60; ++i) EXPECT_EQ(bucket.take(at(0)), std::nullopt) << i;
  const auto wait = bucket.take(at(0));
  ASSERT_TRUE(wait.has_value());
  EXPECT_NEAR(std::chrono::duration<double>(*wait).count(), 1, 1e-6);
  EXPECT_TRUE(bucket.take(at(0.9)).has_value()) << "asking takes nothing, and gives nothing";
  EXPECT_EQ(bucket.take(at(1.01)), std::nullopt);
  EXPECT_TRUE(bucket.take(at(1.02)).has_value());
  for (int i = 0; i < 60; ++i)
    EXPECT_EQ(bucket.take(at(1000)), std::nullopt) << "no more than a minute's worth";
  EXPECT_TRUE(bucket.take(at(1000)).has_value());
}

TEST(token_bucket, a_clock_that_stands_still_gives_nothing) {
  token_bucket bucket(1);
  EXPECT_EQ(bucket.take(at(5)), std::nullopt);
  EXPECT_TRUE(bucket.take(at(5)).has_value());
  EXPECT_TRUE(bucket.take(at(4)).has_value());
  EXPECT_FALSE(bucket.full(at(30)));
  EXPECT_TRUE(bucket.full(at(66)));
}

TEST(failed_attempts, each_address_has_its_own) {
  failed_attempts seen(3, 100);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(seen.note("10.0.0.1", at(0)), std::nullopt);
  EXPECT_TRUE(seen.note("10.0.0.1", at(0)).has_value());
  EXPECT_EQ(seen.note("10.0.0.2", at(0)), std::nullopt);
  EXPECT_EQ(seen.note("10.0.0.1", at(21)), std::nullopt) << "a third of a minute later";
}

TEST(failed_attempts, a_flood_of_addresses_takes_no_more_memory) {
  failed_attempts seen(3, 16);
  for (int i = 0; i < 10'000; ++i) seen.note("10.0." + std::to_string(i), at(i * 1e-6));
  EXPECT_LE(seen.size(), 16U);
  // Those that have done nothing for a while go first.
  failed_attempts calm(3, 2);
  for (int i = 0; i < 4; ++i) calm.note("bad", at(99));
  calm.note("long ago", at(0));
  calm.note("new", at(100));
  EXPECT_TRUE(calm.note("bad", at(100)).has_value()) << "it is still known";
}

TEST(client_terms, models) {
  client_terms all;
  EXPECT_TRUE(all.may_use("anything:latest"));
  client_terms some;
  some.models = {"a:1b", "b:latest"};
  EXPECT_TRUE(some.may_use("b:latest"));
  EXPECT_FALSE(some.may_use("b"));
  EXPECT_FALSE(some.may_use(""));
}

}  // namespace
}  // namespace pocketfleet
