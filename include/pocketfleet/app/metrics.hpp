// Everything that /metrics shows. The one place that names metrics.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <functional>
#include <map>
#include <shared_mutex>
#include <string>
#include <vector>

#include "pocketfleet/core/dispatcher.hpp"
#include "pocketfleet/service/answers.hpp"
#include "pocketfleet/service/ports.hpp"
#include "pocketfleet/transport/server.hpp"

namespace pocketfleet {

/// What is read at each scrape instead of being counted as it happens.
struct metrics_look {
  std::vector<phone_status> phones{};
  std::size_t waiting = 0;
  cache_status cache{};
  const listener_counters* listener = nullptr;
  std::size_t body_bytes = 0;
  std::int64_t certificate_expires = 0;  ///< seconds since 1970; 0: there is no TLS
  std::size_t dropped_log_lines = 0;
};

/// Labels come from the configuration (phones' names), from routes and from fixed lists, never from a
/// request, so that no client can make the number of series grow. Used from every worker.
class metrics {
 public:
  metrics();

  void on_request(const request_record& r);
  void on_attempt(const attempt_record& r);
  void on_queue_wait(duration waited);
  void on_retry(std::string_view reason);
  void on_rescue(std::string_view outcome);
  void on_hedge(std::string_view outcome);
  void on_probe(std::string_view phone, bool good);
  void on_heartbeat(std::string_view outcome);
  void on_reload(bool good);

  /// Prometheus text format 0.0.4.
  std::string text(const metrics_look& now);

 private:
  /// So that a look-up makes no strings.
  struct by_text {
    using is_transparent = void;
    bool operator()(const auto& a, const auto& b) const {
      const int first = std::string_view(a.first).compare(b.first);
      return first != 0 ? first < 0 : std::string_view(a.second) < std::string_view(b.second);
    }
  };
  /// A family with its children by label values, so that the hot path makes no label maps.
  template <class Metric>
  struct by_labels {
    prometheus::Family<Metric>* family = nullptr;
    std::vector<std::string> names{};
    std::map<std::pair<std::string, std::string>, Metric*, by_text> children{};
    std::shared_mutex mutex{};
  };
  using counters = by_labels<prometheus::Counter>;
  using histograms = by_labels<prometheus::Histogram>;

  void name(counters& c, const char* metric, const char* help, std::vector<std::string> labels);
  void name(histograms& h, const char* metric, const char* help, std::vector<std::string> labels);
  template <class Metric, class... Args>
  static Metric& child(by_labels<Metric>& of, std::string_view first, std::string_view second,
                       const Args&... args);

  prometheus::Registry registry_;
  counters requests_, attempts_, prompt_tokens_, cached_tokens_, thought_cached_, answer_tokens_, retries_,
      rescues_, hedges_, probes_, heartbeats_;
  histograms request_seconds_, first_token_seconds_, attempt_seconds_, attempt_first_token_seconds_,
      queue_seconds_;
  by_labels<prometheus::Gauge> tokens_per_second_;
  prometheus::Gauge* reload_good_;
  prometheus::Gauge* reload_time_;
};

}  // namespace pocketfleet
