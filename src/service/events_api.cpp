#include "pocketfleet/service/events_api.hpp"

#include <algorithm>
#include <cmath>

#include "ask_common.hpp"
#include "pocketfleet/core/once_each.hpp"
#include "pocketfleet/service/shown_speed.hpp"
#include "pocketfleet/service/wall_clock.hpp"

namespace pocketfleet {
namespace {

/// What a watcher may see of a double: one digit behind the point, so that it changes only where it can be
/// seen.
double rounded(double value) {
  return std::round(value * 10) / 10;
}

json or_null(const auto& value) {
  return value ? json(*value) : json(nullptr);
}

void add_telemetry(json& out, const telemetry& reads) {
  out["temperature"] = or_null(reads.temperature_c);
  out["battery"] = or_null(reads.battery_level);
  out["charging"] = or_null(reads.charging);
  out["memory_available_kb"] = or_null(reads.memory_available_kb);
  out["memory_total_kb"] = or_null(reads.memory_total_kb);
  out["wifi_rssi_dbm"] = or_null(reads.wifi_rssi_dbm);
}

/// What a group consists of. Those whose agents say nothing have no readings.
json members_of(const phone_status& p) {
  json out = json::array();
  for (const member_status& m : p.members) {
    const telemetry reads = m.reads.value_or(telemetry{});
    json one{{"name", m.name}, {"state", nullptr}};
    for (const auto& said : p.group ? p.group->members : std::vector<group_report::member>{}) {
      if (said.name == m.name) one["state"] = said.state;
    }
    one["temperature"] = or_null(reads.temperature_c);
    one["battery"] = or_null(reads.battery_level);
    one["charging"] = or_null(reads.charging);
    out.push_back(std::move(one));
  }
  return out;
}

void add_speed(json& out, const tally::speed* its) {
  out["tokens_per_s"] = its != nullptr ? json(rounded(its->tokens_per_s)) : json(nullptr);
  out["answer_tokens_per_s"] =
      its != nullptr && its->answer_speed ? json(rounded(*its->answer_speed)) : json(nullptr);
  out["first_token_ms"] =
      its != nullptr && its->first_token ? json(its->first_token->count()) : json(nullptr);
  out["answers"] = its != nullptr ? its->answers : 0;
  out["failures"] = its != nullptr ? its->failures : 0;
}

void add_learned(json& out, const phone_status& p) {
  const auto its = shown_speed(p);
  const auto known = [](double value) { return value > 0 ? json(rounded(value)) : json(nullptr); };
  out["learned_tokens_per_s"] = its ? known(its->decode) : json(nullptr);
  out["learned_prompt_tokens_per_s"] = its ? known(its->prefill) : json(nullptr);
  out["slowdown"] = its && its->decode > 0 ? json(std::round(its->slowdown * 100) / 100) : json(nullptr);
}

json as_json(const phone_status& p, const tally::speed* its) {
  json out{
      {"name", p.config.name},
      {"address", p.target ? p.target->host_header : p.config.host},
      {"engine", to_string(p.engine)},
      {"model", p.model},
      {"models", p.models},
      {"loaded", p.loaded},
      {"healthy", p.healthy},
      {"state", to_string(p.state)},
      {"reason", p.reason},
      {"breaker", to_string(p.breaker)},
      {"draining", p.draining},
      {"suspect", p.suspect},
      {"quiet", p.quiet},
      {"inflight", p.in_flight},
      {"permits", p.permits},
      {"max_concurrency", p.config.max_concurrency},
      {"weight", p.config.weight},
  };
  out["drained"] = p.drained;
  out["resting"] = p.resting.empty() ? json(nullptr) : json(p.resting);
  add_speed(out, its);
  add_learned(out, p);
  add_telemetry(out, worst_of(p.reads, p.members));
  if (!p.members.empty()) out["members"] = members_of(p);
  return out;
}

/// One of the watchers, as long as it lives.
class seat {
 public:
  seat(watchers& of, std::string key) : of_(of), key_(std::move(key)) { of_.come(key_); }
  seat(const seat&) = delete;
  seat& operator=(const seat&) = delete;
  ~seat() { of_.go(key_); }

 private:
  watchers& of_;
  std::string key_;
};

}  // namespace

void watchers::come(const std::string& key) {
  const std::lock_guard lock(mutex_);
  ++all_;
  ++by_key_[key];
}

void watchers::go(const std::string& key) {
  const std::lock_guard lock(mutex_);
  --all_;
  if (const auto its = by_key_.find(key); --its->second == 0) by_key_.erase(its);
}

std::size_t watchers::all() const {
  const std::lock_guard lock(mutex_);
  return all_;
}

std::size_t watchers::of(const std::string& key) const {
  const std::lock_guard lock(mutex_);
  const auto its = by_key_.find(key);
  return its != by_key_.end() ? its->second : 0;
}

events_api::events_api(desk& fleet, const dispatch& runner, const tally& numbers, about more)
    : desk_(fleet),
      dispatch_(runner),
      tally_(numbers),
      about_(std::move(more)),
      started_(rfc3339_now()),
      feed_([this] { return look(); }, [this] { return tally_.histories(clock::now()); }) {}

std::vector<route> events_api::routes() {
  return {{"/events", "GET", [this](http_call& call) { return watch(call); }, access_level::client, false}};
}

fleet_picture events_api::look() const {
  fleet_picture out;
  out.at = rfc3339_now();
  const auto all = desk_.status();
  const auto speeds = tally_.phones(clock::now());
  std::size_t healthy = 0;
  std::size_t wanted = 0;
  std::uint64_t in_flight = 0;
  std::uint64_t permits = 0;
  double tokens_per_s = 0;
  for (const phone_status& p : all) in_flight += p.in_flight;
  for (const phone_status* p : once_each(all)) {
    const auto its = speeds.find(p->config.name);
    out.phones.push_back(as_json(*p, its != speeds.end() ? &its->second : nullptr));
    if (its != speeds.end()) tokens_per_s += its->second.tokens_per_s;
    if (p->healthy) permits += p->permits;
    healthy += p->healthy ? 1 : 0;
    wanted += p->draining ? 0 : 1;
  }
  const cache_status cache = dispatch_.cache();
  const tally::totals done = tally_.requests();
  out.gateway = {
      {"version", about_.version},
      {"started", started_},
      {"phones", wanted},
      {"healthy", healthy},
      {"inflight", in_flight},
      {"permits", permits},
      {"waiting", desk_.waiting()},
      {"queue", about_.queue_capacity},
      {"requests", done.requests},
      {"failed", done.failed},
      {"tokens_per_s", rounded(tokens_per_s)},
      {"watchers", watchers_.all()},
  };
  out.gateway["cache"] = {{"entries", cache.entries},
                          {"bytes", cache.bytes},
                          {"hits", cache.hits},
                          {"misses", cache.misses},
                          {"joined", cache.joined}};
  return out;
}

task<> events_api::watch(http_call& call) {
  const std::string key = call.terms ? call.terms->name : std::string();
  const seat mine(watchers_, key);
  const bool full = watchers_.all() > most_watchers;
  if (ending_.stop_requested()) {
    const error why(errc::shutting_down, "the gateway is going down");
    co_await refuse(call, why);
  } else if (full || (call.terms && watchers_.of(key) > most_of_a_key)) {
    const error why(errc::overloaded,
                    full ? "as many watch already as may: " + std::to_string(most_watchers)
                         : "as many watch with this key as may: " + std::to_string(most_of_a_key),
                    0, seconds{5});
    co_await refuse(call, why);
  } else {
    co_await stream(call);
  }
}

task<> events_api::stream(http_call& call) {
  const auto wake = std::make_shared<waker>(call.where);
  const std::stop_callback on_gone(call.gone, [wake] { wake->wake(); });
  const std::stop_callback on_end(ending_.get_token(), [wake] { wake->wake(); });
  header_list headers;
  headers.emplace_back("Cache-Control", "no-store");
  headers.emplace_back("X-Accel-Buffering", "no");  // nginx would collect it
  call.out->begin(200, "text/event-stream", std::move(headers));
  std::uint64_t seen = 0;
  while (!call.gone.stop_requested() && !ending_.stop_requested()) {
    if (const fleet_feed::text news = feed_.next(seen, clock::now())) {
      if (!co_await call.out->write(*news)) co_return;
    } else {
      co_await wake->wait(feed_.due());
    }
  }
  if (!call.gone.stop_requested()) co_await call.out->end({});
}

}  // namespace pocketfleet
