#include "plan_phones.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <sstream>

#include "config_reader.hpp"
#include "host_text.hpp"
#include "settings_tables.hpp"

namespace pocketfleet {
namespace {

constexpr double mib = 1048576;
constexpr std::size_t most_phones = 256;

// A Wi-Fi of which nothing is known.
constexpr double usual_rtt_ms = 5;
constexpr double usual_mbit = 50;
constexpr unsigned usual_threads = 4;

using make = make_setting<plan_phone>;
using table = std::vector<setting<plan_phone>>;

template <class At>
setting<plan_phone> amount(std::string_view key, double least, double most, At at) {
  return {key,
          [=](plan_phone& into, const place& from) {
            const double v = from.value.is_number() ? from.value.get<double>() : -1;
            if (!(v >= least && v <= most)) {
              return from.refuse("a number from " + number(least).dump() + " to " + number(most).dump());
            }
            at(into) = v;
          },
          nullptr};
}

void read_name(plan_phone& into, const place& from) {
  if (!from.value.is_string() || !is_plain_name(from.value.get_ref<const std::string&>(), 64)) {
    return from.refuse(
        "1 to 64 printable ASCII characters, no quotation mark or backslash, no space at either end");
  }
  into.name = from.value.get<std::string>();
}

/// It is bound to, so it has to be one address of the phone's own.
void read_host(plan_phone& into, const place& from) {
  const auto* text = from.value.get_ptr<const std::string*>();
  const std::string expected = "the phone's own IPv4 address, as \"192.168.1.51\": rpc-server is bound to it";
  if (text == nullptr || !is_ipv4(*text)) return from.refuse(expected);
  if (*text == "0.0.0.0" || *text == "255.255.255.255") return from.refuse(expected + ", never to all");
  into.host = *text;
}

void read_soc(plan_phone& into, const place& from) {
  const auto* text = from.value.get_ptr<const std::string*>();
  std::vector<std::string_view> names;
  for (const auto& c : soc_classes()) {
    names.push_back(c.name);
    if (text != nullptr && *text == c.name) into.soc = *text;
  }
  if (into.soc.empty()) from.refuse(one_of(names) + "; for others \"gb_per_s\" or \"tokens_per_s\"");
}

void read_role(plan_phone& into, const place& from) {
  const bool any = from.value == json("any");
  into.may_master = any || from.value == json("master");
  into.may_work = any || from.value == json("worker");
  if (!into.may_master && !into.may_work) from.refuse(R"(one of "any", "master" or "worker")");
}

/// Goes into commands as one word.
void read_word(std::string& into, const place& from) {
  constexpr std::string_view allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._@-";
  const auto* text = from.value.get_ptr<const std::string*>();
  if (text == nullptr || text->empty() || text->size() > 256 || text->front() == '-' ||
      text->find_first_not_of(allowed) != std::string::npos) {
    return from.refuse("USER@HOST or HOST, as ssh takes it");
  }
  into = *text;
}

void read_model_path(std::string& into, const place& from) {
  const auto* text = from.value.get_ptr<const std::string*>();
  const auto plain = [](char c) { return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f; };
  if (text == nullptr || text->empty() || text->size() > 4096 || text->front() == '-' ||
      !std::all_of(text->begin(), text->end(), plain)) {
    return from.refuse("the path of the model's file on that phone");
  }
  into = *text;
}

const table& link_table() {
  static const table t{
      amount(
          "rtt_ms", 0, 60'000, [](auto& p) -> auto& { return p.rtt_ms; }),
      amount(
          "up_mbit", 0.001, 1e6, [](auto& p) -> auto& { return p.up_mbit; }),
      amount(
          "down_mbit", 0.001, 1e6, [](auto& p) -> auto& { return p.down_mbit; }),
  };
  return t;
}

void read_link(plan_phone& into, const place& from) {
  if (!from.value.is_object()) {
    return from.refuse(R"(an object, as {"rtt_ms": 5, "up_mbit": 50, "down_mbit": 50})");
  }
  read_object(into, from, link_table());
  into.has_link = true;
}

const table& phone_keys() {
  static const table t{
      {"name", read_name, nullptr},
      {"host", read_host, nullptr},
      make::whole(
          "ram_mb", 1, 1U << 30U, [](auto& p) -> auto& { return p.ram_mb; }),
      make::whole(
          "free_mb", 1, 1U << 30U, [](auto& p) -> auto& { return p.free_mb; }),
      {"soc", read_soc, nullptr},
      amount(
          "gb_per_s", 0.001, 10'000, [](auto& p) -> auto& { return p.gb_s; }),
      amount(
          "ms_per_layer", 0.000001, 1e6, [](auto& p) -> auto& { return p.layer_ms; }),
      amount(
          "tokens_per_s", 0.001, 1e6, [](auto& p) -> auto& { return p.tokens_s; }),
      make::whole(
          "of_model_mb", 1, 1U << 30U, [](auto& p) -> auto& { return p.of_model_mb; }),
      {"link", read_link, nullptr},
      make::flag(
          "accepts_connections", [](auto& p) -> auto& { return p.accepts; }),
      {"role", read_role, nullptr},
      make::whole(
          "threads", 1, 256, [](auto& p) -> auto& { return p.threads; }),
      make::whole(
          "rpc_port", 1, 65535, [](auto& p) -> auto& { return p.rpc_port; }),
      make::whole(
          "http_port", 1, 65535, [](auto& p) -> auto& { return p.http_port; }),
      {"ssh", [](plan_phone& p, const place& from) { read_word(p.ssh, from); }, nullptr},
      make::whole(
          "ssh_port", 1, 65535, [](auto& p) -> auto& { return p.ssh_port; }),
      {"model_path", [](plan_phone& p, const place& from) { read_model_path(p.model_path, from); }, nullptr},
  };
  return t;
}

/// With those of phones.json, which mean nothing here: a file may be both.
const table& known_keys() {
  static const table t = [] {
    table out = phone_keys();
    for (const auto& other : phone_table()) {
      const auto same = [&](const setting<plan_phone>& s) { return s.key == other.key; };
      if (std::none_of(out.begin(), out.end(), same)) {
        out.push_back({other.key, [](plan_phone&, const place&) {}, nullptr});
      }
    }
    return out;
  }();
  return t;
}

void check_speed(const plan_phone& p, const place& from) {
  const int ways =
      (p.soc.empty() ? 0 : 1) + (p.gb_s > 0 ? 1 : 0) + (p.layer_ms > 0 ? 1 : 0) + (p.tokens_s > 0 ? 1 : 0);
  const std::string expected = R"(one of "soc", "gb_per_s", "ms_per_layer" or "tokens_per_s")";
  // A measured speed stands above that of its class, which then still says how many threads.
  if (ways - (p.soc.empty() ? 0 : 1) > 1) from.mistakes.add(from.path, "two speeds", expected);
  if (ways == 0 && p.may_work) {
    from.mistakes.add(from.path, "no speed",
                      expected + R"(; without one it can only be the master: "role": "master")");
  }
  if ((p.tokens_s > 0) != (p.of_model_mb > 0)) {
    from.mistakes.add(from.path, p.tokens_s > 0 ? "\"tokens_per_s\" alone" : "\"of_model_mb\" alone",
                      R"(both "tokens_per_s" and "of_model_mb", the size of the model's file)");
  }
}

plan_phone read_plan_phone(const place& from) {
  plan_phone out;
  if (!from.value.is_object()) {
    from.refuse(R"(an object such as {"host": "192.168.1.51", "ram_mb": 7500, "soc": "mid-range"})");
    return out;
  }
  const auto before = from.mistakes.size();
  read_object(out, from, known_keys());
  for (const char* key : {"host", "ram_mb"}) {
    if (!from.value.contains(key)) from.mistakes.add(from.path_to(key), "nothing", "one, for every phone");
  }
  if (from.mistakes.size() == before) check_speed(out, from);
  if (out.name.empty()) out.name = out.host;
  if (!out.has_link || out.up_mbit == 0) out.up_mbit = usual_mbit;
  if (!out.has_link || out.down_mbit == 0) out.down_mbit = usual_mbit;
  if (!out.has_link) out.rtt_ms = usual_rtt_ms;
  return out;
}

void refuse_twins(const std::vector<plan_phone>& phones, const place& list) {
  std::map<std::string, std::size_t> names;
  std::map<std::string, std::size_t> places;
  for (std::size_t i = 0; i < phones.size(); ++i) {
    const place at = list.item(i);
    const auto& p = phones[i];
    if (const auto [other, fresh] = names.emplace(p.name, i); !fresh) {
      at.mistakes.add(at.path_to("name"), describe(json(p.name)),
                      "another name than that of phones[" + std::to_string(other->second) + "]");
    }
    const std::string where = p.host + ":" + std::to_string(p.rpc_port);
    if (const auto [other, fresh] = places.emplace(where, i); !fresh) {
      at.mistakes.add(at.path, "the same host and RPC port as phones[" + std::to_string(other->second) + "]",
                      "each server once: llama.cpp drops the second silently, and all shares shift");
    }
  }
}

void read_list(loaded_plan_phones& into, const place& list) {
  if (!list.value.is_array() || list.value.empty() || list.value.size() > most_phones) {
    return list.refuse("a list of 1 to " + std::to_string(most_phones) + " phones");
  }
  for (std::size_t i = 0; i < list.value.size(); ++i) into.phones.push_back(read_plan_phone(list.item(i)));
  if (list.mistakes.size() == 0) refuse_twins(into.phones, list);
}

void read_document(loaded_plan_phones& into, const json& document, mistake_list& mistakes) {
  if (document.is_array()) return read_list(into, {document, "phones", mistakes});
  const place whole{document, "", mistakes};
  if (!document.is_object() || !document.contains("phones")) {
    return whole.refuse(R"(a list of phones, or an object with "phones")");
  }
  for (const auto& [key, unused] : document.get_ref<const json::object_t&>()) {
    if (key != "phones" && key != "gateway" && key != "$schema") {
      refuse_unknown_key(whole, key, {"phones", "gateway"});
    }
  }
  read_list(into, whole.member("phones"));
}

const soc_class* class_of(const plan_phone& p) {
  const auto& all = soc_classes();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const soc_class& c) { return c.name == p.soc; });
  return found == all.end() ? nullptr : &*found;
}

}  // namespace

const std::vector<soc_class>& soc_classes() {
  static const std::vector<soc_class> all{
      {"snapdragon-8-elite", 25, 6, "taken as the 8 Gen 3: the measurements name no model"},
      {"snapdragon-8-gen-3", 25, 5, "Llama-2-7B in 4 bits, 3.8 GB, 6.6 tokens/s (T-MAC #32)"},
      {"snapdragon-8-gen-2", 20, 5, "Qwen3.5-2B Q4_K_M, 1.28 GB, 15.5 tokens/s (llama.cpp #26957)"},
      {"tensor-g3", 11, 4, "Qwen2.5-1.5B Q4_K_M, 1.12 GB, 8 to 12 tokens/s (SKaiNET #1195)"},
      {"tensor-g1", 9, 4, "a 2B in 4 bits, 1.3 GB, 6.8 tokens/s (elizaOS #11734)"},
      {"mid-range", 5.5, 4,
       "Llama-3.2-1B in 4 bits, 0.8 GB, about 7 tokens/s on a Redmi Note (ChatterUI #127)"},
      {"snapdragon-845", 2, 4, "Llama-3.2-1B in 4 bits, 0.8 GB, 2.4 tokens/s on a OnePlus 6"},
  };
  return all;
}

unsigned plan_phone::threads_used() const {
  if (threads != 0) return threads;
  const auto* of = class_of(*this);
  return of != nullptr ? of->threads : usual_threads;
}

bool plan_phone::speed_known() const {
  return gb_s > 0 || layer_ms > 0 || tokens_s > 0 || class_of(*this) != nullptr;
}

std::string plan_phone::speed_text() const {
  std::ostringstream out;
  if (gb_s > 0) {
    out << "as given";
  } else if (layer_ms > 0) {
    out << layer_ms << " ms a layer, as given";
  } else if (tokens_s > 0) {
    out << tokens_s << " tokens/s of a model of " << of_model_mb << " MB, as given";
  } else if (const auto* of = class_of(*this)) {
    out << of->name << ": " << of->source;
  } else {
    out << "not known";
  }
  return out.str();
}

loaded_plan_phones parse_plan_phones(std::string_view text) {
  loaded_plan_phones out;
  json document;
  if (auto none = json_mistake(text, document)) {
    out.mistakes.push_back(std::move(*none));
    return out;
  }
  mistake_list mistakes;
  read_document(out, document, mistakes);
  out.mistakes = mistakes.take();
  if (!out.mistakes.empty()) out.phones.clear();
  return out;
}

loaded_plan_phones load_plan_phones(const std::string& file) {
  auto read = read_text(file);
  if (read.wrong) return {{}, {std::move(*read.wrong)}};
  return parse_plan_phones(read.text);
}

plan_device as_device(const plan_phone& phone, const model_shape& model) {
  plan_device out;
  out.name = phone.name;
  out.ram_bytes = static_cast<std::uint64_t>(static_cast<double>(phone.ram_mb) * mib);
  if (phone.free_mb > 0)
    out.free_bytes = static_cast<std::uint64_t>(static_cast<double>(phone.free_mb) * mib);
  if (phone.gb_s > 0) {
    out.bytes_s = phone.gb_s * 1e9;
  } else if (phone.layer_ms > 0) {
    const double layers = static_cast<double>(model.read_bytes() - model.output.bytes);
    out.bytes_s = layers / static_cast<double>(model.layers.size()) / phone.layer_ms * 1000;
  } else if (phone.tokens_s > 0) {
    out.bytes_s = phone.tokens_s * static_cast<double>(phone.of_model_mb) * mib;
  } else if (const auto* of = class_of(phone)) {
    out.bytes_s = of->gb_s * 1e9;
  }
  out.link = {phone.rtt_ms / 1000, phone.up_mbit * 1e6 / 8, phone.down_mbit * 1e6 / 8};
  out.accepts = phone.accepts;
  out.may_master = phone.may_master;
  out.may_work = phone.may_work;
  return out;
}

}  // namespace pocketfleet
