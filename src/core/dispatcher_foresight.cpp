// What a policy that foresees is told: how long each phone would take, and who else has it in mind.
#include <algorithm>

#include "pocketfleet/core/dispatcher.hpp"
#include "pocketfleet/core/model_name.hpp"

namespace pocketfleet {
namespace {

// Phones that should be spared, or that have just failed, appear so much slower.
constexpr double spared_costs = 1.5;
constexpr double suspect_costs = 3;

// So much later an answer may be for the sake of its session's phone.
constexpr double session_patience = 30;

}  // namespace

/// Under what name the phone's speed with the model is kept; `made` has it if it had to be made.
std::string_view dispatcher::speed_name(const phone& p, const want& wanted, std::string& made) {
  if (!wanted.identity.empty()) {
    if (const std::string* name = name_of(*p.target, wanted.identity)) return made = normalized_model(*name);
  }
  return wanted.model.empty() ? p.own_model : wanted.model;
}

candidate dispatcher::foreseen(glance& g, const want& wanted, time_point now) {
  phone& p = *g.of;
  candidate c{p.target->id, g.weight, g.in_flight, g.permits, &g.credit};
  c.free_in = p.past.free_in(g.permits, pass_, now);
  std::string made;
  const std::string_view model = speed_name(p, wanted, made);
  workplace there{c.free_in > 0 ? g.permits - 1 : p.in_flight, p.slots.value_or(p.config.max_concurrency)};
  const auto& loaded = p.target->loaded;
  there.load = p.target->loads_on_demand && std::find(loaded.begin(), loaded.end(), model) == loaded.end();
  const estimate takes = forecasts_.takes(p.past, model, wanted, there, now);
  c.first_token = takes.first_token;
  c.harm = takes.harm;
  c.takes = takes.whole / p.vital.share(now);
  if (g.its == standing::spared) c.takes *= spared_costs;
  if (g.its == standing::suspect) c.takes *= suspect_costs;
  return c;
}

/// Of candidates_, which are not none.
const candidate& dispatcher::choose(const want& wanted) {
  const candidate& best = candidates_[policy_->pick(candidates_, wanted.how_soon)];
  if (const auto home = sessions_.find(wanted.session)) {
    for (const candidate& c : candidates_) {
      if (c.phone == *home && c.free_in + c.takes <= best.free_in + best.takes + session_patience) return c;
    }
  }
  return best;
}

/// Those who stand before that place in the queue have phones in mind, which who comes now must leave to
/// them.
void dispatcher::book_those_before(wait_line::iterator place, time_point now) {
  for (auto w = line_.begin(); w != place; ++w) {
    if (!find_candidates(w->what, now)) continue;
    const candidate& best = choose(w->what);
    phones_[static_cast<std::size_t>(best.phone)]->past.place(best.takes);
  }
}

// ---- hedging

/// A second phone for a request whose first one shows nothing: one that is sound and idle, if nobody waits
/// and another permit stays free for who comes next.
std::optional<grant> dispatcher::spare(const want& wanted, time_point now) {
  const double share = settings_.hedge_share * static_cast<double>(in_flight_);
  if (!settings_.hedging || !line_.empty() || static_cast<double>(hedges_) >= std::max(1.0, share)) return {};
  std::size_t free = 0;
  ++pass_;
  std::optional<candidate> best;
  for (glance& g : glances_) {
    fresh(g, now);
    const phone_id id = g.of->target->id;
    if (!g.usable || g.its != standing::sound || !serves(*g.of, wanted)) continue;
    const candidate c = foreseen(g, wanted, now);
    if (c.in_flight >= c.permits) continue;
    free += c.permits - c.in_flight;
    const bool failed = std::find(wanted.avoid.begin(), wanted.avoid.end(), id) != wanted.avoid.end();
    if (c.in_flight == 0 && !failed && (!best || c.takes < best->takes)) best = c;
  }
  if (!best || free < 2) return {};
  grant out = give(*best, wanted, now);
  out.hedge = true;
  ++hedges_;
  return out;
}

}  // namespace pocketfleet
