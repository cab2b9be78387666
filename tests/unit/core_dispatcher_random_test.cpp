// Random sequences of everything that can happen to a dispatcher, with what must hold after each step.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "pocketfleet/core/dispatcher.hpp"
#include "pocketfleet/core/model_name.hpp"

namespace pocketfleet {
namespace {

const std::vector<std::string> some_models{"qwen:1b", "Gemma", "phi:latest"};
const std::vector<std::string> some_wants{"", "", "qwen:1b", "gemma:latest", "phi:latest", "llama:latest"};

class world {
 public:
  explicit world(std::uint32_t seed) : random_(seed) {
    settings_.queue_capacity = 1 + pick(12);
    settings_.retry_floor = 1 + pick(3);
    auto chosen = make_policy(policy_names()[pick(3)]);
    foresees_ = chosen->foresees();
    d_.emplace(settings_, std::move(chosen), seed);
    for (unsigned i = 0; i < 5; ++i) pool_.push_back(make_phone(i));
    configure();
  }

  void step() {
    switch (pick(12)) {
      case 0:
      case 1:
      case 2:
      case 3: acquire(); break;
      case 4:
      case 5:
      case 6: settle(random_verdict()); break;
      case 7: cancel(); break;
      case 8: report(); break;
      case 9: pass(milliseconds{pick(20'000)}); break;
      case 10:
        if (pick(8) == 0) configure();
        if (pick(4) == 0) by_hand();
        break;
      default: answer(); break;
    }
    check();
  }

  /// Everything ends; nothing may be left.
  void end() {
    while (!outstanding_.empty()) settle(random_verdict());
    while (!waiting_.empty()) cancel();
    check();
    EXPECT_EQ(d_->in_flight(), 0U);
    EXPECT_EQ(d_->waiting(), 0U);
    for (const auto& s : d_->status(now_)) {
      EXPECT_EQ(s.in_flight, 0U);
      EXPECT_FALSE(s.draining) << "drained, and still there";
    }
    for (const auto& [who, outcomes] : outcomes_) EXPECT_EQ(outcomes, 1U) << "ticket " << who;
    d_->configure(std::vector<phone_config>{}, now_);
    EXPECT_TRUE(d_->status(now_).empty());
  }

  std::size_t grants() const { return grants_; }
  std::size_t late_grants() const { return late_grants_; }

 private:
  struct running {
    grant what;
    std::string phone;
  };

  unsigned pick(unsigned n) { return static_cast<unsigned>(random_() % n); }

  verdict random_verdict() {
    const std::vector<verdict> all{verdict::success, verdict::success,     verdict::failure,
                                   verdict::failure, verdict::unreachable, verdict::neutral};
    return all[pick(6)];
  }

  phone_config make_phone(unsigned i) {
    phone_config c;
    c.host = "p" + std::to_string(i);
    c.name = c.host;
    c.model = pick(2) == 0 ? "" : some_models[pick(3)];
    c.weight = 1 + pick(5);
    c.max_concurrency = 1 + pick(4);
    c.engine = static_cast<engine_kind>(pick(3));
    return c;
  }

  // ---- events

  void acquire() {
    want w;
    w.model = some_wants[pick(6)];
    if (pick(5) == 0) w.engines = mask_of(static_cast<engine_kind>(1 + pick(2)));
    w.vision = pick(6) == 0;
    const auto targets = d_->targets();
    if (pick(5) == 0 && !targets.empty()) w.avoid.push_back(targets[pick(unsigned(targets.size()))]->id);
    if (pick(8) == 0 && !targets.empty()) w.only = targets[pick(unsigned(targets.size()))]->id;
    w.which = static_cast<turn>(pick(8) % 3);
    w.prompt_bytes = pick(4'000);
    w.session = pick(4);
    for (unsigned marks = pick(4); marks > 0; --marks) w.prefix.push_back({pick(3), 300});
    const ticket who = ++last_ticket_;
    const std::size_t before = d_->waiting();
    auto decided = d_->acquire(who, w, now_);
    if (auto* g = std::get_if<grant>(&decided)) {
      ++outcomes_[who];
      start(w, *g);
    } else if (auto* why = std::get_if<error>(&decided)) {
      ++outcomes_[who];
      ASSERT_EQ(d_->waiting(), before);
      check_refusal(w, *why, before);
    } else {
      ASSERT_EQ(d_->waiting(), before + 1);
      const auto place = std::find_if(waiting_.begin(), waiting_.end(), [&](const auto& other) {
        return w.which != turn::first && other.second.which == turn::first;
      });
      waiting_.emplace(place, who, w);
      serve(d_->tick(now_));  // as promised: somebody before it may have become free to go
    }
  }

  void settle(verdict how) {
    if (outstanding_.empty()) return;
    const auto at = outstanding_.begin() + pick(unsigned(outstanding_.size()));
    const grant g = at->what;
    outstanding_.erase(at);
    measured m;
    m.answer_tokens = pick(200);
    m.answer_time = milliseconds{pick(20'000)};
    m.prompt_tokens = pick(1000);
    m.prompt_time = milliseconds{pick(20'000)};
    serve(d_->settle(g, how, now_, m));
  }

  void cancel() {
    if (waiting_.empty()) return;
    const auto at = waiting_.begin() + pick(unsigned(waiting_.size()));
    const ticket who = at->first;
    ++outcomes_[who];
    waiting_.erase(at);
    ASSERT_TRUE(d_->cancel(who));
    ASSERT_FALSE(d_->cancel(who));
  }

  void report() {
    const auto targets = d_->targets();
    if (targets.empty()) return;
    const auto& t = targets[pick(unsigned(targets.size()))];
    phone_report r;
    r.state = static_cast<health>(1 + pick(6) % 3);
    if (pick(3) != 0) r.state = health::up;
    // A phone says what it is, unless the file does.
    r.engine = t->engine != engine_kind::unknown ? t->engine : static_cast<engine_kind>(1 + pick(2));
    if (pick(2) == 0) {
      r.models.emplace();
      for (const auto& m : some_models) {
        if (pick(2) == 0) r.models->push_back(m);
      }
    }
    if (pick(4) == 0) r.slots = pick(5);
    if (pick(4) == 0) {
      r.vision = pick(2) == 0;
      blind_[t->name] = !*r.vision;
    }
    serve(d_->report(t->id, r, now_));
  }

  void pass(duration time) {
    now_ += time;
    serve(d_->tick(now_));
  }

  void configure() {
    std::vector<phone_config> phones;
    for (auto& c : pool_) {
      if (pick(4) == 0) continue;
      if (pick(3) == 0) {
        c.weight = 1 + pick(5);
        c.max_concurrency = 1 + pick(4);
      }
      phones.push_back(c);
    }
    std::shuffle(phones.begin(), phones.end(), random_);
    const auto made = d_->configure(phones, now_);
    for (const auto& c : pool_) {  // what is forgotten comes back as new
      const auto all = d_->status(now_);
      if (std::none_of(all.begin(), all.end(), [&](const auto& s) { return s.config.name == c.name; })) {
        blind_.erase(c.name);
      }
    }
    serve(made);
  }

  void answer() {
    if (outstanding_.empty()) return;
    auto& one = outstanding_[pick(unsigned(outstanding_.size()))];
    const auto made = d_->answered(one.what, now_);
    serve(made);
  }

  /// More often back to work than out of it.
  void by_hand() {
    const std::string name = pool_[pick(5)].name;
    const bool out = pick(3) == 0;
    if (pick(2) == 0) return serve(d_->drain(name, out, now_));
    serve(d_->hold_breaker_open(name, out, now_));
  }

  // ---- what must hold

  void serve(const std::vector<granted>& made) {
    std::ptrdiff_t before = 0;
    for (const auto& g : made) {
      const auto found =
          std::find_if(waiting_.begin(), waiting_.end(), [&](const auto& w) { return w.first == g.waiter; });
      ASSERT_NE(found, waiting_.end()) << "a grant for one who does not wait";
      EXPECT_GE(found - waiting_.begin(), before) << "those served together are served in their order";
      before = found - waiting_.begin();
      ++outcomes_[g.waiter];
      ++late_grants_;
      const want w = found->second;
      waiting_.erase(found);
      start(w, g.what);
    }
    // What was forgotten in the meantime comes back as new.
    const auto all = d_->status(now_);
    for (auto it = blind_.begin(); it != blind_.end();) {
      const bool there =
          std::any_of(all.begin(), all.end(), [&](const auto& s) { return s.config.name == it->first; });
      it = there ? std::next(it) : blind_.erase(it);
    }
  }

  void start(const want& w, const grant& g) {
    ++grants_;
    outstanding_.push_back({g, g.phone->name});
    const auto all = d_->status(now_);
    const auto s =
        std::find_if(all.begin(), all.end(), [&](const auto& p) { return p.config.name == g.phone->name; });
    ASSERT_NE(s, all.end());
    EXPECT_EQ(g.since, now_);
    EXPECT_EQ(g.retry, w.which == turn::retry);
    const auto retries = static_cast<std::size_t>(
        std::count_if(outstanding_.begin(), outstanding_.end(), [](const auto& r) { return r.what.retry; }));
    const auto share =
        static_cast<std::size_t>(0.2 * static_cast<double>(outstanding_.size() + waiting_.size()));
    EXPECT_TRUE(!g.retry || retries <= std::max(share, settings_.retry_floor));
    EXPECT_EQ(s->state, health::up);
    EXPECT_FALSE(s->draining);
    EXPECT_FALSE(s->drained);
    EXPECT_NE(s->breaker, breaker_state::open);
    EXPECT_NE(s->engine, engine_kind::unknown);
    EXPECT_LE(s->in_flight, s->config.max_concurrency);
    EXPECT_LE(s->in_flight, s->permits);
    EXPECT_TRUE(can_serve(*s, w)) << "a phone that cannot do it";
    EXPECT_TRUE(!w.only || *w.only == g.phone->id);
    EXPECT_EQ(std::count(w.avoid.begin(), w.avoid.end(), g.phone->id), 0);
  }

  /// Model, engine and images; written anew from what is promised.
  bool can_serve(const phone_status& s, const want& w) {
    if (s.engine != engine_kind::unknown && (w.engines & mask_of(s.engine)) == 0) return false;
    if (w.vision && blind_[s.config.name]) return false;
    if (w.model.empty()) {
      return s.engine == engine_kind::llama_server || !s.config.model.empty() || !s.models.empty();
    }
    for (const auto& m : s.models) {
      if (normalized_model(m) == w.model) return true;
    }
    const bool by_file = s.engine == engine_kind::llama_server || s.models.empty();
    return by_file && !s.config.model.empty() && normalized_model(s.config.model) == w.model;
  }

  bool allowed(const phone_status& s, const want& w) {
    for (const auto& t : d_->targets()) {
      if (t->name != s.config.name) continue;
      return (!w.only || *w.only == t->id) && std::count(w.avoid.begin(), w.avoid.end(), t->id) == 0;
    }
    return false;
  }

  /// A refused request could have been served neither now nor soon.
  void check_refusal(const want& w, const error& why, std::size_t waiting) {
    bool worth_waiting = false;
    for (const auto& s : d_->status(now_)) {
      if (s.draining || s.drained || s.breaker_held || !allowed(s, w) || !can_serve(s, w)) continue;
      const bool soon = s.state == health::unknown || s.state == health::loading;
      worth_waiting = worth_waiting || soon || (s.state == health::up && s.breaker != breaker_state::open);
    }
    switch (why.code) {
      case errc::queue_full:
        EXPECT_GE(waiting, settings_.queue_capacity);
        EXPECT_GE(why.retry_after, seconds{1});
        break;
      case errc::no_phone:
        EXPECT_FALSE(worth_waiting);
        EXPECT_GE(why.retry_after, seconds{1});
        break;
      case errc::model_not_found:
      case errc::unsupported: EXPECT_FALSE(worth_waiting); break;
      default: ADD_FAILURE() << to_string(why.code);
    }
  }

  void check() {
    const auto all = d_->status(now_);
    std::map<std::string, std::uint32_t> held;
    for (const auto& r : outstanding_) ++held[r.phone];
    std::size_t sum = 0;
    for (const auto& s : all) {
      sum += s.in_flight;
      ASSERT_EQ(s.in_flight, held[s.config.name]) << s.config.name;
      ASSERT_TRUE(!s.draining || s.in_flight > 0) << "drained, and still there";
      ASSERT_GE(s.permits, 1U);
      ASSERT_LE(s.permits, s.config.max_concurrency);
    }
    ASSERT_EQ(sum, outstanding_.size());
    ASSERT_EQ(d_->in_flight(), outstanding_.size());
    ASSERT_EQ(d_->waiting(), waiting_.size());
    ASSERT_LE(std::count_if(waiting_.begin(), waiting_.end(),
                            [](const auto& w) { return w.second.which == turn::first; }),
              static_cast<std::ptrdiff_t>(settings_.queue_capacity));
    for (const auto& [who, w] : waiting_) {
      if (w.which != turn::first) continue;  // may wait for the budget, or for a better phone
      const bool can_hope = std::any_of(all.begin(), all.end(), [&](const auto& s) {
        return s.in_flight > 0 && s.state == health::up && allowed(s, w) && can_serve(s, w);
      });
      if (foresees_ && can_hope) continue;  // may wait for a phone that is worth it
      for (const auto& s : all) {
        if (s.draining || s.drained || s.state != health::up || s.engine == engine_kind::unknown) continue;
        if (s.breaker == breaker_state::open || s.in_flight >= s.permits) continue;
        ASSERT_FALSE(allowed(s, w) && can_serve(s, w))
            << "ticket " << who << " waits beside " << s.config.name << ", which is free";
      }
    }
  }

  std::minstd_rand random_;
  dispatch_settings settings_{};
  bool foresees_ = false;
  std::optional<dispatcher> d_;
  time_point now_{seconds{1'000}};
  std::vector<phone_config> pool_;
  std::map<std::string, bool> blind_;
  std::vector<running> outstanding_;
  std::vector<std::pair<ticket, want>> waiting_;
  std::map<ticket, unsigned> outcomes_;
  ticket last_ticket_ = 0;
  std::size_t grants_ = 0;
  std::size_t late_grants_ = 0;
};

TEST(dispatcher_random, permits_breakers_and_queue_hold_whatever_happens) {
  std::size_t grants = 0;
  std::size_t late = 0;
  for (std::uint32_t seed = 1; seed <= 2'000; ++seed) {
    world w(seed);
    for (int i = 0; i < 120; ++i) {
      w.step();
      ASSERT_FALSE(testing::Test::HasFailure()) << "seed " << seed << ", step " << i;
    }
    w.end();
    ASSERT_FALSE(testing::Test::HasFailure()) << "seed " << seed << ", at the end";
    grants += w.grants();
    late += w.late_grants();
  }
  EXPECT_GT(grants, 20'000U) << "the sequences reach what they are meant to test";
  EXPECT_GT(late, 3'000U);
}

TEST(dispatcher_random, one_long_life_ends_as_clean_as_it_began) {
  world w(4711);
  for (int i = 0; i < 15'000; ++i) {
    w.step();
    ASSERT_FALSE(testing::Test::HasFailure()) << "step " << i;
  }
  w.end();
}

}  // namespace
}  // namespace pocketfleet
