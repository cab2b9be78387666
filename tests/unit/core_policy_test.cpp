#include "pocketfleet/core/policy.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>

namespace pocketfleet {
namespace {

/// Phones as the dispatcher hands them to a policy, named a, b, c, ...
class fleet {
 public:
  explicit fleet(const std::vector<std::uint32_t>& weights, std::uint32_t scale = 100)
      : credits_(weights.size()) {
    for (std::size_t i = 0; i < weights.size(); ++i) {
      all_.push_back({static_cast<phone_id>(i), scale * weights[i], 0, 1, &credits_[i]});
    }
  }

  candidate& operator[](char name) { return all_[static_cast<std::size_t>(name - 'a')]; }

  /// The name of the one that is chosen among those named; all if none is.
  char pick(policy& p, std::string_view among = {}) {
    std::vector<candidate> here;
    for (const candidate& c : all_) {
      if (among.empty() || among.find(name(c)) != std::string_view::npos) here.push_back(c);
    }
    const std::size_t at = p.pick(here, urgency::interactive);
    EXPECT_LT(at, here.size());
    return name(here[at]);
  }
  std::string picks(policy& p, std::size_t n, std::string_view among = {}) {
    std::string out;
    while (out.size() < n) out += pick(p, among);
    return out;
  }

 private:
  static char name(const candidate& c) { return static_cast<char>('a' + static_cast<int>(c.phone)); }

  std::vector<std::int64_t> credits_;
  std::vector<candidate> all_;
};

std::size_t count(std::string_view text, char c) {
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), c));
}

TEST(weighted_round_robin, gives_the_known_sequence_of_nginx) {
  const auto p = make_weighted_round_robin();
  fleet f({5, 1, 1});
  EXPECT_EQ(f.picks(*p, 7), "aabacaa");
  EXPECT_EQ(f.picks(*p, 7), "aabacaa") << "and again";
}

TEST(weighted_round_robin, equal_weights_take_turns_in_the_order_of_the_file) {
  const auto p = make_weighted_round_robin();
  fleet f({1, 1, 1, 1});
  EXPECT_EQ(f.picks(*p, 12), "abcdabcdabcd");
}

TEST(weighted_round_robin, a_single_phone_is_always_chosen) {
  const auto p = make_weighted_round_robin();
  fleet f({3});
  EXPECT_EQ(f.picks(*p, 5), "aaaaa");
}

TEST(weighted_round_robin, every_window_as_long_as_the_weights_holds_each_weight_exactly) {
  const std::vector<std::vector<std::uint32_t>> sets{
      {1, 1},    {2, 1},  {5, 1, 1},          {3, 2, 1},          {4, 3, 2, 1},
      {7, 7, 1}, {10, 1}, {1, 2, 3, 4, 5, 6}, {13, 8, 5, 3, 2, 1}};
  for (const auto& weights : sets) {
    const auto p = make_weighted_round_robin();
    fleet f(weights);
    std::size_t whole = 0;
    for (const auto w : weights) whole += w;
    const std::string all = f.picks(*p, 4 * whole);
    for (std::size_t at = 0; at + whole <= all.size(); ++at) {
      const auto window = std::string_view(all).substr(at, whole);
      for (std::size_t i = 0; i < weights.size(); ++i) {
        ASSERT_EQ(count(window, static_cast<char>('a' + i)), weights[i])
            << testing::PrintToString(weights) << " window " << window;
      }
    }
  }
}

TEST(weighted_round_robin, the_unit_of_the_weights_changes_nothing) {
  const auto p = make_weighted_round_robin();
  fleet ones({4, 2, 3}, 1);
  fleet hundreds({4, 2, 3}, 100);
  EXPECT_EQ(ones.picks(*p, 90), hundreds.picks(*p, 90));
}

TEST(weighted_round_robin, a_heavy_phone_does_not_get_its_share_in_one_go) {
  const auto p = make_weighted_round_robin();
  fleet f({4, 4, 4});
  EXPECT_EQ(f.picks(*p, 60).find("aa"), std::string::npos);
  fleet g({3, 2});
  EXPECT_EQ(g.picks(*p, 60).find("aaa"), std::string::npos);
}

TEST(weighted_round_robin, those_that_stay_share_exactly_while_one_is_away) {
  const auto p = make_weighted_round_robin();
  fleet f({3, 1, 2});
  f.picks(*p, 6);
  const std::string without_c = f.picks(*p, 40, "ab");
  EXPECT_EQ(count(without_c, 'a'), 30U);
  EXPECT_EQ(count(without_c, 'b'), 10U);
}

TEST(weighted_round_robin, one_that_was_away_has_neither_saved_up_turns_nor_lost_its_own) {
  for (std::size_t before = 0; before < 12; ++before) {
    const auto p = make_weighted_round_robin();
    fleet f({1, 1, 1});
    f.picks(*p, before);
    f.picks(*p, 1000, "ab");
    const std::string after = f.picks(*p, 30);
    EXPECT_GE(count(after.substr(0, 6), 'c'), 1U) << after;
    EXPECT_LE(count(after.substr(0, 6), 'c'), 3U) << after;
    EXPECT_NEAR(static_cast<double>(count(after, 'c')), 10.0, 1.0) << after;
  }
}

TEST(weighted_round_robin, shares_hold_under_random_comings_and_goings) {
  // Each is away half of the time at random; the choice among those there keeps close to the weights.
  const auto p = make_weighted_round_robin();
  fleet f({4, 2, 1, 1});
  std::minstd_rand random(11);
  std::map<char, double> got;
  std::map<char, double> due;
  for (int i = 0; i < 20'000; ++i) {
    std::string here;
    double whole = 0;
    for (const char c : {'a', 'b', 'c', 'd'}) {
      if (random() % 2 == 0) continue;
      here += c;
      whole += f[c].weight;
    }
    if (here.empty()) continue;
    for (const char c : here) due[c] += f[c].weight / whole;
    got[f.pick(*p, here)] += 1;
  }
  for (const auto& [name, share] : due) EXPECT_NEAR(got[name] / share, 1.0, 0.03) << name;
}

TEST(weighted_round_robin, a_weight_that_changes_counts_from_then_on) {
  const auto p = make_weighted_round_robin();
  fleet f({1, 1});
  f.picks(*p, 10);
  f['b'].weight = 300;
  f.picks(*p, 4);
  const std::string after = f.picks(*p, 40);
  EXPECT_EQ(count(after, 'b'), 30U);
}

TEST(least_loaded, takes_the_phone_with_the_fewest_in_flight) {
  const auto p = make_least_loaded();
  fleet f({1, 1, 1});
  f['a'].in_flight = 2;
  f['b'].in_flight = 1;
  f['c'].in_flight = 2;
  EXPECT_EQ(f.picks(*p, 5), "bbbbb");
  f['c'].in_flight = 0;
  EXPECT_EQ(f.pick(*p), 'c');
}

TEST(least_loaded, counts_what_is_in_flight_by_weight) {
  const auto p = make_least_loaded();
  fleet f({1, 4});
  f['a'].in_flight = 1;
  f['b'].in_flight = 3;
  EXPECT_EQ(f.picks(*p, 3), "bbb") << "3/4 is less than 1/1";
  f['b'].in_flight = 5;
  EXPECT_EQ(f.picks(*p, 3), "aaa") << "5/4 is more than 1/1";
}

TEST(least_loaded, fills_an_idle_fleet_by_weight) {
  const auto p = make_least_loaded();
  fleet f({4, 2, 1});
  for (int i = 0; i < 70; ++i) ++f[f.pick(*p)].in_flight;
  EXPECT_EQ(f['a'].in_flight, 40U);
  EXPECT_EQ(f['b'].in_flight, 20U);
  EXPECT_EQ(f['c'].in_flight, 10U);
}

TEST(least_loaded, equals_take_turns_by_weight) {
  const auto p = make_least_loaded();
  fleet f({5, 1, 1});
  EXPECT_EQ(f.picks(*p, 14), "aabacaaaabacaa") << "all are idle: the round robin decides";
  fleet g({1, 1, 1});
  g['b'].in_flight = 1;
  EXPECT_EQ(g.picks(*p, 6), "acacac") << "only among the equals";
}

TEST(least_loaded, large_counts_do_not_overflow) {
  const auto p = make_least_loaded();
  fleet f({1, 1}, 4'000'000'000U);
  f['a'].in_flight = 4'000'000'000U;
  f['b'].in_flight = 3'999'999'999U;
  EXPECT_EQ(f.pick(*p), 'b');
}

// ---- adaptive

/// A phone that has a permit in so many seconds and then takes so many.
candidate foreseen(double free_in, double takes, std::uint32_t weight = 100) {
  candidate c;
  c.weight = weight;
  c.free_in = free_in;
  c.takes = takes;
  return c;
}

TEST(adaptive, is_where_the_answer_is_whole_soonest) {
  const auto p = make_adaptive();
  EXPECT_TRUE(p->foresees());
  const std::vector among{foreseen(0, 30), foreseen(0, 20), foreseen(0, 40)};
  EXPECT_EQ(p->pick(among, urgency::interactive), 1U);
}

TEST(adaptive, waits_if_that_is_much_sooner_and_in_a_batch_if_it_is_sooner) {
  const auto p = make_adaptive();
  const std::vector little{foreseen(0, 30), foreseen(10, 15)};
  EXPECT_EQ(p->pick(little, urgency::interactive), 0U);
  EXPECT_EQ(p->pick(little, urgency::batch), 1U);
  const std::vector much{foreseen(0, 100), foreseen(10, 15)};
  EXPECT_EQ(p->pick(much, urgency::interactive), 1U);
}

TEST(adaptive, takes_a_tenth_for_each_halving_of_the_weight) {
  const auto p = make_adaptive();
  const std::vector light{foreseen(0, 10, 100), foreseen(0, 11.9, 400)};
  EXPECT_EQ(p->pick(light, urgency::interactive), 1U);
  const std::vector slow{foreseen(0, 10, 100), foreseen(0, 12.1, 400)};
  EXPECT_EQ(p->pick(slow, urgency::interactive), 0U);
}

TEST(adaptive, counts_what_others_lose) {
  const auto p = make_adaptive();
  std::vector among{foreseen(0, 10), foreseen(0, 12)};
  among[0].harm = 5;
  EXPECT_EQ(p->pick(among, urgency::interactive), 1U);
}

TEST(make_policy, knows_each_name_it_lists) {
  EXPECT_THAT(policy_names(), testing::ElementsAre("weighted_round_robin", "least_loaded", "adaptive"));
  for (const auto name : policy_names()) {
    const auto p = make_policy(name);
    ASSERT_NE(p, nullptr) << name;
    EXPECT_EQ(p->name(), name);
  }
}

TEST(make_policy, is_null_for_any_other_name) {
  for (const auto* name : {"", "round_robin", "Weighted_Round_Robin", "least_loaded "}) {
    EXPECT_EQ(make_policy(name), nullptr) << name;
  }
}

}  // namespace
}  // namespace pocketfleet
