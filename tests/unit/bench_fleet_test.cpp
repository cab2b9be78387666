// The simulated fleet of scripts/bench.sh --scenario fleet, itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>

#include "fleet/bounds.hpp"
#include "fleet/report.hpp"

namespace pocketfleet::fleet {
namespace {

using testing::AllOf;
using testing::DoubleNear;
using testing::Each;
using testing::Field;
using testing::Ge;
using testing::Le;

constexpr double network = 0.03;

phone_spec phone_of(const std::string& name, double decode, double prefill) {
  phone_spec p;
  p.name = name;
  p.decode = decode;
  p.prefill = prefill;
  return p;
}

/// One that says `tokens` and is answered with `answer`.
request ask(std::uint64_t id, double arrival, std::uint32_t tokens, std::uint32_t answer) {
  request r;
  r.arrival = arrival;
  r.prompt = {{id, tokens}};
  r.bytes = {tokens * 4};
  r.prompt_bytes = tokens * 4;
  r.answer = answer;
  r.answer_id = id + 1000;
  r.owner = 1;
  return r;
}

/// To whichever phone is free, in the order of the file.
class plain final : public balancer {
 public:
  explicit plain(std::size_t phones) : busy_(phones) {}
  bool arrive(std::size_t request, const want&, double, starts& out) override {
    waiting_.push_back(request);
    serve(out);
    return true;
  }
  void ended(std::size_t, std::size_t phone, verdict, const measured& m, double, starts& out) override {
    learned.push_back(m);
    busy_[phone] = 0;
    serve(out);
  }
  void found(std::size_t, const phone_report&, double, starts&) override {}

  std::vector<measured> learned;

 private:
  void serve(starts& out) {
    for (std::size_t p = 0; p < busy_.size() && !waiting_.empty(); ++p) {
      if (std::exchange(busy_[p], char{1})) continue;
      out.push_back({waiting_.front(), p, {}});
      waiting_.pop_front();
    }
  }
  std::vector<char> busy_;
  std::deque<std::size_t> waiting_;
};

/// One of each kind: bound on arrival, late, foreseeing, moving.
const std::vector<std::string> kinds{"static-wrr", "haproxy-leastconn", "prefix-hash",
                                     "late-wrr",   "adaptive",          "ideal-moving"};

/// Every phone is up to 2 % slower than it says.
auto about(double least) {
  return AllOf(Ge(least - 1e-3), Le(least * 1.021 + 0.1));
}

TEST(FleetWorld, ThreeRequestsOnTwoPhonesEndWhenTheyShould) {
  // 20 tokens/s written, 100 read; and half of that
  const std::vector<phone_spec> phones{phone_of("fast", 20, 100), phone_of("slow", 10, 50)};
  workload w;
  w.requests = {ask(1, 0, 100, 200), ask(2, 0, 100, 200), ask(3, 1, 50, 40)};
  world all(phones, w, 1);
  plain by(2);
  const run_result r = all.run(by);
  EXPECT_THAT(r.fates[0].first_token, about(network + 1));
  EXPECT_THAT(r.fates[0].ended, about(network + 1 + 10));
  EXPECT_THAT(r.fates[1].ended, about(network + 2 + 20));
  EXPECT_THAT(r.fates[2].ended, about(2 * network + 11 + 0.5 + 2));  // after the first
  EXPECT_EQ(r.fates[2].phone, 0U);
  EXPECT_EQ(r.ended, r.fates[1].ended);
  EXPECT_EQ(r.tokens_written, 440);
}

TEST(FleetWorld, WhatWasSaidBeforeIsNotReadAgain) {
  const std::vector<phone_spec> phones{phone_of("only", 20, 100)};
  workload w;
  w.requests = {ask(1, 0, 100, 200), ask(1, 5, 100, 200)};
  w.requests[1].after = 0;
  w.requests[1].prompt.push_back({1001, 200});  // the answer
  w.requests[1].prompt.push_back({2, 50});
  w.requests[1].bytes = {400, 800, 200};
  world all(phones, w, 1);
  plain by(1);
  const run_result r = all.run(by);
  EXPECT_EQ(r.fates[1].cached, 300U);
  EXPECT_EQ(r.fates[1].ever, 300U);
  EXPECT_THAT(r.fates[1].first_token - r.fates[1].arrived, about(network + 0.5));
  ASSERT_EQ(by.learned.size(), 2U);
  EXPECT_EQ(by.learned[1].prompt_tokens, 350U);
  EXPECT_EQ(by.learned[1].cached_tokens, 300U);
}

TEST(FleetWorld, TheSameSeedIsTheSameRunToTheLastDigit) {
  for (const std::string& policy : kinds) {
    std::vector<std::string> shown;
    for (int turn = 0; turn < 2; ++turn) {
      const auto phones = make_fleet("flaky-12", 3);
      const auto work = make_workload("conversations-25", phones, 3);
      world w(phones, work, 3);
      const auto by = make_balancer(policy, phones, w, 3);
      figures f = measure(phones, work, w.run(*by));
      auto& text = shown.emplace_back();
      for (const auto& [name, value] : f) text += name + "=" + testing::PrintToString(value) + " ";
    }
    EXPECT_EQ(shown[0], shown[1]) << policy;
    EXPECT_NE(shown[0], "");
  }
}

TEST(FleetWorld, EveryRequestEndsExactlyOnce) {
  for (const std::string& policy : kinds) {
    for (const char* what : {"conversations-25", "mixed"}) {
      const auto phones = make_fleet("flaky-12", 5);
      const auto work = make_workload(what, phones, 5);
      world w(phones, work, 5);
      const auto by = make_balancer(policy, phones, w, 5);
      const run_result r = w.run(*by);
      EXPECT_THAT(r.fates, Each(Field(&fate::ends, 1U))) << policy << ", " << what;
      EXPECT_GT(r.tokens_wasted, 0) << policy << ", " << what;  // something did fail
    }
  }
}

TEST(FleetBounds, NoPolicyIsBelowTheBoundAndTheClairvoyantIsNear) {
  for (const char* fleet : {"even-12", "mixed-6", "mixed-40", "hot-12"}) {
    const auto phones = make_fleet(fleet, 2);
    const auto work = make_workload("batch-64", phones, 2);
    const double bound = lower_bound(phones, work.requests);
    EXPECT_THAT(clairvoyant(phones, work.requests) / bound, AllOf(Ge(1.0), Le(1.25))) << fleet;
    for (const std::string& policy : balancer_names()) {
      world w(phones, work, 2);
      const auto by = make_balancer(policy, phones, w, 2);
      EXPECT_GE(w.run(*by).ended, bound) << fleet << ", " << policy;
    }
  }
}

TEST(FleetBounds, ABatchOfEqualRequestsOnEqualPhones) {
  const std::vector<phone_spec> phones{phone_of("a", 10, 100), phone_of("b", 10, 100)};
  workload w;
  for (std::uint64_t i = 1; i <= 3; ++i) w.requests.push_back(ask(i, 0, 100, 100));
  EXPECT_NEAR(lower_bound(phones, w.requests), 22, 0.01);  // one of them does two
  EXPECT_NEAR(clairvoyant(phones, w.requests), 22, 0.01);
}

heat_curve tensor() {
  return {.plateau = 0.45, .ambient = 25, .full = 41, .heating = 240, .cooling = 450, .lag = 90};
}

TEST(FleetSkin, FallsToItsPlateauInStepsAndComesBackLater) {
  skin s(tensor());
  std::vector<double> speeds{s.speed()};
  std::vector<double> when;
  double now = 0;
  for (double next = s.until_step(true); next < 1e9; next = s.until_step(true)) {
    s.pass(next, true);
    s.step(true);
    now += next;
    speeds.push_back(s.speed());
    when.push_back(s.temperature());
  }
  EXPECT_THAT(speeds,
              testing::ElementsAre(DoubleNear(1, 1e-9), DoubleNear(0.8625, 1e-9), DoubleNear(0.725, 1e-9),
                                   DoubleNear(0.5875, 1e-9), DoubleNear(0.45, 1e-9)));
  EXPECT_THAT(when, testing::Pointwise(DoubleNear(1e-6), {31.0, 33.0, 35.0, 37.0}));
  EXPECT_NEAR(now, 240 * std::log(16.0 / 4.0), 1e-6);
  EXPECT_LT(s.battery(), s.temperature());
  EXPECT_NEAR(s.until_step(false), 450 * std::log(12.0 / 10.5), 1e-6);  // 37 to 35.5 C
}

TEST(FleetSkin, NobodyGetsMoreDoneThanItsLimits) {
  // Work and rest in turns of every length, against the bound.
  for (const double full : {38.5, 41.0, 42.5}) {
    heat_curve curve = tensor();
    curve.full = full;
    const auto limits = skin(curve).limits();
    ASSERT_FALSE(limits.empty());
    for (const double work : {20.0, 60.0, 200.0, 1000.0}) {
      for (const double rest : {0.0, 5.0, 20.0, 100.0, 400.0}) {
        skin s(curve);
        double done = 0;
        double now = 0;
        while (now < 3600) {
          for (const auto& [working, lasts] : {std::pair{true, work}, std::pair{false, rest}}) {
            for (double left = lasts; left > 0;) {
              const double next = std::min(left, s.until_step(working));
              done += working ? next * s.speed() : 0;
              s.pass(next, working);
              left -= next;
              now += next;
              if (s.until_step(working) <= 1e-9) s.step(working);
            }
          }
          for (const auto& l : limits) ASSERT_LE(done, l.done + l.speed * now + 1e-6) << work << ", " << rest;
        }
      }
    }
  }
}

TEST(FleetCache, TheMostAlikeSlotElseTheOldest) {
  prompt_cache c(2, 0);
  const text a{{1, 100}, {2, 50}}, b{{5, 80}};
  const auto first = c.begin(a);
  const auto second = c.begin(b);
  EXPECT_NE(first.slot, second.slot);
  c.end(first.slot, {{1, 100}, {2, 50}, {3, 70}});
  c.end(second.slot, {{5, 80}, {6, 10}});
  const auto again = c.begin({{1, 100}, {2, 50}, {3, 70}, {4, 20}});
  EXPECT_EQ(again.slot, first.slot);
  EXPECT_EQ(again.cached, 220U);
  c.end(again.slot, a);
  EXPECT_EQ(c.begin({{9, 10}}).slot, second.slot);
  EXPECT_EQ(c.longest(a), 149U);  // the last token is always read
  c.clear();
  EXPECT_EQ(c.longest(a), 0U);
}

TEST(FleetCache, WhatFallsOutOfASlotIsKeptInMemoryForAWhile) {
  prompt_cache c(1, 500);
  for (std::uint64_t id = 1; id <= 3; ++id) c.end(c.begin({{id, 200}}).slot, {{id, 200}});
  EXPECT_EQ(c.longest({{1, 200}, {9, 1}}), 200U);
  EXPECT_EQ(c.begin({{1, 200}, {9, 1}}).cached, 200U);
  c.end(0, {{1, 200}});
  c.end(c.begin({{4, 200}}).slot, {{4, 200}});
  EXPECT_EQ(c.longest({{2, 200}, {9, 1}}), 0U);  // 500 tokens are two of them
}

}  // namespace
}  // namespace pocketfleet::fleet
