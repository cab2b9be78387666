// Requests under /sim/: what the phone does, and which fault it shows.
#include "engine.hpp"
#include "json.hpp"

namespace pocketfleet::sim {

namespace asio = boost::asio;

namespace {

std::string state_text(phone::server& server) {
  const phone_state state = server.state();
  ordered text;
  text["name"] = server.settings.name;
  text["engine"] = to_string(server.settings.engine);
  text["model"] = server.settings.model;
  text["requests"] = state.requests;
  text["completed"] = state.completed;
  text["cancelled"] = state.cancelled;
  text["failed"] = state.failed;
  text["tokens"] = state.tokens;
  text["loads"] = state.loads;
  text["prompt_tokens"] = state.prompt_tokens;
  text["cached_tokens"] = state.cached_tokens;
  text["active"] = state.active;
  text["waiting"] = state.waiting;
  text["max_active"] = state.max_active;
  text["connections"] = state.connections;
  text["loaded"] = state.loaded;
  text["fault"] = to_string(state.fault_now);
  text["temperature_share"] = state.temperature_share;
  text["speed_share"] = state.speed_share;
  return write_json(text);
}

std::string last_text(const seen_request& last) {
  ordered text;
  text["method"] = last.method;
  text["target"] = last.target;
  text["path"] = last.target.substr(0, last.target.find('?'));
  text["headers"] = ordered::object();
  for (const auto& [name, value] : last.headers) text["headers"][name] = value;
  text["body"] = last.body;
  return write_json(text);
}

// The fault that a body asks for; `wrong` says what is wrong with it.
fault read_fault(std::string_view body, std::string& wrong) {
  fault result;
  const auto asked = read_json(body);
  if (!asked || !asked->is_object()) {
    wrong = "the body is a JSON object";
    return result;
  }
  const auto kind = fault_from_string(text_member(*asked, "kind"));
  if (!kind) wrong = "kind is the name of a fault";
  if (kind) result.kind = *kind;
  const auto number = [&](const char* name, std::int64_t otherwise) {
    const json& value = member(*asked, name);
    if (value.is_null()) return otherwise;
    if (value.is_number_integer() && value >= 0 && value <= 1'000'000'000) return value.get<std::int64_t>();
    wrong = std::string(name) + " is a whole number from 0 to 1000000000";
    return otherwise;
  };
  result.after_tokens = static_cast<unsigned>(number("after_tokens", 0));
  result.times = static_cast<unsigned>(number("times", 0));
  result.clears_after = milliseconds(number("duration_ms", 0));
  const json& factor = member(*asked, "factor");
  if (factor.is_number() && factor > 0) result.factor = factor.get<double>();
  if (!factor.is_null() && !(factor.is_number() && factor > 0)) wrong = "factor is a number over 0";
  const bool deaf = result.kind == fault_kind::refuse || result.kind == fault_kind::crash;
  if (deaf && result.clears_after == milliseconds(0)) wrong = "this fault needs duration_ms";
  return result;
}

}  // namespace

asio::awaitable<void> answer_control(connection& client) {
  const request& asked = client.asked();
  phone::server& server = client.server();
  unsigned status = 200;
  std::string body;
  if (asked.path == "/sim/state" && asked.get()) {
    body = state_text(server);
  } else if (asked.path == "/sim/last" && asked.get()) {
    body = last_text(server.last);
  } else if (asked.path == "/sim/fault" && asked.seen.method == "POST") {
    std::string wrong;
    const fault what = read_fault(asked.seen.body, wrong);
    if (wrong.empty()) {
      body = write_json(ordered{{"fault", to_string(what.kind)}});
      const bool crash =
          what.kind == fault_kind::crash;  // would cut this answer short: the answer goes first
      if (!crash) server.set(what);
      co_await client.reply(200, "application/json", std::move(body));
      if (crash) server.set(what);
      co_return;
    }
    status = 400;
    body = write_json(ordered{{"error", wrong}});
  } else if (asked.path == "/sim/fault" && asked.seen.method == "DELETE") {
    server.set(fault{});
    body = write_json(ordered{{"fault", "none"}});
  } else {
    status = 404;
    body =
        write_json(ordered{{"error", "GET /sim/state, GET /sim/last, POST /sim/fault, DELETE /sim/fault"}});
  }
  co_await client.reply(status, "application/json", std::move(body));
}

}  // namespace pocketfleet::sim
