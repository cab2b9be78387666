// Which phones could take a request now, and the one that gets it.
#include <algorithm>
#include <cassert>

#include "pocketfleet/core/dispatcher.hpp"

namespace pocketfleet {
namespace {

bool contains(const auto& range, const auto& value) {
  return std::find(range.begin(), range.end(), value) != range.end();
}

}  // namespace

// ---- what a phone serves

dispatcher::kind::kind(const phone& like)
    : target(like.target), normalized(like.normalized), vision(like.vision), messages(like.messages) {}

bool dispatcher::kind::fits(const phone& p) const {
  return vision == p.vision && messages == p.messages && target->engine == p.target->engine &&
         target->model.empty() == p.target->model.empty() && normalized == p.normalized &&
         target->models == p.target->models;
}

bool dispatcher::kind::has_model(const want& wanted) const {
  if (!wanted.identity.empty()) return name_of(*target, wanted.identity) != nullptr;
  if (!wanted.model.empty()) return contains(normalized, wanted.model);
  return target->engine == engine_kind::llama_server || !target->model.empty();  // that one always has one
}

bool dispatcher::kind::serves(const want& wanted) const {
  if (target->engine != engine_kind::unknown && (wanted.engines & mask_of(target->engine)) == 0) return false;
  if ((wanted.vision && !vision) || (wanted.messages && !messages)) return false;
  return has_model(wanted);
}

// ---- how it stands

bool dispatcher::usable(phone& p, time_point now) const {
  return p.state == health::up && !p.drained && p.engine != engine_kind::unknown && p.cut_out.allows(now) &&
         p.vital.kind(now) != rest_kind::hard;
}

dispatcher::standing dispatcher::how_good(const phone& p, time_point now) {
  if (p.suspect) return standing::suspect;
  return p.vital.quiet(now) || p.vital.kind(now) != rest_kind::none ? standing::spared : standing::sound;
}

std::uint32_t dispatcher::permits(phone& p, time_point now) const {
  if (p.cut_out.state(now) == breaker_state::half_open || p.cut_out.ramp(now) < 1.0) return 1;
  return p.slots ? std::max(1U, std::min(p.config.max_concurrency, *p.slots)) : p.config.max_concurrency;
}

std::uint32_t dispatcher::weight(phone& p, time_point now) {
  return static_cast<std::uint32_t>(100.0 * p.config.weight * p.cut_out.ramp(now));
}

// ---- the same at a glance

/// The fleet is another: a glance for each phone, in the order of the file.
void dispatcher::line_up() {
  const std::vector<glance> before = std::exchange(glances_, {});
  glances_.resize(order_.size());
  kinds_.clear();
  for (std::size_t i = 0; i < order_.size(); ++i) {
    phone& p = *phones_[static_cast<std::size_t>(order_[i])];
    const bool was_there = p.place < before.size() && before[p.place].of == &p;
    glances_[i].of = &p;
    if (was_there) glances_[i].credit = before[p.place].credit;
    p.place = i;
    sort_out(p);
  }
}

/// It may serve other requests than before.
void dispatcher::sort_out(const phone& p) {
  auto same = std::find_if(kinds_.begin(), kinds_.end(), [&](const kind& k) { return k.fits(p); });
  if (same == kinds_.end()) same = kinds_.emplace(same, p);
  glances_[p.place].what = static_cast<std::uint32_t>(same - kinds_.begin());
  changed(p);
}

/// Something has happened to it.
void dispatcher::changed(const phone& p) {
  if (!p.removed) glances_[p.place].until = time_point::min();
}

dispatcher::glance dispatcher::look(const glance& before, time_point now) const {
  phone& p = *before.of;
  glance g = before;
  g.usable = usable(p, now);  // first: a breaker may become half-open by it
  g.its = how_good(p, now);
  g.in_flight = p.in_flight;
  g.permits = permits(p, now);
  g.weight = weight(p, now);
  g.until = std::min(p.cut_out.same_until(now), p.vital.same_until(now));
  return g;
}

const dispatcher::glance& dispatcher::fresh(glance& g, time_point now) const {
  if (now >= g.until) g = look(g, now);
  assert(now >= g.until || look(g, now) == g);
  return g;
}

/// Otherwise there is no need to go through those who wait.
bool dispatcher::permit_there(time_point now) {
  return std::any_of(glances_.begin(), glances_.end(), [&](glance& g) {
    fresh(g, now);
    return g.usable && g.in_flight < g.permits;
  });
}

// ---- a choice

/// Fills candidates_ with the phones that could take it now and stand best; for a policy that foresees, with
/// all that are usable. Those that have just failed are taken for a retry, which may be its last, only if no
/// other could take it later either, and never for a rescue, whose client has half an answer and will rather
/// wait.
bool dispatcher::find_candidates(const want& wanted, time_point now) {
  candidates_.clear();
  serving_.assign(kinds_.size(), -1);
  const bool foresees = policy_->foresees();
  bool better_there = false;  // than a suspect: usable, if not free
  standing best = standing::suspect;
  for (glance& g : glances_) {
    fresh(g, now);
    if (!g.usable) continue;
    std::int8_t& serves_it = serving_[g.what];
    if (serves_it < 0) serves_it = kinds_[g.what].serves(wanted) ? 1 : 0;
    if (serves_it == 0) continue;
    const phone_id id = order_[static_cast<std::size_t>(&g - glances_.data())];
    if ((wanted.only && *wanted.only != id) || contains(wanted.avoid, id)) continue;
    better_there = better_there || g.its != standing::suspect;
    const bool only_if_alone = g.its == standing::suspect && wanted.which != turn::first;
    if (only_if_alone && (wanted.which == turn::rescue || better_there)) continue;
    if (foresees) {
      if (g.its < best && wanted.which != turn::first && best == standing::suspect) candidates_.clear();
      best = std::min(best, g.its);
      candidates_.push_back(foreseen(g, wanted, now));
      continue;
    }
    if (g.its > best || g.in_flight >= g.permits) continue;
    if (g.its < best) {
      best = g.its;
      candidates_.clear();
    }
    candidates_.push_back({id, g.weight, g.in_flight, g.permits, &g.credit});
  }
  if (wanted.which == turn::retry && better_there && best == standing::suspect) candidates_.clear();
  return !candidates_.empty();
}

std::optional<grant> dispatcher::try_grant(const want& wanted, time_point now) {
  const bool retry = wanted.which == turn::retry;
  if ((retry && !retry_room()) || !find_candidates(wanted, now)) return std::nullopt;
  const candidate& best = choose(wanted);
  if (best.free_in > 0) {
    phones_[static_cast<std::size_t>(best.phone)]->past.place(best.takes);
    return std::nullopt;
  }
  if (retry) retries_.take(in_flight_ + line_.size());
  grant out = give(best, wanted, now);
  out.retry = retry;
  return out;
}

/// That phone's permit.
grant dispatcher::give(const candidate& to, const want& wanted, time_point now) {
  phone& p = *phones_[static_cast<std::size_t>(to.phone)];
  grant out{.phone = p.target, .since = now, .known = p.known};
  out.trial = p.cut_out.begin(now);
  out.alone = p.in_flight == 0;
  out.foreseen = policy_->foresees();
  const workplace there{p.in_flight, p.slots.value_or(p.config.max_concurrency)};
  std::string made;
  out.run =
      forecasts_.begin(p.past, speed_name(p, wanted, made), wanted, there, {to.first_token, to.takes}, now);
  if (settings_.hedging) out.late_after = p.past.late_after(out.run);
  sessions_.keep(wanted.session, to.phone);
  ++p.in_flight;
  ++in_flight_;
  changed(p);
  return out;
}

}  // namespace pocketfleet
