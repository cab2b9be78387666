// /health and /warmup: how the fleet is, and making it ready.
#include "ask_common.hpp"
#include "pocketfleet/core/model_name.hpp"
#include "pocketfleet/engines/codec.hpp"
#include "pocketfleet/service/ask_api.hpp"
#include "pocketfleet/service/shown_speed.hpp"
#include "pocketfleet/service/together.hpp"
#include "warm_up.hpp"

namespace pocketfleet {

namespace {

json as_json(const telemetry& t, seconds age) {
  const auto or_null = [](const auto& value) { return value ? json(*value) : json(nullptr); };
  return {
      {"age_s", age.count()},
      {"temperature_c", or_null(t.temperature_c)},
      {"battery_level", or_null(t.battery_level)},
      {"charging", or_null(t.charging)},
      {"current_ua", or_null(t.current_ua)},
      {"memory_total_kb", or_null(t.memory_total_kb)},
      {"memory_available_kb", or_null(t.memory_available_kb)},
      {"wifi_rssi_dbm", or_null(t.wifi_rssi_dbm)},
      {"wifi_link_mbps", or_null(t.wifi_link_mbps)},
  };
}

/// A group's members, what its supervisor says of each, and what each says of itself.
json group_as_json(const phone_status& p) {
  const phone_group& group = p.config.group;
  const std::optional<group_report>& said = p.group;
  json members = json::array();
  for (std::size_t i = 0; i < group.members.size(); ++i) {
    const group_member& m = group.members[i];
    json one{
        {"name", m.name}, {"host", m.host}, {"port", m.port}, {"state", nullptr}, {"telemetry", nullptr}};
    if (!m.id.empty()) one["id"] = m.id;
    if (i < p.members.size() && p.members[i].reads)
      one["telemetry"] = as_json(*p.members[i].reads, p.members[i].heard_ago.value_or(seconds{0}));
    if (said) {
      for (const auto& s : said->members) {
        if (s.name == m.name) one["state"] = s.state;
      }
    }
    members.push_back(std::move(one));
  }
  const auto or_null = [](const std::string& text) { return text.empty() ? json(nullptr) : json(text); };
  return {
      {"state", said ? said->state : "unknown"},       {"fault", said ? or_null(said->fault) : json(nullptr)},
      {"reason", said ? said->reason : std::string{}}, {"members", std::move(members)},
      {"stand_in", or_null(group.stand_in)},
  };
}

}  // namespace

task<> ask_api::health(http_call& call) {
  json phones = json::array();
  std::size_t healthy = 0;
  std::size_t wanted = 0;
  for (const auto& p : desk_.status()) {
    if (p.healthy) ++healthy;
    if (!p.draining && !p.drained) ++wanted;
    json one{
        {"name", p.config.name},
        {"host", p.config.host},
        {"port", p.config.port},
        {"model", p.model},
        {"engine", to_string(p.engine)},
        {"healthy", p.healthy},
        {"state", to_string(p.state)},
        {"reason", p.reason},
        {"breaker", to_string(p.breaker)},
        {"inflight", p.in_flight},
        {"permits", p.permits},
        {"max_concurrency", p.config.max_concurrency},
        {"weight", p.config.weight},
        {"models", p.models},
        {"loaded", p.loaded},
        {"draining", p.draining},
        {"suspect", p.suspect},
    };
    one["drained"] = p.drained;
    one["quiet"] = p.quiet;
    one["resting"] = p.resting.empty() ? json(nullptr) : json(p.resting);
    one["telemetry"] = p.reads ? as_json(*p.reads, p.heard_ago.value_or(seconds{0})) : json(nullptr);
    one["speeds"] = speeds_as_json(p);
    if (!p.config.id.empty()) one["id"] = p.config.id;
    if (p.slots) one["slots"] = *p.slots;
    if (!p.config.group.members.empty()) one["group"] = group_as_json(p);
    phones.push_back(std::move(one));
  }
  const cache_status cache = dispatch_.cache();
  const json body{
      {"status", healthy == 0       ? "down"
                 : healthy < wanted ? "degraded"
                                    : "ok"},
      {"phones", phones},
      {"queue", {{"waiting", desk_.waiting()}}},
      {"cache",
       {{"entries", cache.entries}, {"bytes", cache.bytes}, {"hits", cache.hits}, {"misses", cache.misses}}},
  };
  std::string text = dump_json(body);
  co_await call.out->send(200, json_type, std::move(text));
}

namespace {

struct warm_up_request {
  std::string model;
  json keep_alive;
};

result<warm_up_request> parse_warm_up(std::string_view body) {
  warm_up_request out;
  if (body.empty()) return out;
  // The same fields with the same rules as in /ask.
  auto parsed = parse_json(body);
  if (!parsed) return parsed.error();
  if (!parsed->is_object()) return error(errc::bad_request, "expected a JSON object");
  for (const auto& [name, value] : parsed->items()) {
    if (name != "model" && name != "keep_alive") {
      return error(errc::bad_request, "unknown field; /warmup knows \"model\" and \"keep_alive\"");
    }
  }
  json as_ask = *parsed;
  as_ask["prompt"] = "-";
  auto checked = read_ask(std::move(as_ask), ask_rules{});
  if (!checked) return checked.error();
  out.model = checked->what.model;
  out.keep_alive = checked->what.keep_alive;
  return out;
}

}  // namespace

task<> ask_api::warm_up(http_call& call) {
  auto request = parse_warm_up(call.body);
  const result<void> allowed = request ? choose_allowed(call, request->model) : request.error();
  if (!allowed) {
    const error why = allowed.error();
    co_await refuse(call, why);
    co_return;
  }
  const auto phones = desk_.targets();
  json results = json::array();
  for (std::size_t i = 0; i < phones.size(); ++i) results.push_back(nullptr);
  auto one = [&](std::size_t i) -> task<> {
    results[i] = co_await warm_up_phone(call, phones[i], request->model, request->keep_alive);
  };
  co_await together(call.where, phones.size(), one);
  if (call.gone.stop_requested()) co_return;
  const json body{{"phones", results}};
  std::string text = dump_json(body);
  co_await call.out->send(200, json_type, std::move(text));
}

task<json> ask_api::warm_up_phone(http_call& call, std::shared_ptr<const phone_target> phone,
                                  std::string model, json keep_alive) {
  const time_point began = clock::now();
  warm_up_order order{.model = std::move(model),
                      .keep_alive = std::move(keep_alive),
                      .deadline = began + settings_.times.first_token_loading};
  order.wanted.only = phone->id;
  if (!order.model.empty()) order.wanted.model = normalized_model(order.model);
  const auto warmed = co_await pocketfleet::warm_up(call, desk_, order);
  json out{{"name", phone->name}, {"ok", warmed.has_value()}};
  if (warmed || warmed.error().code != errc::no_phone) out["ms"] = milliseconds_since(began).count();
  if (!warmed) {
    const error& why = warmed.error();
    out["error"] = why.message.empty() ? std::string(to_string(why.code)) : why.message;
  }
  co_return out;
}

}  // namespace pocketfleet
