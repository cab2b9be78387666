#include "pocketfleet/service/shown_speed.hpp"

#include <gtest/gtest.h>

namespace pocketfleet {
namespace {

phone_status with(const std::string& model, std::vector<model_speed> speeds) {
  phone_status p;
  p.model = model;
  p.speeds = std::move(speeds);
  return p;
}

TEST(shown_speed, is_that_with_the_phones_own_model) {
  const auto p = with("Qwen2.5", {{"other:latest", 1, 2, 0, 1, 50}, {"qwen2.5:latest", 100, 10, 3, 0.5, 2}});
  ASSERT_TRUE(shown_speed(p));
  EXPECT_EQ(shown_speed(p)->decode, 10);
}

TEST(shown_speed, or_with_the_one_it_has_answered_with_most) {
  EXPECT_EQ(shown_speed(with("", {{"a", 1, 2, 0, 1, 5}, {"b", 1, 3, 0, 1, 50}}))->model, "b");
  EXPECT_EQ(shown_speed(with("never asked", {{"a", 1, 2, 0, 1, 5}}))->model, "a");
  EXPECT_FALSE(shown_speed(with("a", {})));
}

TEST(shown_speed, what_is_not_known_is_null) {
  const json all = speeds_as_json(with("a", {{"a", 0, 7.128, 0, 0.504, 3}}));
  EXPECT_EQ(all, json::parse(R"([{"model":"a","prefill_tokens_per_s":null,"decode_tokens_per_s":7.13,)"
                             R"("load_s":null,"slowdown":0.5,"answers":3}])"));
  EXPECT_EQ(speeds_as_json(with("a", {})), json::array());
}

}  // namespace
}  // namespace pocketfleet
