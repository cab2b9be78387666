#include "client_commands.hpp"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <iostream>
#include <thread>

#include "host_text.hpp"
#include "pocketfleet/app/commands.hpp"

namespace pocketfleet {
namespace {

constexpr milliseconds between_looks{300};
constexpr std::size_t longest_wait_line = 80;

std::string path_to(const client_arguments& given, std::string_view what = {}) {
  return "/admin/phones/" + percent_encoded(given.name) + std::string(what);
}

/// The API's own words, or what is told of them.
void tell(const client_arguments& given, const gateway_client::answer& got, const std::string& text) {
  std::cout << (given.as_json ? got.text : text) << '\n' << std::flush;
}

/// Requests that run on the phone: in the fleet or on their way out. Nothing: there is no such phone.
std::optional<std::uint64_t> running_on(const json& list, const std::string& name) {
  std::optional<std::uint64_t> out;
  if (!list.is_object() || !list.contains("phones") || !list["phones"].is_array()) return out;
  for (const json& p : list["phones"]) {
    if (p.is_object() && text_of(p, "name") == name) out = out.value_or(0) + number_of(p, "inflight");
  }
  return out;
}

std::string as_it_is(const json& phone) {
  const auto most = number_of(phone, "max_concurrency");
  const auto now = number_of(phone, "permits");
  return "weight " + std::to_string(number_of(phone, "weight")) + ", " + counted(most, "request") +
         " at once" + (now < most ? " (" + std::to_string(now) + " now: its slots, or just back)" : "");
}

/// Until nothing runs on it any more.
void wait_until_idle(const client_arguments& given, gateway_client& gateway) {
  const bool live = !given.as_json && ::isatty(STDERR_FILENO) != 0;
  const time_point end = clock::now() + seconds{given.timeout};
  for (;;) {
    const auto got = gateway.get("/admin/phones");
    const auto left = running_on(got.body, given.name).value_or(0);
    if (live) {
      std::string line = "waiting: " + counted(left, "request") + " on " + printable(given.name);
      std::cerr << '\r' << line.substr(0, longest_wait_line) << "\x1b[K" << (left == 0 ? "\r\x1b[K" : "");
      std::cerr << std::flush;
    }
    if (left == 0) return;
    if (clock::now() >= end) {
      if (live) std::cerr << '\n';
      throw client_failure(exit_failed, counted(left, "request") + " still running on " + given.name +
                                            " after " + std::to_string(given.timeout) +
                                            " s. It stays drained; wait again, or longer with --timeout");
    }
    std::this_thread::sleep_for(between_looks);
  }
}

}  // namespace

// ---- what is told of a phone

std::string text_of(const json& phone, const char* key) {
  const auto found = phone.find(key);
  return found != phone.end() && found->is_string() ? printable(found->get<std::string>()) : std::string{};
}

std::uint64_t number_of(const json& phone, const char* key) {
  const auto found = phone.find(key);
  return found != phone.end() && found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
}

std::string address_of(const json& phone) {
  return join_host_port(text_of(phone, "host"), static_cast<unsigned>(number_of(phone, "port")));
}

std::string state_word(const json& phone) {
  const auto flag = [&](const char* key) { return phone.value(key, json(false)) == true; };
  const std::string state = text_of(phone, "state");
  if (flag("draining")) return "leaving";
  if (flag("drained")) return "drained";
  if (state != "up") return state == "unknown" ? "checking" : state;
  if (text_of(phone, "breaker") == "open") return "cut off";
  return flag("healthy") ? "up" : "resting";
}

tint state_tint(const json& phone) {
  const std::string word = state_word(phone);
  if (word == "up") return tint::good;
  return word == "down" || word == "cut off" ? tint::bad : tint::warning;
}

/// With the model that it has answered with most; how much slower it is than it could be, if it is.
std::string learned_speed_of(const json& phone) {
  const json& all = phone.value("speeds", json::array());
  const json* most = nullptr;
  for (const json& each : all) {
    if (!each.is_object() || !each.value("decode_tokens_per_s", json()).is_number()) continue;
    if (most == nullptr || number_of(each, "answers") > number_of(*most, "answers")) most = &each;
  }
  if (most == nullptr) return {};
  std::array<char, 48> text{};
  std::snprintf(text.data(), text.size(), "%.1f/s", most->at("decode_tokens_per_s").get<double>());
  std::string out = text.data();
  const json share = most->value("slowdown", json());
  if (!share.is_number() || share.get<double>() > 0.9) return out;
  std::snprintf(text.data(), text.size(), " (%.0f %%)", 100 * share.get<double>());
  return out + text.data();
}

// ---- commands

void show_phones(const client_arguments& given) {
  gateway_client gateway(given.where);
  const auto got = gateway.get("/admin/phones");
  if (given.as_json) return tell(given, got, {});
  text_table table({{"NAME"},
                    {"STATE"},
                    {"RUNNING", true},
                    {"WEIGHT", true},
                    {"SPEED", true},
                    {"BREAKER"},
                    {"ENGINE"},
                    {"MODEL"},
                    {"ADDRESS"},
                    {"FROM"},
                    {"WHY"}});
  std::size_t healthy = 0;
  const json phones = got.body.value("phones", json::array());
  for (const json& p : phones) {
    const std::string breaker = text_of(p, "breaker");
    const bool held = p.value("breaker_held", json(false)) == true;
    healthy += p.value("healthy", json(false)) == true ? 1 : 0;
    table.add({text_of(p, "name"),
               {state_word(p), state_tint(p)},
               std::to_string(number_of(p, "inflight")) + "/" + std::to_string(number_of(p, "permits")),
               std::to_string(number_of(p, "weight")),
               learned_speed_of(p),
               {held ? "held open" : breaker, breaker == "closed" ? tint::none : tint::bad},
               text_of(p, "engine"),
               text_of(p, "model"),
               address_of(p),
               text_of(p, "source"),
               {text_of(p, "reason"), tint::dim}});
  }
  const bool colour = wants_colour();
  if (!phones.empty()) {
    for (const auto& line : table.lines(colour)) std::cout << line << '\n';
  }
  std::cout << counted(phones.size(), "phone") << ", " << healthy << " healthy\n" << std::flush;
}

void drain_phone(const client_arguments& given) {
  gateway_client gateway(given.where);
  auto got = gateway.call("POST", path_to(given, "/drain"), {});
  if (given.wait) {
    wait_until_idle(given, gateway);
    if (!given.as_json) return tell(given, got, given.name + " is drained, and nothing runs on it");
    got.body["inflight"] = 0;
    got.text = dump_json(got.body);
  }
  const auto left = number_of(got.body, "inflight");
  tell(given, got,
       given.name + " is drained: it gets no new requests" +
           (left > 0 ? "; " + counted(left, "request") + " still running" : ""));
}

void undrain_phone(const client_arguments& given) {
  const auto got = gateway_client(given.where).call("POST", path_to(given, "/undrain"), {});
  const std::string why = text_of(got.body, "reason");
  tell(given, got,
       given.name + (why.empty() ? " gets requests again" : " is not drained any more, but: " + why));
}

void set_phone(const client_arguments& given) {
  json change = json::object();
  if (given.weight != 0) change["weight"] = given.weight;
  if (given.permits != 0) change["max_concurrency"] = given.permits;
  if (change.empty()) throw client_failure(exit_bad_file, "set: say what: --weight N, --permits N, or both");
  const auto got = gateway_client(given.where).call("PATCH", path_to(given), change);
  tell(given, got, given.name + ": " + as_it_is(got.body));
}

void add_phone(const client_arguments& given) {
  json entry{{"host", given.host}};
  if (given.port != 0) entry["port"] = given.port;
  if (given.weight != 0) entry["weight"] = given.weight;
  if (given.permits != 0) entry["max_concurrency"] = given.permits;
  if (!given.name.empty()) entry["name"] = given.name;
  if (!given.model.empty()) entry["model"] = given.model;
  if (!given.engine.empty()) entry["engine"] = given.engine;
  if (!given.id.empty()) entry["id"] = given.id;
  const auto got = gateway_client(given.where).call("POST", "/admin/phones", entry);
  tell(given, got,
       text_of(got.body, "name") + " (" + address_of(got.body) +
           ") is in the fleet, and gets requests when it has been looked at.\n"
           "Until the next start: \"pocketfleet save\" writes it into the file");
}

void remove_phone(const client_arguments& given) {
  const auto got = gateway_client(given.where).call("DELETE", path_to(given), {});
  const auto left = number_of(got.body, "inflight");
  std::string text = given.name + " is removed";
  if (left > 0) text += "; " + counted(left, "request") + " on it will be finished";
  if (const std::string remark = text_of(got.body, "remark"); !remark.empty()) text += "\nNote: " + remark;
  tell(given, got, text);
}

void steer_breaker(const client_arguments& given) {
  const json body{{"state", given.state}};
  const auto got = gateway_client(given.where).call("POST", path_to(given, "/breaker"), body);
  tell(given, got,
       given.state == "open" ? given.name + ": its breaker is open, until it is closed by hand"
                             : given.name + ": its breaker is closed");
}

void clear_cache(const client_arguments& given) {
  const auto got = gateway_client(given.where).call("DELETE", "/admin/cache", {});
  tell(given, got, counted(number_of(got.body, "removed"), "answer") + " forgotten");
}

void reload_file(const client_arguments& given) {
  const auto got = gateway_client(given.where).call("POST", "/admin/reload", {});
  std::string text = "the file is taken: " + counted(number_of(got.body, "phones"), "phone");
  if (got.body.value("needs_restart", json(false)) == true)
    text += ". A setting has changed that needs a restart";
  tell(given, got, text);
}

void save_file(const client_arguments& given) {
  const auto got = gateway_client(given.where).call("POST", "/admin/save", {});
  const bool written = got.body.value("written", json(false)) == true;
  tell(
      given, got,
      text_of(got.body, "file") + (written ? " is written: " + counted(number_of(got.body, "phones"), "phone")
                                           : " says all of it already"));
}

}  // namespace pocketfleet
