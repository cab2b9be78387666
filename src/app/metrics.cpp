#include "pocketfleet/app/metrics.hpp"

#include <prometheus/text_serializer.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <sstream>

#include "pocketfleet/core/once_each.hpp"
#include "pocketfleet/service/shown_speed.hpp"

namespace pocketfleet {
namespace {

// From a cache hit to a long answer of a slow phone.
const prometheus::Histogram::BucketBoundaries latency{0.005, 0.02, 0.1, 0.25, 0.5, 1,   2.5,
                                                      5,     10,   20,  40,   80,  160, 320};

double in_seconds(duration d) {
  return std::chrono::duration<double>(d).count();
}

/// Gauges and counters whose values are read when asked for.
class table {
 public:
  explicit table(std::vector<prometheus::MetricFamily>& out) : out_(out) {}

  void begin(const char* name, const char* help, prometheus::MetricType type) {
    out_.push_back({name, help, type, {}});
  }
  void add(double value, std::vector<prometheus::ClientMetric::Label> labels = {}) {
    prometheus::ClientMetric metric;
    metric.label = std::move(labels);
    if (out_.back().type == prometheus::MetricType::Counter)
      metric.counter.value = value;
    else
      metric.gauge.value = value;
    out_.back().metric.push_back(std::move(metric));
  }
  void one(const char* name, const char* help, prometheus::MetricType type, double value) {
    begin(name, help, type);
    add(value);
  }

 private:
  std::vector<prometheus::MetricFamily>& out_;
};

double resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  double all = 0;
  double resident = 0;
  statm >> all >> resident;
  return resident * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

constexpr auto gauge = prometheus::MetricType::Gauge;
constexpr auto counter = prometheus::MetricType::Counter;

/// What the phone answers with if nobody names a model; empty: not known well enough for a rescue.
std::string_view own_model_of(const phone_status& p) {
  return p.target ? identity_of(*p.target, {}) : std::string_view{};
}

/// How many others could go on with an answer that a phone breaks off: same engine, very same model.
void add_rescuers(table& t, const std::vector<const phone_status*>& phones) {
  std::map<std::pair<engine_kind, std::string_view>, std::size_t> same;
  for (const auto* one : phones) {
    const phone_status& p = *one;
    if (!p.healthy || !p.target) continue;
    std::set<std::string_view> its;
    for (const auto& m : p.target->models) its.insert(m.identity);
    for (const auto identity : its) ++same[{p.engine, identity}];
  }
  t.begin("pocketfleet_phone_rescuers",
          "Other healthy phones that could go on with an answer of this phone's own model.", gauge);
  for (const auto* one : phones) {
    const phone_status& p = *one;
    if (!p.healthy) continue;
    const auto identity = own_model_of(p);
    const auto found = same.find({p.engine, identity});
    const bool known = !identity.empty() && found != same.end();
    t.add(known ? static_cast<double>(found->second - 1) : 0, {{"phone", p.config.name}});
  }
}

/// What the members of groups have said of themselves.
void add_members(table& t, const std::vector<const phone_status*>& phones) {
  const auto known = [&](const char* name, const char* help, auto value) {
    t.begin(name, help, gauge);
    for (const auto* p : phones) {
      for (const member_status& m : p->members) {
        if (const std::optional<double> v = m.reads ? value(m) : std::nullopt)
          t.add(*v, {{"phone", p->config.name}, {"member", m.name}});
      }
    }
  };
  known("pocketfleet_group_member_temperature_celsius",
        "The temperature of a group's member, as it last said.",
        [](const member_status& m) { return m.reads->temperature_c; });
  known("pocketfleet_group_member_battery_ratio", "How full a group's member's battery is, from 0 to 1.",
        [](const member_status& m) {
          return m.reads->battery_level ? std::optional(*m.reads->battery_level / 100) : std::nullopt;
        });
  known("pocketfleet_group_member_charging", "1 if a group's member is being charged.",
        [](const member_status& m) {
          return m.reads->charging ? std::optional(*m.reads->charging ? 1.0 : 0.0) : std::nullopt;
        });
  known("pocketfleet_group_member_heartbeat_age_seconds", "Since the last heartbeat of a group's member.",
        [](const member_status& m) {
          return std::optional(static_cast<double>(m.heard_ago.value_or(seconds{0}).count()));
        });
}

void add_phones(table& t, const std::vector<const phone_status*>& phones) {
  const auto each = [&](const char* name, const char* help, auto value) {
    t.begin(name, help, gauge);
    for (const auto* p : phones) t.add(value(*p), {{"phone", p->config.name}});
  };
  each("pocketfleet_phone_healthy", "1 if the phone gets requests.",
       [](const phone_status& p) { return p.healthy ? 1.0 : 0.0; });
  each("pocketfleet_phone_drained", "1 if the phone was drained by hand: it gets no new requests.",
       [](const phone_status& p) { return p.drained ? 1.0 : 0.0; });
  each("pocketfleet_phone_in_flight", "Requests that run on the phone.",
       [](const phone_status& p) { return static_cast<double>(p.in_flight); });
  each("pocketfleet_phone_permits", "Requests that the phone may run at once now.",
       [](const phone_status& p) { return static_cast<double>(p.permits); });
  each("pocketfleet_phone_weight", "The phone's weight.",
       [](const phone_status& p) { return static_cast<double>(p.config.weight); });
  each("pocketfleet_phone_resting",
       "1 if the phone rests, 0.5 if it is spared: too hot, too slow, battery low.",
       [](const phone_status& p) {
         return p.rests == rest_kind::hard ? 1.0 : p.rests == rest_kind::spare ? 0.5 : 0.0;
       });
  const auto learned = [&](const char* name, const char* help, auto value) {
    t.begin(name, help, gauge);
    for (const auto* p : phones) {
      const auto its = shown_speed(*p);
      if (its && value(*its) > 0) t.add(value(*its), {{"phone", p->config.name}});
    }
  };
  learned("pocketfleet_phone_decode_tokens_per_second",
          "Tokens of an answer that the phone makes in a second with its own model, as learned.",
          [](const model_speed& s) { return s.decode; });
  learned("pocketfleet_phone_prefill_tokens_per_second",
          "Tokens of a prompt that the phone reads in a second with its own model, as learned.",
          [](const model_speed& s) { return s.prefill; });
  learned("pocketfleet_phone_slowdown_ratio",
          "The phone's present speed as a share of its own best: 1 is cool, 0.5 half as fast.",
          [](const model_speed& s) { return s.decode > 0 ? s.slowdown : 0; });
  const auto known = [&](const char* name, const char* help, auto value) {
    t.begin(name, help, gauge);
    for (const auto* one : phones) {
      const phone_status& p = *one;
      if (const std::optional<double> v = p.reads ? value(*p.reads) : std::nullopt)
        t.add(*v, {{"phone", p.config.name}});
    }
  };
  known("pocketfleet_phone_temperature_celsius", "The battery's temperature, as the phone last said.",
        [](const telemetry& r) { return r.temperature_c; });
  known("pocketfleet_phone_battery_ratio", "How full the battery is, from 0 to 1.", [](const telemetry& r) {
    return r.battery_level ? std::optional(*r.battery_level / 100) : std::nullopt;
  });
  known("pocketfleet_phone_charging", "1 if the phone is being charged.", [](const telemetry& r) {
    return r.charging ? std::optional(*r.charging ? 1.0 : 0.0) : std::nullopt;
  });
  known("pocketfleet_phone_memory_available_bytes", "Free memory on the phone.", [](const telemetry& r) {
    return r.memory_available_kb ? std::optional(static_cast<double>(*r.memory_available_kb) * 1024)
                                 : std::nullopt;
  });
  t.begin("pocketfleet_phone_heartbeat_age_seconds", "Since the phone's last heartbeat.", gauge);
  for (const auto* one : phones) {
    const phone_status& p = *one;
    if (p.heard_ago) t.add(static_cast<double>(p.heard_ago->count()), {{"phone", p.config.name}});
  }
  t.begin("pocketfleet_phone_breaker_state", "1 for the state that the phone's circuit breaker is in.",
          gauge);
  for (const auto* one : phones) {
    const phone_status& p = *one;
    for (const auto state : {breaker_state::closed, breaker_state::open, breaker_state::half_open}) {
      t.add(p.breaker == state ? 1.0 : 0.0,
            {{"phone", p.config.name}, {"state", std::string(to_string(state))}});
    }
  }
  t.begin("pocketfleet_group_state", "1 for the state that a group's supervisor says it is in.", gauge);
  for (const auto* one : phones) {
    const phone_status& p = *one;
    if (p.config.group.members.empty()) continue;
    const std::string_view now = p.group ? std::string_view(p.group->state) : "unknown";
    for (const auto state : group_states)
      t.add(state == now ? 1.0 : 0.0, {{"phone", p.config.name}, {"state", std::string(state)}});
  }
  add_members(t, phones);
  add_rescuers(t, phones);
}

}  // namespace

metrics::metrics() {
  name(requests_, "pocketfleet_requests_total", "Requests of clients that are over, by how they ended.",
       {"route", "outcome"});
  name(request_seconds_, "pocketfleet_request_duration_seconds", "From a request's first byte to its end.",
       {"route"});
  name(first_token_seconds_, "pocketfleet_request_first_token_seconds",
       "From a streamed request's first byte to the first piece of its answer.", {"route"});
  name(attempts_, "pocketfleet_attempts_total", "Attempts on phones, by how they ended.",
       {"phone", "outcome"});
  name(attempt_seconds_, "pocketfleet_attempt_duration_seconds",
       "From sending to the end of an answer, whole answers only.", {"phone"});
  name(attempt_first_token_seconds_, "pocketfleet_attempt_first_token_seconds",
       "From sending to the phone's first token.", {"phone"});
  name(prompt_tokens_, "pocketfleet_prompt_tokens_total", "Tokens of prompts, as the engines count them.",
       {"phone"});
  name(cached_tokens_, "pocketfleet_prompt_cached_tokens_total",
       "Of these: tokens that the phone had read before, as far as its engine says.", {"phone"});
  name(thought_cached_, "pocketfleet_prompt_expected_cached_tokens_total",
       "Of these: tokens that the policy thought the phone to have read before.", {"phone"});
  name(answer_tokens_, "pocketfleet_answer_tokens_total", "Tokens generated, as the engines count them.",
       {"phone"});
  name(retries_, "pocketfleet_retries_total",
       "Requests to be tried again on another phone, by what went wrong.", {"reason"});
  name(hedges_, "pocketfleet_hedges_total",
       "Requests for which a second phone was asked because the first was late, by which of the two it was.",
       {"outcome"});
  for (const char* outcome : {"won", "lost"}) child(hedges_, outcome, {});
  name(rescues_, "pocketfleet_rescues_total",
       "Tries of another phone to go on with an answer that was broken off, by what came of them.",
       {"outcome"});
  name(queue_seconds_, "pocketfleet_queue_wait_seconds", "Waiting for a permit; immediate ones included.",
       {});
  name(probes_, "pocketfleet_probes_total", "Looks at phones.", {"phone", "result"});
  name(heartbeats_, "pocketfleet_heartbeats_total", "Heartbeats of phones, by what came of them.",
       {"outcome"});
  tokens_per_second_.family = &prometheus::BuildGauge()
                                   .Name("pocketfleet_phone_tokens_per_second")
                                   .Help("Speed of the phone's last whole answer, as its engine measured it.")
                                   .Register(registry_);
  tokens_per_second_.names = {"phone"};
  reload_good_ = &prometheus::BuildGauge()
                      .Name("pocketfleet_config_last_reload_successful")
                      .Help("1 if the file was good when it was last read.")
                      .Register(registry_)
                      .Add({});
  reload_time_ = &prometheus::BuildGauge()
                      .Name("pocketfleet_config_last_reload_success_timestamp_seconds")
                      .Help("When a good file was last read.")
                      .Register(registry_)
                      .Add({});
  prometheus::BuildGauge()
      .Name("pocketfleet_build_info")
      .Help("1; the label is the version.")
      .Register(registry_)
      .Add({{"version", POCKETFLEET_VERSION}})
      .Set(1);
  prometheus::BuildGauge()
      .Name("process_start_time_seconds")
      .Help("When the process was started.")
      .Register(registry_)
      .Add({})
      .Set(static_cast<double>(std::time(nullptr)));
  on_reload(true);
}

void metrics::name(counters& c, const char* metric, const char* help, std::vector<std::string> labels) {
  c.family = &prometheus::BuildCounter().Name(metric).Help(help).Register(registry_);
  c.names = std::move(labels);
}

void metrics::name(histograms& h, const char* metric, const char* help, std::vector<std::string> labels) {
  h.family = &prometheus::BuildHistogram().Name(metric).Help(help).Register(registry_);
  h.names = std::move(labels);
}

template <class Metric, class... Args>
Metric& metrics::child(by_labels<Metric>& of, std::string_view first, std::string_view second,
                       const Args&... args) {
  const std::pair<std::string_view, std::string_view> key(first, second);
  {
    const std::shared_lock lock(of.mutex);
    if (const auto found = of.children.find(key); found != of.children.end()) return *found->second;
  }
  const std::unique_lock lock(of.mutex);
  prometheus::Labels labels;
  if (!of.names.empty()) labels[of.names[0]] = first;
  if (of.names.size() > 1) labels[of.names[1]] = second;
  Metric& made = of.family->Add(labels, args...);
  of.children.emplace(key, &made);
  return made;
}

void metrics::on_request(const request_record& r) {
  child(requests_, r.route, r.outcome).Increment();
  child(request_seconds_, r.route, {}, latency).Observe(in_seconds(r.total));
  if (r.first_token > milliseconds{0})
    child(first_token_seconds_, r.route, {}, latency).Observe(in_seconds(r.first_token));
}

void metrics::on_attempt(const attempt_record& r) {
  child(attempts_, r.phone, r.outcome).Increment();
  if (r.first_token > duration{0})
    child(attempt_first_token_seconds_, r.phone, {}, latency).Observe(in_seconds(r.first_token));
  if (r.outcome != "ok") return;
  child(attempt_seconds_, r.phone, {}, latency).Observe(in_seconds(r.total));
  child(prompt_tokens_, r.phone, {}).Increment(static_cast<double>(r.prompt_tokens));
  child(answer_tokens_, r.phone, {}).Increment(static_cast<double>(r.answer_tokens));
  child(cached_tokens_, r.phone, {}).Increment(static_cast<double>(r.cached_tokens));
  child(thought_cached_, r.phone, {}).Increment(static_cast<double>(r.thought_cached));
  if (r.answer_time > nanoseconds{0}) {
    child(tokens_per_second_, r.phone, {})
        .Set(static_cast<double>(r.answer_tokens) / in_seconds(r.answer_time));
  }
}

void metrics::on_queue_wait(duration waited) {
  child(queue_seconds_, {}, {}, latency).Observe(in_seconds(waited));
}
void metrics::on_retry(std::string_view reason) {
  child(retries_, reason, {}).Increment();
}
void metrics::on_hedge(std::string_view outcome) {
  child(hedges_, outcome, {}).Increment();
}

void metrics::on_rescue(std::string_view outcome) {
  child(rescues_, outcome, {}).Increment();
}
void metrics::on_probe(std::string_view phone, bool good) {
  child(probes_, phone, good ? "good" : "bad").Increment();
}

void metrics::on_heartbeat(std::string_view outcome) {
  child(heartbeats_, outcome, {}).Increment();
}

void metrics::on_reload(bool good) {
  reload_good_->Set(good ? 1 : 0);
  if (good) reload_time_->Set(static_cast<double>(std::time(nullptr)));
}

std::string metrics::text(const metrics_look& now) {
  auto families = registry_.Collect();
  table t(families);
  add_phones(t, once_each(now.phones));
  t.one("pocketfleet_queue_length", "Requests that wait for a permit.", gauge,
        static_cast<double>(now.waiting));
  t.one("pocketfleet_cache_entries", "Answers in the cache.", gauge, static_cast<double>(now.cache.entries));
  t.one("pocketfleet_cache_bytes", "What they take.", gauge, static_cast<double>(now.cache.bytes));
  t.one("pocketfleet_cache_hits_total", "Requests answered from the cache.", counter,
        static_cast<double>(now.cache.hits));
  t.one("pocketfleet_cache_misses_total", "Requests that could have been, but were not there.", counter,
        static_cast<double>(now.cache.misses));
  t.one("pocketfleet_cache_joined_total", "Requests answered by a generation that another one had begun.",
        counter, static_cast<double>(now.cache.joined));
  t.one("pocketfleet_cache_evictions_total", "Answers that had to make room.", counter,
        static_cast<double>(now.cache.evictions));
  if (now.listener != nullptr) {
    const auto& l = *now.listener;
    t.one("pocketfleet_connections", "Connections of clients.", gauge, static_cast<double>(l.open.load()));
    t.one("pocketfleet_connections_total", "Connections accepted.", counter,
          static_cast<double>(l.accepted.load()));
    t.one("pocketfleet_connections_turned_away_total", "Connections closed at once, over the limit.", counter,
          static_cast<double>(l.turned_away.load()));
    t.one("pocketfleet_accept_errors_total", "Failures to accept a connection.", counter,
          static_cast<double>(l.accept_errors.load()));
    t.one("pocketfleet_tls_failures_total", "Connections on which no TLS came about.", counter,
          static_cast<double>(l.tls_failures.load()));
    t.one("pocketfleet_bad_requests_total", "Requests refused on their header or framing.", counter,
          static_cast<double>(l.bad_requests.load()));
  }
  if (now.certificate_expires != 0) {
    t.one("pocketfleet_tls_certificate_expiry_timestamp_seconds", "When the listener's certificate ends.",
          gauge, static_cast<double>(now.certificate_expires));
  }
  t.one("pocketfleet_request_body_bytes", "Bodies being read or served.", gauge,
        static_cast<double>(now.body_bytes));
  t.one("pocketfleet_log_dropped_total", "Log lines given up because nobody took them.", counter,
        static_cast<double>(now.dropped_log_lines));
  t.one("process_resident_memory_bytes", "Resident memory.", gauge, resident_bytes());
  // A family without a child yet would be a HELP line without a sample.
  std::erase_if(families, [](const auto& family) { return family.metric.empty(); });
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, families);
  return std::move(out).str();
}

}  // namespace pocketfleet
