// What the dispatcher is compared with: balancers that bind a request to a phone when it arrives, each phone
// with a queue of its own, and two that do not. They know what HAProxy would: weights written by hand, who is
// up, how many requests each phone has. After the originals' documentation; no code of theirs.
#include "rivals.hpp"

#include <algorithm>
#include <cmath>

namespace pocketfleet::fleet {
namespace {

bool avoided(const want& w, std::size_t phone) {
  return std::find(w.avoid.begin(), w.avoid.end(), static_cast<phone_id>(phone)) != w.avoid.end();
}

std::uint64_t mixed(std::uint64_t x) {  // splitmix64's end
  x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27U)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31U);
}

/// Smooth weighted round robin, request by request: the original design.
class static_round final : public bound {
 public:
  using bound::bound;
  std::size_t choose(const waiting&, const std::vector<std::size_t>& from) override {
    double earned = 0;
    std::size_t best = from[0];
    for (const std::size_t p : from) {
      line(p).credit += line(p).weight;
      earned += line(p).weight;
      if (line(p).credit > line(best).credit) best = p;
    }
    line(best).credit -= earned;
    return best;
  }
};

/// Fewest requests under way or queued by weight; among equals in turn.
class least_connections : public bound {
 public:
  using bound::bound;
  std::size_t choose(const waiting&, const std::vector<std::size_t>& from) override {
    const auto load = [&](std::size_t p) {
      return (static_cast<double>(line(p).outstanding()) + 1) / line(p).weight;
    };
    ++turn_;
    const auto better = [&](std::size_t a, std::size_t b) {
      return load(a) != load(b) ? load(a) < load(b) : line(a).chosen < line(b).chosen;
    };
    const std::size_t best = *std::min_element(from.begin(), from.end(), better);
    line(best).chosen = turn_;
    return best;
  }

 private:
  std::uint64_t turn_ = 0;
};

/// Likewise, when nobody has written any weights.
class least_connections_plain final : public least_connections {
 public:
  least_connections_plain(const std::vector<phone_spec>& phones, const truth& world, std::uint64_t seed)
      : least_connections(phones, world, seed) {
    for (std::size_t p = 0; p < phones.size(); ++p) line(p).weight = 1;
  }
};

/// Of two drawn by lot the one with fewer requests by weight (Mitzenmacher).
class power_of_two final : public bound {
 public:
  using bound::bound;
  std::size_t choose(const waiting&, const std::vector<std::size_t>& from) override {
    const std::size_t a = from[below(luck_, from.size())];
    const std::size_t b = from[below(luck_, from.size())];
    const auto load = [&](std::size_t p) {
      return (static_cast<double>(line(p).outstanding()) + 1) / line(p).weight;
    };
    return load(b) < load(a) ? b : a;
  }
};

/// Consistent hashing of the first message that is not the system's, with bounded loads (Mirrokni et al., as
/// in HAProxy's hash-balance-factor 125 and KubeAI's PrefixHash): nobody gets over 1.25 times its share.
class prefix_hash final : public bound {
 public:
  using bound::bound;
  std::size_t choose(const waiting& w, const std::vector<std::size_t>& from) override {
    constexpr double most = 1.25;
    const auto& marks = w.what.prefix;
    const std::uint64_t key = marks.empty() ? 0 : marks[std::min<std::size_t>(1, marks.size() - 1)].hash;
    double all = 1;
    double weights = 0;
    for (const std::size_t p : from) {
      all += static_cast<double>(line(p).outstanding());
      weights += line(p).weight;
    }
    // Rendezvous hashing, weighted, stands for the ring: as even, and as stable when phones come and go.
    std::size_t best = from[0];
    double highest = -1;
    for (const std::size_t p : from) {
      const double share = std::ceil(most * all * line(p).weight / weights);
      if (static_cast<double>(line(p).outstanding()) + 1 > share) continue;
      const double u = (static_cast<double>(mixed(key ^ mixed(p + 1)) >> 11U) + 0.5) * 0x1p-53;
      const double score = -line(p).weight / std::log(u);
      if (score <= highest) continue;
      highest = score;
      best = p;
    }
    return best;
  }
};

/// Knows the length of every answer, every cache and every phone's present speed, and binds on arrival to
/// the phone that will be done first. What foresight is worth, without any cleverness in the order.
class seer final : public bound {
 public:
  using bound::bound;
  std::size_t choose(const waiting& w, const std::vector<std::size_t>& from) override {
    std::size_t best = from[0];
    double soonest = 0;
    for (const std::size_t p : from) {
      const bool free = line(p).running < line(p).permits;
      const double together = line(p).permits * speed_of(line(p).permits);
      double in = free ? 0 : world_.busy_for(p);
      for (const waiting& q : line(p).queue) in += world_.takes(p, q.request, false) / together;
      in += world_.takes(p, w.request, free) * (free ? 1 : line(p).permits / together);
      if (p != from[0] && in >= soonest) continue;
      soonest = in;
      best = p;
    }
    return best;
  }
};

/// HAProxy's leastconn with maxconn, tuned: a phone that is full is passed over, and when all are, requests
/// wait in one queue for whichever comes free. Late binding, as the dispatcher's own.
class one_queue final : public bound {
 public:
  using bound::bound;
  std::size_t choose(const waiting&, const std::vector<std::size_t>& from) override {
    std::size_t best = nowhere;
    for (const std::size_t p : from) {
      if (line(p).running >= line(p).permits) continue;
      const auto load = [&](std::size_t i) { return (line(i).running + 1.0) / line(i).weight; };
      if (best == nowhere || load(p) < load(best)) best = p;
    }
    return best;
  }
};

template <class B>
std::unique_ptr<balancer> make(const std::vector<phone_spec>& phones, const truth& world,
                               std::uint64_t seed) {
  return std::make_unique<B>(phones, world, seed);
}

struct named {
  std::string_view name;
  std::unique_ptr<balancer> (*make)(const std::vector<phone_spec>&, const truth&, std::uint64_t);
};
constexpr std::array rivals{
    named{"static-wrr", make<static_round>},
    named{"least-connections", make<least_connections>},
    named{"least-conn-plain", make<least_connections_plain>},
    named{"haproxy-leastconn", make<one_queue>},
    named{"power-of-two", make<power_of_two>},
    named{"prefix-hash", make<prefix_hash>},
    named{"seer", make<seer>},
};

}  // namespace

bound::bound(const std::vector<phone_spec>& phones, const truth& world, std::uint64_t seed)
    : world_(world), luck_(seed * 13 + 1) {
  for (const phone_spec& p : phones) {
    lines_.emplace_back();
    lines_.back().weight = p.weight;
    lines_.back().permits = p.permits;
  }
}

bool bound::arrive(std::size_t request, const want& wanted, double, starts& out) {
  place({request, wanted}, out);
  return true;
}

void bound::ended(std::size_t, std::size_t phone, verdict, const measured&, double, starts& out) {
  --line(phone).running;
  serve(phone, out);
  serve_common(out);
}

/// One that is down keeps nothing waiting (HAProxy's option redispatch).
void bound::found(std::size_t phone, const phone_report& what, double, starts& out) {
  line(phone).up = what.state == health::up;
  if (line(phone).up) {
    serve(phone, out);
    serve_common(out);
    return;
  }
  for (waiting& w : std::exchange(line(phone).queue, {})) place(std::move(w), out);
}

void bound::place(waiting w, starts& out) {
  std::vector<std::size_t> from;
  for (const bool strict : {true, false}) {  // if all that are up are to be avoided, any of them
    for (std::size_t p = 0; p < lines_.size(); ++p) {
      if (line(p).up && !(strict && avoided(w.what, p))) from.push_back(p);
    }
    if (!from.empty()) break;
  }
  const std::size_t to = from.empty() ? nowhere : choose(w, from);
  if (to == nowhere) {
    common_.push_back(std::move(w));
    return;
  }
  line(to).queue.push_back(std::move(w));
  serve(to, out);
}

void bound::serve(std::size_t phone, starts& out) {
  phone_line& l = line(phone);
  while (l.up && l.running < l.permits && !l.queue.empty()) {
    out.push_back({l.queue.front().request, phone, {}});
    l.queue.pop_front();
    ++l.running;
  }
}

void bound::serve_common(starts& out) {
  for (std::size_t n = common_.size(); n > 0; --n) {
    const std::size_t before = common_.size();
    waiting w = std::move(common_.front());
    common_.pop_front();
    const std::size_t granted = out.size();
    place(std::move(w), out);
    if (common_.size() == before && out.size() == granted) {  // still nowhere: it keeps its turn
      std::rotate(common_.begin(), std::prev(common_.end()), common_.end());
      return;
    }
  }
}

std::unique_ptr<balancer> make_rival(std::string_view name, const std::vector<phone_spec>& phones,
                                     const truth& world, std::uint64_t seed) {
  for (const named& r : rivals) {
    if (r.name == name) return r.make(phones, world, seed);
  }
  return nullptr;
}

std::vector<std::string> rival_names() {
  std::vector<std::string> names;
  for (const named& r : rivals) names.emplace_back(r.name);
  return names;
}

}  // namespace pocketfleet::fleet
