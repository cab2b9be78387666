#include "pocketfleet/wire/stop_seam.hpp"

#include <gtest/gtest.h>

namespace pocketfleet {
namespace {

/// What is shown of `after`, given in pieces of that size; "|" at the end: a stop string was met.
std::string shown(const json& stops, const std::string& before, const std::string& after, std::size_t size) {
  stop_seam seam(stops, before);
  std::string out;
  for (std::size_t i = 0; i < after.size() && !seam.hit(); i += size) out += seam.take(after.substr(i, size));
  out += seam.rest();
  return seam.hit() ? out + "|" : out;
}

TEST(stop_seam, a_stop_string_over_the_seam_ends_the_answer_however_the_rest_is_cut) {
  for (std::size_t size = 1; size < 10; ++size) {
    EXPECT_EQ(shown({" 12 13"}, " 10 11 12", " 13 14", size), "|") << size;
    EXPECT_EQ(shown({"x", "abc"}, "ab", "cde", size), "|") << size;
    EXPECT_EQ(shown({"abcd"}, "a", "bcd", size), "|") << size;
  }
}

TEST(stop_seam, everything_else_comes_through_whole) {
  for (std::size_t size = 1; size < 10; ++size) {
    EXPECT_EQ(shown({" 12 13"}, " 10 11 12", " 14 13", size), " 14 13") << size;
    EXPECT_EQ(shown({"abc"}, "", "abc", size), "abc") << "behind the seam it is the engine's affair";
    EXPECT_EQ(shown({"ab"}, "xxab", "cd", size), "cd") << "in front of it the first engine has seen it";
    EXPECT_EQ(shown(json(), "ab", "cd", size), "cd");
    EXPECT_EQ(shown({"abcdefgh"}, "ab", "cd", size), "cd") << "an end comes before it is known";
  }
}

TEST(stop_seam, holds_back_no_more_than_the_longest_stop_string) {
  stop_seam seam({"abcd"}, "a");
  EXPECT_EQ(seam.take("b"), "");
  EXPECT_EQ(seam.take("x"), "");
  EXPECT_EQ(seam.take("y"), "bxy");
  EXPECT_EQ(seam.take("z"), "z");
}

}  // namespace
}  // namespace pocketfleet
