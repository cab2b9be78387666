// What the dispatcher might do as well, tried here first: with true speeds and true caches, so that what they
// show is the idea's worth and not that of what has been learned. Answers' lengths they do not know.
#include <algorithm>

#include "rivals.hpp"

namespace pocketfleet::fleet {
namespace {

constexpr double expected_answer = 140;  // the workloads' mean

struct ideas {
  bool by_prefix = false;
  bool moves = false;
  bool loyal = false;   ///< to whichever phone has read most of it, whatever that phone is doing
  double spares = 0;    ///< share of a displaced text that somebody will want again
  double patience = 1;  ///< so much later an answer may be for being begun at once; a batch's may not
};

/// One queue. A phone that comes free takes whom it saves most reading, waiting counted in (as SGLang orders
/// by longest prefix); who comes to several free phones takes the one that will be done first, and waits for
/// a busy one if that is sooner. And an answer on a slow phone moves to a fast one that has nothing to do.
class matchmaker : public balancer {
 public:
  matchmaker(const std::vector<phone_spec>& phones, const truth& all, const ideas& what)
      : world_(all), what_(what) {
    for (const phone_spec& p : phones) phones_.push_back({p.permits, 0, false, 0});
  }

  bool arrive(std::size_t request, const want& wanted, double now, starts& out) override {
    line_.push_back({request, now, wanted.avoid, wanted.how_soon == urgency::batch});
    serve(now, out);
    return true;
  }
  void ended(std::size_t request, std::size_t phone, verdict, const measured&, double now,
             starts& out) override {
    --phones_[phone].running;
    std::erase_if(running_, [&](const auto& r) { return r.request == request; });
    serve(now, out);
  }
  void found(std::size_t phone, const phone_report& what, double now, starts& out) override {
    phones_[phone].up = what.state == health::up;
    serve(now, out);
  }
  bool ticks() const override { return what_.moves; }
  void tick(double now, starts& out) override { serve(now, out); }

 private:
  struct waiting {
    std::size_t request;
    double since;
    std::vector<phone_id> avoid;
    bool batch;
  };
  struct phone_now {
    std::uint32_t permits, running;
    bool up;
    double booked;  // seconds that somebody who waits has in mind
  };
  struct run {
    std::size_t request, phone;
  };

  bool may(const waiting& w, std::size_t p) const {
    return phones_[p].up &&
           (std::find(w.avoid.begin(), w.avoid.end(), static_cast<phone_id>(p)) == w.avoid.end() ||
            w.avoid.size() >= phones_.size());
  }
  bool free(std::size_t p) const { return phones_[p].running < phones_[p].permits; }

  double takes(std::size_t p, std::size_t request) const {
    return world_.takes(p, request, true, expected_answer);
  }
  double saves(std::size_t p, std::size_t request) const {
    return world_.takes(p, request, false, expected_answer) - takes(p, request);
  }

  void serve(double now, starts& out) {
    for (phone_now& p : phones_) p.booked = 0;
    if (what_.by_prefix) order(now);
    for (auto w = line_.begin(); w != line_.end();) {
      if (std::none_of(phones_.begin(), phones_.end(),
                       [](const phone_now& p) { return p.up && p.running < p.permits; }))
        return;
      const std::size_t to = best_for(*w);
      if (to < phones_.size() && free(to) && phones_[to].booked == 0) {
        start_on(w->request, to, out);
        w = line_.erase(w);
      } else {
        if (to < phones_.size()) phones_[to].booked += takes(to, w->request);
        ++w;
      }
    }
    if (what_.moves) move(out);
  }

  /// Those first who gain most on a phone that is free now.
  void order(double now) {
    const auto gain = [&](const waiting& w) {
      double most = 0;
      for (std::size_t p = 0; p < phones_.size(); ++p) {
        if (free(p) && may(w, p)) most = std::max(most, saves(p, w.request));
      }
      return most + 0.5 * (now - w.since);
    };
    std::vector<std::pair<double, waiting>> keyed;
    for (waiting& w : line_) keyed.emplace_back(gain(w), std::move(w));
    std::stable_sort(keyed.begin(), keyed.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    line_.clear();
    for (auto& k : keyed) line_.push_back(std::move(k.second));
  }

  /// Where it is done soonest. If that is at once, a phone that would lose less of what others will want
  /// again goes before one that would lose more.
  std::size_t best_for(const waiting& w) const {
    std::size_t best = phones_.size(), kindest = best;
    double soonest = 0, least = 0;
    for (std::size_t p = 0; p < phones_.size(); ++p) {
      if (!may(w, p)) continue;
      const bool now = free(p) && phones_[p].booked == 0;
      double in =
          (free(p) ? 0 : world_.busy_for(p, expected_answer)) + phones_[p].booked + takes(p, w.request);
      if (what_.loyal) in += 1e6 * world_.takes(p, w.request, true, 1) / world_.takes(p, w.request, false, 1);
      const double with_loss = in + what_.spares * world_.displaces(p, w.request);
      if (best == phones_.size() || in < soonest) {
        soonest = in;
        best = p;
      }
      if (now && (kindest == phones_.size() || with_loss < least)) {
        least = with_loss;
        kindest = p;
      }
    }
    if (kindest == phones_.size() || what_.loyal) return best;
    const bool soon_enough = takes(kindest, w.request) <= (w.batch ? 1 : what_.patience) * soonest;
    const bool at_once = free(best) && phones_[best].booked == 0;
    return at_once || soon_enough ? kindest : best;
  }

  void start_on(std::size_t request, std::size_t to, starts& out) {
    out.push_back({request, to, {}});
    ++phones_[to].running;
    running_.push_back({request, to});
  }

  /// Nobody waits: the answer that gains most goes on elsewhere, if it gains a good deal.
  void move(starts& out) {
    constexpr double worth = 3;  // seconds
    if (!line_.empty()) return;
    for (;;) {
      double most = worth;
      run* who = nullptr;
      std::size_t where = 0;
      for (run& r : running_) {
        const double left = world_.left(r.phone, r.request, expected_answer);
        for (std::size_t p = 0; p < phones_.size(); ++p) {
          if (!phones_[p].up || phones_[p].running > 0) continue;
          const double gains = left - world_.goes_on(p, r.request, expected_answer);
          if (gains <= most) continue;
          most = gains;
          who = &r;
          where = p;
        }
      }
      if (who == nullptr) return;
      --phones_[who->phone].running;
      ++phones_[where].running;
      who->phone = where;
      out.push_back({who->request, where, {}});
      if (out.size() > phones_.size()) return;
    }
  }

  const truth& world_;
  ideas what_;
  std::vector<phone_now> phones_;
  std::deque<waiting> line_;
  std::vector<run> running_;
};

constexpr std::array proposals{
    std::pair<std::string_view, ideas>{"ideal", {}},
    std::pair<std::string_view, ideas>{"ideal-prefix-order", {.by_prefix = true}},
    std::pair<std::string_view, ideas>{"ideal-loyal", {.loyal = true}},
    std::pair<std::string_view, ideas>{"ideal-moving", {.moves = true}},
    std::pair<std::string_view, ideas>{"ideal-sparing", {.spares = 0.7}},
    std::pair<std::string_view, ideas>{"ideal-at-once", {.patience = 2}},
    std::pair<std::string_view, ideas>{"ideal-both", {.spares = 0.7, .patience = 2}},
};

}  // namespace

std::vector<std::string> proposal_names() {
  std::vector<std::string> names;
  for (const auto& [known, what] : proposals) names.emplace_back(known);
  return names;
}

std::unique_ptr<balancer> make_proposal(std::string_view name, const std::vector<phone_spec>& phones,
                                        const truth& world) {
  for (const auto& [known, what] : proposals) {
    if (known == name) return std::make_unique<matchmaker>(phones, world, what);
  }
  return nullptr;
}

}  // namespace pocketfleet::fleet
