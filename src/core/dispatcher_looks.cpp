// How the fleet stands: what others see of the dispatcher.
#include <algorithm>

#include "pocketfleet/core/dispatcher.hpp"
#include "pocketfleet/core/model_name.hpp"

namespace pocketfleet {
namespace {

std::size_t index(phone_id id) {
  return static_cast<std::size_t>(id);
}

}  // namespace

/// A half-open breaker's one trial comes and goes: as usable() has it, the phone would flicker.
bool dispatcher::healthy(phone& p, time_point now) {
  return !p.removed && !p.drained && p.state == health::up && p.engine != engine_kind::unknown &&
         p.cut_out.state(now) != breaker_state::open && p.vital.kind(now) != rest_kind::hard;
}

bool dispatcher::any_healthy(time_point now) {
  return std::any_of(order_.begin(), order_.end(),
                     [&](phone_id id) { return healthy(*phones_[index(id)], now); });
}

phone_status dispatcher::look_at(phone& p, time_point now) const {
  phone_status s;
  s.config = p.config;
  s.model = p.target->model;
  s.engine = p.engine;
  s.state = p.state;
  s.breaker = p.cut_out.state(now);
  s.breaker_held = p.cut_out.held_open();
  s.draining = p.removed;
  s.drained = p.drained;
  s.suspect = p.suspect;
  s.quiet = p.vital.quiet(now);
  s.rests = p.vital.kind(now);
  s.resting = p.vital.reason(now);
  s.reads = p.vital.own().reads;
  s.heard_ago = p.vital.own().heard_ago(now);
  s.members = p.vital.members(now);
  s.healthy = healthy(p, now);
  if (p.removed)
    s.reason = "removed from the fleet; its last requests are being finished";
  else if (p.drained)
    s.reason = p.in_flight > 0 ? "drained by hand; its last requests are being finished" : "drained by hand";
  else if (p.state != health::up)
    s.reason = p.state == health::unknown ? "not looked at yet" : p.reason;
  else if (s.breaker == breaker_state::open)
    s.reason = s.breaker_held ? "its breaker was opened by hand" : "failed too often; resting";
  else if (s.rests == rest_kind::hard)
    s.reason = s.resting;
  s.in_flight = p.in_flight;
  s.permits = permits(p, now);
  s.slots = p.slots;
  for (const auto& m : p.models) s.models.push_back(m.name);
  for (const auto& m : p.loaded) s.loaded.push_back(m.name);
  s.target = p.target;
  s.group = p.group;
  s.speeds = p.past.speeds(now);
  return s;
}

std::vector<phone_status> dispatcher::status(time_point now) {
  std::vector<phone_status> out;
  for (const auto& p : phones_) {
    if (p) out.push_back(look_at(*p, now));
  }
  return out;
}

std::optional<phone_status> dispatcher::status_of(std::string_view id, time_point now) {
  for (const phone_id each : order_) {
    phone& p = *phones_[index(each)];
    if (p.config.id == id || p.vital.has_member(id)) return look_at(p, now);
  }
  return std::nullopt;
}

dispatcher::phone* dispatcher::named(std::string_view name) {
  for (const phone_id each : order_) {
    phone& p = *phones_[index(each)];
    if (p.config.name == name) return &p;
  }
  return nullptr;
}

std::optional<phone_status> dispatcher::status_named(std::string_view name, time_point now) {
  if (phone* p = named(name)) return look_at(*p, now);
  return std::nullopt;
}

std::vector<std::shared_ptr<const phone_target>> dispatcher::targets() const {
  std::vector<std::shared_ptr<const phone_target>> out;
  out.reserve(order_.size());
  for (const phone_id id : order_) out.push_back(phones_[index(id)]->target);
  return out;
}

/// A phone that has just failed is as good as none: it may be a group that nobody has found down yet.
std::string dispatcher::stand_in(std::string_view model, time_point now) {
  const auto can = [&](std::string_view name) {
    return std::any_of(order_.begin(), order_.end(), [&](phone_id id) {
      phone& p = *phones_[index(id)];
      const bool has = std::find(p.normalized.begin(), p.normalized.end(), name) != p.normalized.end();
      return has && !p.suspect && healthy(p, now);
    });
  };
  if (model.empty() || can(model)) return {};
  for (const phone_id id : order_) {
    const phone& p = *phones_[index(id)];
    const bool has = std::find(p.normalized.begin(), p.normalized.end(), model) != p.normalized.end();
    const std::string& other = p.config.group.stand_in;
    if (has && !other.empty() && can(normalized_model(other))) return other;
  }
  return {};
}

engine_mask dispatcher::engines() const {
  engine_mask all = 0;
  for (const phone_id id : order_) {
    const engine_kind its = phones_[index(id)]->engine;
    all |= its == engine_kind::unknown ? any_engine : mask_of(its);
  }
  return all;
}

engine_mask dispatcher::engines(std::string_view model) const {
  if (model.empty()) return engines();
  engine_mask all = 0;
  for (const phone_id id : order_) {
    const phone& p = *phones_[index(id)];
    if (!p.models.empty() && std::find(p.normalized.begin(), p.normalized.end(), model) == p.normalized.end())
      continue;
    all |= p.engine == engine_kind::unknown ? any_engine : mask_of(p.engine);
  }
  return all == 0 ? any_engine : all;
}

}  // namespace pocketfleet
