#include <cstdio>

#include "host_text.hpp"
#include "pocketfleet/app/listen_address.hpp"
#include "pocketfleet/app/settings_json.hpp"
#include "pocketfleet/core/policy.hpp"
#include "settings_tables.hpp"

namespace pocketfleet {
namespace {

using make = make_setting<gateway_settings>;

constexpr std::uint64_t KiB = 1024;
constexpr std::uint64_t MiB = 1024 * KiB;
constexpr std::uint64_t GiB = 1024 * MiB;
constexpr double hour = 3600;
constexpr double day = 24 * hour;

void read_listen(gateway_settings& into, const place& from) {
  const auto* text = from.value.get_ptr<const std::string*>();
  auto listen = text == nullptr ? std::nullopt : parse_listen_address(*text);
  if (!listen) return from.refuse(std::string(listen_address_form));
  into.listener.address = std::move(listen->address);
  into.listener.port = listen->port;
}

void read_host_names(gateway_settings& into, const place& from) {
  constexpr std::size_t most = 64;
  if (!from.value.is_array() || from.value.size() > most) {
    return from.refuse("an array of at most 64 host names");
  }
  for (std::size_t i = 0; i < from.value.size(); ++i) {
    const auto at = from.item(i);
    const auto* text = at.value.get_ptr<const std::string*>();
    auto checked = check_host(text == nullptr ? "" : *text);
    if (checked.expected.empty()) {
      into.listener.host_names.push_back(std::move(checked.host));
    } else {
      at.refuse(std::move(checked.expected));
    }
  }
}

/// "https://app.example" or "http://192.168.1.7:3000": what a browser says of the page that asks.
bool is_origin(std::string_view text) {
  const auto slashes = text.find("://");
  if (slashes == std::string_view::npos || text.size() > 256) return false;
  const std::string_view scheme = text.substr(0, slashes);
  const std::string_view rest = text.substr(slashes + 3);
  constexpr std::string_view letters = "abcdefghijklmnopqrstuvwxyz0123456789-.:[]";
  return !scheme.empty() && !rest.empty() && rest.find_first_not_of(letters) == std::string_view::npos &&
         scheme.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789+-.") == std::string_view::npos;
}

void read_origins(gateway_settings& into, const place& from) {
  constexpr std::size_t most = 64;
  if (!from.value.is_array() || from.value.size() > most)
    return from.refuse("an array of at most 64 origins of pages");
  for (std::size_t i = 0; i < from.value.size(); ++i) {
    const auto at = from.item(i);
    const auto* text = at.value.get_ptr<const std::string*>();
    if (text == nullptr || !is_origin(*text)) {
      at.refuse(R"(an origin in lower case and without a path, as "https://app.example")");
    } else {
      into.listener.origins.push_back(*text);
    }
  }
}

/// The path of a file, read or written later.
template <class At>
setting<gateway_settings> path(std::string_view key, At at) {
  return {key, [at](gateway_settings& into, const place& from) { read_path(at(into), from); },
          [at](const gateway_settings& g) { return json(at(g)); }};
}

void read_networks(gateway_settings& into, const place& from) {
  constexpr std::size_t most = 64;
  if (!from.value.is_array() || from.value.size() > most)
    return from.refuse("an array of at most 64 networks");
  networks all;
  for (std::size_t i = 0; i < from.value.size(); ++i) {
    const auto at = from.item(i);
    const auto* text = at.value.get_ptr<const std::string*>();
    if (text == nullptr || !all.add(*text)) at.refuse(R"(a network such as "192.168.1.0/24" or "fd00::/8")");
  }
  into.registration.from = std::move(all);
}

void read_tunnel_ports(gateway_settings& into, const place& from) {
  const auto* text = from.value.get_ptr<const std::string*>();
  unsigned first = 0;
  unsigned last = 0;
  int used = 0;
  if (text == nullptr || text->size() > 11 ||
      std::sscanf(text->c_str(), "%5u-%5u%n", &first, &last, &used) != 2 ||
      static_cast<std::size_t>(used) != text->size() || first < 1024 || last > 65535 || first > last) {
    return from.refuse(R"(ports from 1024 to 65535, as "20000-20999")");
  }
  into.registration.first_tunnel_port = static_cast<std::uint16_t>(first);
  into.registration.last_tunnel_port = static_cast<std::uint16_t>(last);
}

setting<gateway_settings> words(std::string_view key, const std::vector<std::string_view>& names,
                                std::string gateway_settings::*field) {
  std::vector<std::pair<std::string_view, std::string>> pairs;
  pairs.reserve(names.size());
  for (const auto name : names) pairs.emplace_back(name, name);
  return make::choice<std::string>(
      key, std::move(pairs), [field](auto& g) -> auto& { return g.*field; });
}

}  // namespace

const std::vector<setting<gateway_settings>>& gateway_table() {
  static const std::vector<setting<gateway_settings>> table{
      // who may connect
      {"listen", read_listen,
       [](const auto& g) { return json(join_host_port(g.listener.address, g.listener.port)); }},
      make::flag(
          "allow_unauthenticated_lan", [](auto& g) -> auto& { return g.allow_unauthenticated_lan; }),
      path(
          "api_keys_file", [](auto& g) -> auto& { return g.api_keys_file; }),
      path(
          "tls_certificate", [](auto& g) -> auto& { return g.tls.certificate; }),
      path(
          "tls_key", [](auto& g) -> auto& { return g.tls.key; }),
      path(
          "tls_client_ca", [](auto& g) -> auto& { return g.tls.client_ca; }),
      {"origins", read_origins, [](const auto& g) { return json(g.listener.origins); }},
      {"host_names", read_host_names, [](const auto& g) { return json(g.listener.host_names); }},

      make::flag(
          "dashboard", [](auto& g) -> auto& { return g.dashboard; }),

      // which phone
      words("policy", policy_names(), &gateway_settings::policy),
      make::whole(
          "queue", 0, 100'000, [](auto& g) -> auto& { return g.dispatch.queue_capacity; }),
      make::time(
          "queue_wait_s", 0.01, hour, [](auto& g) -> auto& { return g.service.times.queue; }),
      make::whole(
          "attempts", 1, 10, [](auto& g) -> auto& { return g.service.attempts; }),
      make::whole(
          "rescues", 0, 10, [](auto& g) -> auto& { return g.service.rescues; }),
      make::time(
          "keepalive_s", 0.1, hour, [](auto& g) -> auto& { return g.service.times.keepalive; }),
      make::share(
          "retry_share", 1, [](auto& g) -> auto& { return g.dispatch.retry_share; }),
      make::whole(
          "retry_floor", 0, 1000, [](auto& g) -> auto& { return g.dispatch.retry_floor; }),
      make::flag(
          "hedging", [](auto& g) -> auto& { return g.dispatch.hedging; }),
      make::share(
          "hedge_share", 1, [](auto& g) -> auto& { return g.dispatch.hedge_share; }),

      // how long
      make::time(
          "connect_timeout_s", 0.05, 60, [](auto& g) -> auto& { return g.service.times.connect; }),
      make::time(
          "first_token_timeout_s", 0.1, hour, [](auto& g) -> auto& { return g.service.times.first_token; }),
      make::time(
          "loading_timeout_s", 0.1, hour,
          [](auto& g) -> auto& { return g.service.times.first_token_loading; }),
      make::time(
          "token_timeout_s", 0.1, hour, [](auto& g) -> auto& { return g.service.times.between_tokens; }),
      make::time(
          "request_timeout_s", 0.1, day, [](auto& g) -> auto& { return g.service.times.request; }),

      // the cache
      make::choice<cache_mode>(
          "cache",
          {{"everywhere", cache_mode::everywhere},
           {"always", cache_mode::always},
           {"deterministic", cache_mode::deterministic},
           {"never", cache_mode::never}},
          [](auto& g) -> auto& { return g.service.caching; }),
      make::whole(
          "cache_entries", 0, 1'000'000, [](auto& g) -> auto& { return g.service.cache.entries; }),
      make::whole(
          "cache_bytes", 0, 64 * GiB, [](auto& g) -> auto& { return g.service.cache.bytes; }),
      make::whole(
          "cache_entry_bytes", 0, GiB, [](auto& g) -> auto& { return g.service.cache.entry_bytes; }),
      make::time(
          "cache_ttl_s", 1, 30 * day, [](auto& g) -> auto& { return g.service.cache.ttl; }),

      // phones that fail
      make::whole(
          "breaker_failures", 1, 1000, [](auto& g) -> auto& { return g.dispatch.breaker.failures; }),
      make::whole(
          "breaker_connect_failures", 1, 1000,
          [](auto& g) -> auto& { return g.dispatch.breaker.connect_failures; }),
      make::time(
          "breaker_open_s", 1, hour, [](auto& g) -> auto& { return g.dispatch.breaker.open_time; }),
      make::time(
          "breaker_max_open_s", 1, day, [](auto& g) -> auto& { return g.dispatch.breaker.max_open_time; }),
      make::share(
          "breaker_jitter", 0.9, [](auto& g) -> auto& { return g.dispatch.breaker.jitter; }),
      make::whole(
          "breaker_successes", 1, 100,
          [](auto& g) -> auto& { return g.dispatch.breaker.successes_to_close; }),
      make::time(
          "slow_start_s", 0, hour, [](auto& g) -> auto& { return g.dispatch.breaker.slow_start; }),
      make::time(
          "probe_interval_s", 0.1, hour, [](auto& g) -> auto& { return g.service.probe.interval; }),
      make::time(
          "probe_timeout_s", 0.05, 60, [](auto& g) -> auto& { return g.service.probe.timeout; }),
      make::share(
          "probe_jitter", 0.9, [](auto& g) -> auto& { return g.service.probe.jitter; }),
      make::whole(
          "probe_fall", 1, 100, [](auto& g) -> auto& { return g.service.probe.fall; }),
      make::whole(
          "probe_rise", 1, 100, [](auto& g) -> auto& { return g.service.probe.rise; }),
      make::whole(
          "probe_inventory_every", 1, 1000, [](auto& g) -> auto& { return g.service.probe.inventory_every; }),

      // phones that say how they are
      make::choice<registration_mode>(
          "registration",
          {{"off", registration_mode::off},
           {"known", registration_mode::known},
           {"open", registration_mode::open}},
          [](auto& g) -> auto& { return g.registration.mode; }),
      path(
          "fleet_token_file", [](auto& g) -> auto& { return g.registration.token_file; }),
      path(
          "registered_file", [](auto& g) -> auto& { return g.registration.registered_file; }),
      path(
          "phone_api_key_file", [](auto& g) -> auto& { return g.phone_api_key_file; }),
      {"phone_networks", read_networks, [](const auto& g) { return json(g.registration.from.texts()); }},
      {"tunnel_ports", read_tunnel_ports,
       [](const auto& g) {
         return json(std::to_string(g.registration.first_tunnel_port) + "-" +
                     std::to_string(g.registration.last_tunnel_port));
       }},
      make::share(
          "rest_above_c", 100, [](auto& g) -> auto& { return g.dispatch.rest.pause_c; }),
      make::share(
          "rest_until_c", 100, [](auto& g) -> auto& { return g.dispatch.rest.resume_c; }),
      make::share(
          "rest_slow_share", 1, [](auto& g) -> auto& { return g.dispatch.rest.slow_share; }),
      make::time(
          "rest_slow_s", 1, hour, [](auto& g) -> auto& { return g.dispatch.rest.slow_rest; }),
      make::share(
          "rest_battery_below", 100, [](auto& g) -> auto& { return g.dispatch.rest.battery_low; }),
      make::share(
          "rest_battery_until", 100, [](auto& g) -> auto& { return g.dispatch.rest.battery_enough; }),

      // limits on clients
      make::whole(
          "connections", 1, 100'000, [](auto& g) -> auto& { return g.listener.connections; }),
      make::time(
          "header_timeout_s", 0.1, 300, [](auto& g) -> auto& { return g.listener.header_time; }),
      make::time(
          "body_timeout_s", 0.1, hour, [](auto& g) -> auto& { return g.listener.body_time; }),
      make::time(
          "idle_timeout_s", 0.1, hour, [](auto& g) -> auto& { return g.listener.idle_time; }),
      make::time(
          "write_stall_s", 0.1, hour, [](auto& g) -> auto& { return g.listener.write_stall; }),
      make::whole(
          "header_bytes", KiB, 32 * KiB, [](auto& g) -> auto& { return g.listener.header_bytes; }),
      make::whole(
          "header_fields", 8, 1000, [](auto& g) -> auto& { return g.listener.header_fields; }),
      make::whole(
          "target_bytes", 64, 16 * KiB, [](auto& g) -> auto& { return g.listener.target_bytes; }),
      make::whole(
          "body_bytes", KiB, 32 * MiB, [](auto& g) -> auto& { return g.listener.body_bytes; }),
      make::whole(
          "all_bodies_bytes", KiB, 4 * GiB, [](auto& g) -> auto& { return g.listener.all_bodies_bytes; }),
      make::whole(
          "batch_items", 1, 1024, [](auto& g) -> auto& { return g.service.batch_items; }),
      make::whole(
          "answer_bytes", KiB, 256 * MiB, [](auto& g) -> auto& { return g.service.answer_bytes; }),
      make::choice<bool>(
          "load_options", {{"refuse", false}, {"pass", true}},
          [](auto& g) -> auto& { return g.service.pass_load_options; }),

      // connections to phones
      make::time(
          "phone_idle_llama_server_s", 0, 300, [](auto& g) -> auto& { return g.links.idle_llama_server; }),
      make::time(
          "phone_idle_ollama_s", 0, 300, [](auto& g) -> auto& { return g.links.idle_ollama; }),
      path(
          "phone_tls_ca_file", [](auto& g) -> auto& { return g.phone_tls_ca_file; }),
      make::whole(
          "phone_idle_connections", 0, 64, [](auto& g) -> auto& { return g.links.idle_per_phone; }),
      make::whole(
          "phone_buffer_bytes", 16 * KiB, MiB, [](auto& g) -> auto& { return g.links.buffer_bytes; }),

      // the process
      make::whole(
          "workers", 1, 64, [](auto& g) -> auto& { return g.workers; }),
      make::time(
          "drain_s", 0, day, [](auto& g) -> auto& { return g.drain; }),
      words("log_level", {"trace", "debug", "info", "warning", "error", "critical", "off"},
            &gateway_settings::log_level),
      make::choice<log_format>(
          "log_format",
          {{"auto", log_format::automatic},
           {"text", log_format::text},
           {"json", log_format::objects},
           {"journal", log_format::journal}},
          [](auto& g) -> auto& { return g.log; }),
  };
  return table;
}

void read_gateway(gateway_settings& into, const place& from) {
  if (!from.value.is_object()) return from.refuse("an object with settings");
  read_object(into, from, gateway_table());

  // One setting, two readers.
  into.links.connect_time = into.service.times.connect;
  into.links.allowed = into.registration.from;
  into.dispatch.probe_interval = std::chrono::ceil<seconds>(into.service.probe.interval);

  if (!is_loopback(into.listener.address) && !into.allow_unauthenticated_lan && into.api_keys_file.empty()) {
    from.member("listen").refuse(
        R"(a loopback address such as "127.0.0.1:8000", or "api_keys_file" or "allow_unauthenticated_lan": true beside it)");
  }
  if (into.tls.certificate.empty() != into.tls.key.empty()) {
    const bool key = into.tls.certificate.empty();
    from.member(key ? "tls_key" : "tls_certificate")
        .refuse(key ? "\"tls_certificate\" beside it" : "\"tls_key\" beside it");
  } else if (into.tls.certificate.empty() && !into.tls.client_ca.empty()) {
    from.member("tls_client_ca").refuse("\"tls_certificate\" and \"tls_key\" beside it");
  }
  auto& rests = into.dispatch.rest;
  if (rests.resume_c > rests.pause_c) {
    const bool said = from.value.contains("rest_until_c");
    from.mistakes.add(from.path_to(said ? "rest_until_c" : "rest_above_c"),
                      number(said ? rests.resume_c : rests.pause_c).dump(),
                      said ? "at most rest_above_c, which is " + number(rests.pause_c).dump()
                           : "at least rest_until_c, which is " + number(rests.resume_c).dump());
  }
  if (rests.battery_enough < rests.battery_low) rests.battery_enough = rests.battery_low;
  if (into.registration.mode == registration_mode::open && into.registration.token_file.empty()) {
    from.member("registration").refuse("\"fleet_token_file\" beside it: who may join has to be known");
  }
  auto& breaker = into.dispatch.breaker;
  if (breaker.max_open_time < breaker.open_time) {
    if (from.value.contains("breaker_max_open_s")) {
      from.member("breaker_max_open_s")
          .refuse("at least breaker_open_s, which is " + std::to_string(breaker.open_time.count()));
    }
    breaker.max_open_time = breaker.open_time;
  }
  auto& listener = into.listener;
  if (listener.all_bodies_bytes < listener.body_bytes) {
    if (from.value.contains("body_bytes") && from.value.contains("all_bodies_bytes")) {
      from.member("all_bodies_bytes")
          .refuse("at least body_bytes, which is " + std::to_string(listener.body_bytes));
    }
    listener.body_bytes = listener.all_bodies_bytes;
  }
}

json settings_to_json(const gateway_settings& settings) {
  json out = json::object();
  for (const auto& s : gateway_table()) out.emplace(s.key, s.write(settings));
  return out;
}

}  // namespace pocketfleet
