#include "pocketfleet/core/dispatcher.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "pocketfleet/core/model_name.hpp"

namespace pocketfleet {
namespace {

constexpr double held_memory = 0.2;  // weight of the newest answer in the mean time a permit is held
constexpr seconds cooling{60};       // when it is worth to come back to a fleet that is too hot

bool contains(const auto& range, const auto& value) {
  return std::find(range.begin(), range.end(), value) != range.end();
}

std::string host_header(const phone_config& c) {
  const bool ipv6 = c.host.find(':') != std::string::npos;
  return (ipv6 ? "[" + c.host + "]" : c.host) + ":" + std::to_string(c.port);
}

std::size_t index(phone_id id) {
  return static_cast<std::size_t>(id);
}

}  // namespace

dispatcher::dispatcher(const dispatch_settings& settings, std::unique_ptr<policy> chosen, std::uint32_t seed)
    : settings_(settings),
      policy_(std::move(chosen)),
      random_(seed),
      retries_(settings.retry_share, settings.retry_floor) {}

// ---- the fleet

std::vector<granted> dispatcher::configure(std::span<const phone_config> configs, time_point now) {
  for (const auto& p : phones_) {
    if (p) p->removed = true;
  }
  order_.clear();
  for (const phone_config& c : configs) {
    const auto known = std::find_if(phones_.begin(), phones_.end(), [&](const auto& p) {
      return p && p->config.host == c.host && p->config.port == c.port &&
             (p->config.id == c.id || p->config.id.empty() || c.id.empty());
    });
    const auto id = static_cast<phone_id>(known - phones_.begin());
    if (known == phones_.end()) {
      auto fresh = std::make_unique<phone>(c, settings_);
      const auto before = std::find_if(phones_.rbegin(), phones_.rend(), [&](const auto& p) {
        return p && !c.id.empty() && p->config.id == c.id;
      });
      if (before != phones_.rend()) fresh->take_over(**before);
      if (const auto away = away_.find(c.id); away != away_.end()) {
        fresh->drained = away->second.drained;
        if (away->second.breaker_held) fresh->cut_out.hold_open();
        away_.erase(away);
      }
      phones_.push_back(std::move(fresh));
      phones_.back()->engine = c.engine;
    } else {
      phone& p = **known;
      if (c.engine != p.config.engine) p.engine = c.engine;
      p.config = c;
    }
    phones_[index(id)]->removed = false;
    rebuild(*phones_[index(id)], id);
    order_.push_back(id);
  }
  line_up();
  forget_ended();
  return serve_queue(now);
}

/// Makes anew what is derived from the configuration and the last report.
void dispatcher::rebuild(phone& p, phone_id id) {
  auto target = std::make_shared<phone_target>();
  target->id = id;
  target->name = p.config.name;
  target->host = p.config.host;
  target->port = p.config.port;
  target->host_header = host_header(p.config);
  target->api_key = p.config.api_key;
  target->tls = p.config.tls;
  target->confined = p.config.confined;
  target->engine = p.engine;
  target->model = p.config.model;
  if (target->model.empty() && !p.loaded.empty()) target->model = p.loaded.front().name;
  if (target->model.empty() && !p.models.empty()) target->model = p.models.front().name;
  target->loads_on_demand = p.engine == engine_kind::ollama;
  for (const auto& m : p.loaded) target->loaded.push_back(normalized_model(m.name));
  target->models = p.models;
  target->in_memory = p.loaded;
  target->aliases = p.config.aliases;
  target->group = p.config.group;
  p.vital.depend_on(p.config.group.members);

  p.normalized.clear();
  for (auto& each : names_of(*target)) p.normalized.push_back(std::move(each.normalized));
  // Until the phone says what it has, the file is believed.
  if (p.models.empty() && !p.config.model.empty()) {
    const std::string own = normalized_model(model_for(*target, {}));
    p.normalized.push_back(own);
    for (const auto& a : p.config.aliases) {
      if (normalized_model(a.behind) == own) p.normalized.push_back(normalized_model(a.name));
    }
  }
  p.own_model = target->model.empty() ? std::string{} : normalized_model(target->model);
  p.target = std::move(target);
}

void dispatcher::forget_ended() {
  for (auto& p : phones_) {
    if (!p || !p->removed || p->in_flight > 0) continue;
    const said by_hand{p->drained, p->cut_out.held_open()};
    const bool elsewhere = std::any_of(order_.begin(), order_.end(), [&](phone_id id) {
      return phones_[index(id)]->config.id == p->config.id;
    });
    if (!p->config.id.empty() && !elsewhere && (by_hand.drained || by_hand.breaker_held))
      away_.insert_or_assign(p->config.id, by_hand);
    p.reset();
  }
}

std::vector<granted> dispatcher::report(phone_id id, const phone_report& found, time_point now) {
  if (index(id) >= phones_.size() || !phones_[index(id)] || phones_[index(id)]->removed) return {};
  phone& p = *phones_[index(id)];
  if (found.state == health::up && p.state != health::up) p.cut_out.reachable(now);
  const bool other_engine = found.engine != engine_kind::unknown && found.engine != p.engine;
  const bool other = other_engine || found.models || found.loaded;
  if (found.state == health::up) p.suspect = false;
  // Its engine has been started anew, or has put its model away.
  if (found.state != health::up || other_engine || (found.loaded && found.loaded->empty()))
    p.past.prefixes.forget();
  p.state = found.state;
  p.reason = found.reason;
  if (other_engine) {
    p.engine = found.engine;
    p.vision = p.messages = true;  // what the one before could not, this one may
  }
  if (found.models) p.models = *found.models;
  if (found.loaded) p.loaded = *found.loaded;
  if (found.slots) p.slots = found.slots;
  if (found.vision) p.vision = *found.vision;
  if (found.messages) p.messages = *found.messages;
  if (found.group) p.group = found.group;
  if (other) rebuild(p, id);
  if (kinds_.size() > 2 * glances_.size()) line_up();  // many that no phone is of any more
  sort_out(p);
  return serve_queue(now);
}

std::vector<granted> dispatcher::hear(std::string_view id, const telemetry& reads, seconds interval,
                                      time_point now) {
  for (const auto& p : phones_) {
    if (!p || p->removed) continue;
    const bool own = p->config.id == id;
    if (own) p->vital.hear(reads, interval, now);
    if (p->vital.hear_member(id, reads, interval, now) || own) changed(*p);
  }
  return serve_queue(now);
}

std::vector<granted> dispatcher::tick(time_point now) {
  return serve_queue(now);
}

// ---- requests

decision dispatcher::acquire(ticket who, const want& wanted, time_point now) {
  // A breaker may have become half-open by time alone: who came later must not overtake those who wait for
  // it.
  const bool later = wanted.which != turn::first;
  ++pass_;
  const bool in_vain = !permit_there(now);
  if (policy_->foresees() && !later && !in_vain) book_those_before(line_.place_of(wanted, now), now);
  const bool would_overtake =
      !policy_->foresees() && !later && !in_vain &&
      std::any_of(line_.begin(), line_.place_of(wanted, now), [&](const auto& w) {
        return (w.what.which != turn::retry || retry_room()) && find_candidates(w.what, now);
      });
  if (!would_overtake && !in_vain) {
    if (auto got = try_grant(wanted, now)) return std::move(*got);
  }
  if (auto never = why_never(wanted, now)) return std::move(*never);
  if (!later && line_.size() >= settings_.queue_capacity)
    return error(errc::queue_full, "all phones are busy and the queue is full", 0, expected_wait());
  line_.join(who, wanted, now);
  return queued{};
}

/// Why waiting would not help, if so.
std::optional<error> dispatcher::why_never(const want& wanted, time_point now) {
  bool incapable = false;  // a phone has the model, but its engine cannot do what is asked
  bool capable = false;    // a phone has it and can
  bool unheard = false;    // a phone has not said yet what it has
  duration soonest = settings_.probe_interval;
  bool resting = false;
  for (const phone_id id : order_) {
    phone& p = *phones_[index(id)];
    if (wanted.only && *wanted.only != id) continue;
    if (!has_model(p, wanted)) {
      if (p.state == health::unknown) return std::nullopt;
      unheard = unheard || (p.models.empty() && p.state != health::up);
      continue;
    }
    if (!serves(p, wanted)) {
      incapable = true;
      continue;
    }
    capable = true;
    if (contains(wanted.avoid, id) || p.drained || p.cut_out.held_open()) continue;
    if (wanted.which == turn::rescue) return std::nullopt;  // it may come back before the client gives up
    if (p.state == health::unknown || p.state == health::loading) return std::nullopt;
    if (p.state != health::up) continue;
    const bool too_hot = p.vital.kind(now) == rest_kind::hard;
    if (!too_hot && p.cut_out.state(now) != breaker_state::open) return std::nullopt;
    const duration left = too_hot ? duration{cooling} : p.cut_out.open_until() - now;
    soonest = resting ? std::min(soonest, left) : left;
    resting = true;
  }
  if (!capable && incapable) {
    return error(errc::unsupported, wanted.vision ? "no phone with that model takes images"
                                                  : "no phone with that model can do what is asked");
  }
  if (!capable && !unheard && !wanted.model.empty()) {
    return error(errc::model_not_found, "no phone has that model; " + models_there());
  }
  const auto retry = std::chrono::ceil<seconds>(soonest);
  return error(errc::no_phone, "no phone is usable now", 0, std::clamp(retry, seconds{1}, seconds{60}));
}

/// For the client whose model nobody has.
std::string dispatcher::models_there() const {
  std::set<std::string_view> names;
  for (const phone_id id : order_) {
    const phone& p = *phones_[index(id)];
    for (const auto& each : names_of(*p.target)) names.insert(each.name);
    if (!p.config.model.empty()) names.insert(p.config.model);
  }
  if (names.empty()) return "there is none";
  std::string text;
  for (const auto name : names) text.append(text.empty() ? "there are: " : ", ").append(name);
  return text;
}

std::vector<granted> dispatcher::answered(grant& what, time_point now) {
  if (!std::exchange(what.retry, false)) return {};
  retries_.give_back();
  return serve_queue(now);
}

std::vector<granted> dispatcher::settle(const grant& what, verdict how, time_point now, const measured& m,
                                        const prefix_chain& holds) {
  phone& p = *phones_[index(what.phone->id)];
  if (what.retry) retries_.give_back();
  if (what.hedge) --hedges_;
  p.known.learn(m);
  if (how == verdict::unreachable) p.past.prefixes.forget();
  if (how == verdict::success && what.alone && p.in_flight == 1) p.vital.learn(m, now);
  --p.in_flight;
  --in_flight_;
  forecasts_.end(p.past, what.run, m, p.in_flight, now, holds);
  p.cut_out.end(how, now, random_, what.trial);
  if (how != verdict::neutral) p.suspect = how != verdict::success;
  changed(p);
  if (how == verdict::success) {
    const double held = std::chrono::duration<double>(now - what.since).count();
    mean_held_ = mean_held_ == 0 ? held : mean_held_ + held_memory * (held - mean_held_);
  }
  if (p.removed) forget_ended();
  return serve_queue(now);
}

std::vector<granted> dispatcher::serve_queue(time_point now) {
  ++pass_;
  std::vector<granted> out;
  if (line_.empty() || !permit_there(now)) return out;
  for (auto w = line_.begin(); w != line_.end();) {
    if (auto got = try_grant(w->what, now)) {
      out.push_back({w->who, std::move(*got)});
      w = line_.served(w);
      if (!permit_there(now)) break;
    } else {
      ++w;
    }
  }
  return out;
}

seconds dispatcher::expected_wait() const {
  // Permits come free at a rate of permits / mean time held.
  std::uint32_t all = 0;
  for (const phone_id id : order_) {
    const phone& p = *phones_[index(id)];
    if (p.state == health::up && !p.drained) all += p.config.max_concurrency;
  }
  const double wait = all == 0 ? 0.0 : mean_held_ * static_cast<double>(line_.size() + 1) / all;
  return std::clamp(seconds{static_cast<std::int64_t>(std::ceil(wait))}, seconds{1}, seconds{60});
}

}  // namespace pocketfleet
