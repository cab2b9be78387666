#include "pocketfleet/core/condition.hpp"

#include <algorithm>
#include <utility>

namespace pocketfleet {
namespace {

constexpr int missed_beats = 3;

}  // namespace

void vitals::hear(const telemetry& now_reads, seconds interval, time_point now) {
  resting.hear(now_reads, now);
  reads = now_reads;
  heard = now;
  beat = interval;
}

bool vitals::quiet(time_point now) const {
  return reads && now - heard > missed_beats * beat;
}

time_point vitals::same_until(time_point now) const {
  const time_point until = resting.kind_until(now);
  return reads && !quiet(now) ? std::min<time_point>(until, heard + missed_beats * beat) : until;
}

std::optional<seconds> vitals::heard_ago(time_point now) const {
  return reads ? std::optional(std::chrono::duration_cast<seconds>(now - heard)) : std::nullopt;
}

void condition::depend_on(const std::vector<group_member>& members) {
  const std::vector<member> before = std::exchange(members_, {});
  for (const group_member& m : members) {
    const auto known = std::find_if(before.begin(), before.end(),
                                    [&](const member& b) { return !m.id.empty() && b.who.id == m.id; });
    members_.push_back({m, known != before.end() ? known->is : vitals(*settings_)});
  }
}

bool condition::hear_member(std::string_view id, const telemetry& reads, seconds interval, time_point now) {
  for (member& m : members_) {
    if (m.who.id != id) continue;
    m.is.hear(reads, interval, now);
    return true;
  }
  return false;
}

bool condition::has_member(std::string_view id) const {
  return !id.empty() &&
         std::any_of(members_.begin(), members_.end(), [&](const member& m) { return m.who.id == id; });
}

rest_kind condition::kind(time_point now) const {
  rest_kind worst = own_.resting.kind(now);
  for (const member& m : members_) worst = std::max(worst, m.is.resting.kind(now));
  return worst;
}

double condition::share(time_point now) const {
  double least = own_.resting.share(now);
  for (const member& m : members_) least = std::min(least, m.is.resting.share(now));
  return least;
}

/// Of the one that decides.
std::string condition::reason(time_point now) const {
  const rest_kind worst = kind(now);
  if (worst == rest_kind::none || own_.resting.kind(now) == worst) return own_.resting.reason(now);
  const auto decides = std::find_if(members_.begin(), members_.end(),
                                    [&](const member& m) { return m.is.resting.kind(now) == worst; });
  return decides->who.name + ": " + decides->is.resting.reason(now);
}

bool condition::quiet(time_point now) const {
  return own_.quiet(now) ||
         std::any_of(members_.begin(), members_.end(), [&](const member& m) { return m.is.quiet(now); });
}

time_point condition::same_until(time_point now) const {
  time_point until = own_.same_until(now);
  for (const member& m : members_) until = std::min(until, m.is.same_until(now));
  return until;
}

std::vector<member_status> condition::members(time_point now) const {
  std::vector<member_status> out;
  out.reserve(members_.size());
  for (const member& m : members_) out.push_back({m.who.name, m.is.reads, m.is.heard_ago(now)});
  return out;
}

telemetry worst_of(const std::optional<telemetry>& own, const std::vector<member_status>& members) {
  telemetry out = own.value_or(telemetry{});
  for (const auto& m : members) {
    if (!m.reads) continue;
    const telemetry& its = *m.reads;
    if (its.temperature_c && its.temperature_c > out.temperature_c) out.temperature_c = its.temperature_c;
    if (its.battery_level && (!out.battery_level || *its.battery_level < *out.battery_level)) {
      out.battery_level = its.battery_level;
      out.charging = its.charging;
    }
  }
  return out;
}

}  // namespace pocketfleet
