#include "group_file.hpp"

#include <filesystem>
#include <set>

#include "config_reader.hpp"
#include "host_text.hpp"

namespace pocketfleet {
namespace {

constexpr std::size_t most_workers = 64;
constexpr std::size_t most_words = 256;
constexpr std::size_t longest_word = 4096;

using member = group_member_config;
using member_make = make_setting<member>;
using group_make = make_setting<group_config>;

void read_text_of(std::string& into, const place& from) {
  const auto* text = from.value.get_ptr<const std::string*>();
  if (text == nullptr || text->empty() || text->size() > longest_word ||
      text->find('\0') != std::string::npos) {
    return from.refuse("text that is not empty");
  }
  into = *text;
}

void read_words(word_list& into, const place& from) {
  if (!from.value.is_array() || from.value.size() > most_words)
    return from.refuse(R"(a list of words, as ["-t", "4"])");
  for (std::size_t i = 0; i < from.value.size(); ++i) {
    std::string word;
    read_text_of(word, from.item(i));
    into.push_back(std::move(word));
  }
}

void read_environment(word_list& into, const place& from) {
  if (!from.value.is_object()) return from.refuse(R"(an object, as {"GGML_RPC_DEBUG": "1"})");
  for (const auto& [name, value] : from.value.get_ref<const json::object_t&>()) {
    if (!value.is_string() || name.empty() || name.find('=') != std::string::npos ||
        value.get_ref<const std::string&>().find('\0') != std::string::npos) {
      from.member(name).refuse("text");
    } else {
      into.push_back(name + "=" + value.get<std::string>());
    }
  }
}

void read_name(std::string& into, const place& from) {
  constexpr std::string_view letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
  const auto* text = from.value.get_ptr<const std::string*>();
  if (text == nullptr || text->empty() || text->size() > 64 || text->front() == '.' ||
      text->find_first_not_of(letters) != std::string::npos) {
    return from.refuse("1 to 64 letters, digits, '.', '_' or '-'");
  }
  into = *text;
}

void read_host(member& into, const place& from) {
  const auto* text = from.value.get_ptr<const std::string*>();
  if (text == nullptr || !is_ipv4(*text))
    return from.refuse("an IPv4 address of that machine, as \"192.168.1.51\": it is bound to it");
  into.host = *text;
}

void read_at(member& into, const place& from) {
  const auto* text = from.value.get_ptr<const std::string*>();
  const auto at = text == nullptr ? std::nullopt : parse_listen_address(*text);
  if (!at || at->port == 0 || !is_ipv4(at->address) || at->address == "0.0.0.0")
    return from.refuse(R"(where the master reaches it, as "127.0.0.1:50053")");
  into.at = join_host_port(at->address, at->port);
}

std::vector<setting<member>> member_table(bool worker) {
  const auto words = [](std::string_view key, word_list member::*field) {
    return setting<member>{key, [field](member& into, const place& from) { read_words(into.*field, from); },
                           nullptr};
  };
  std::vector<setting<member>> table{
      {"name", [](member& into, const place& from) { read_name(into.name, from); }, nullptr},
      {"host", read_host, nullptr},
      member_make::whole(
          "port", 1, 65535, [](auto& m) -> auto& { return m.port; }),
      {"program", [](member& into, const place& from) { read_text_of(into.program, from); }, nullptr},
      words("arguments", &member::arguments),
      {"environment", [](member& into, const place& from) { read_environment(into.environment, from); },
       nullptr},
      words("prefix", &member::prefix),
      words("ssh", &member::ssh),
      words("version", &member::version),
      member_make::flag(
          "on_all_addresses", [](auto& m) -> auto& { return m.on_all_addresses; }),
  };
  if (worker) table.push_back({"at", read_at, nullptr});
  return table;
}

/// Words that the rest of the file decides on; a second one would go before it.
void refuse_words(const member& m, const place& from, const std::set<std::string_view>& decided,
                  std::string_view by) {
  for (std::size_t i = 0; i < m.arguments.size(); ++i) {
    const std::string_view word = std::string_view(m.arguments[i]).substr(0, m.arguments[i].find('='));
    if (!decided.contains(word)) continue;
    from.mistakes.add(from.path_to("arguments") + "[" + std::to_string(i) + "]",
                      describe(json(m.arguments[i])), "no such word; " + std::string(by) + " say it");
  }
}

void check_member(member& m, const place& from, bool worker) {
  if (m.host.empty() && !from.value.contains("host"))
    from.mistakes.add(from.path_to("host"), "nothing", "an IPv4 address");
  if (m.host == "0.0.0.0" && !m.on_all_addresses) {
    from.mistakes.add(
        from.path_to("host"), describe(json(m.host)),
        std::string("one address of that machine; ") +
            (worker ? "whoever reaches rpc-server can write into its memory" : "anybody may ask it then") +
            R"(. If that is meant: "on_all_addresses": true)");
  }
  if (worker && m.host == "0.0.0.0" && m.at.empty())
    from.mistakes.add(from.path_to("at"), "nothing",
                      "where the master reaches it, as \"192.168.1.51:50052\"");
  if (!m.ssh.empty() && !m.prefix.empty())
    from.mistakes.add(from.path_to("prefix"), "beside ssh", "one of the two");
  if (worker) {
    refuse_words(m, from, {"-H", "--host", "-p", "--port"}, "\"host\" and \"port\"");
  } else {
    refuse_words(m, from,
                 {"-H", "--host", "--port", "-m", "--model", "--rpc", "-ts", "--tensor-split", "-ngl",
                  "--gpu-layers", "--n-gpu-layers", "-sm", "--split-mode", "--no-slots"},
                 "other keys of this file");
  }
}

member read_member(const place& from, bool worker, std::string name) {
  member m;
  m.name = std::move(name);
  m.port = worker ? 50052 : 8080;
  m.program = worker ? "ggml-rpc-server" : "llama-server";
  if (!from.value.is_object()) {
    from.refuse(R"(an object such as {"host": "192.168.1.51"})");
    return m;
  }
  read_object(m, from, member_table(worker));
  check_member(m, from, worker);
  return m;
}

void read_workers(group_config& into, const place& from) {
  if (!from.value.is_array() || from.value.empty() || from.value.size() > most_workers)
    return from.refuse("a list of 1 to 64 workers");
  std::set<std::string> names{"master"};
  std::set<std::string> ends;
  for (std::size_t i = 0; i < from.value.size(); ++i) {
    const place at = from.item(i);
    member m = read_member(at, true, "worker-" + std::to_string(i + 1));
    if (!names.insert(m.name).second)
      at.mistakes.add(at.path_to("name"), describe(json(m.name)), "a name of its own");
    // llama.cpp passes over a second one, and the split would go to others than was meant.
    if (!m.host.empty() && !ends.insert(m.endpoint()).second)
      at.mistakes.add(at.path, "the address " + m.endpoint(), "an address of its own");
    into.workers.push_back(std::move(m));
  }
}

void read_split(group_config& into, const place& from) {
  if (!from.value.is_array()) return from.refuse("layers for each worker, as [7, 6]");
  for (std::size_t i = 0; i < from.value.size(); ++i) {
    const auto n = as_whole(from.value[i]);
    if (!n || *n < 1 || *n > 4096) {
      from.item(i).refuse("a whole number from 1 to 4096");
    } else {
      into.tensor_split.push_back(static_cast<unsigned>(*n));
    }
  }
}

void read_status(group_config& into, const place& from) {
  const auto* text = from.value.get_ptr<const std::string*>();
  const auto at = text == nullptr ? std::nullopt : parse_listen_address(*text);
  if (!at) return from.refuse(std::string(listen_address_form));
  into.status = *at;
}

void read_replan(group_config& into, const place& from) {
  using make = make_setting<group_replan>;
  static const std::vector<setting<group_replan>> table{
      {"phones", [](group_replan& r, const place& at) { read_path(r.phones, at); }, nullptr},
      {"model", [](group_replan& r, const place& at) { read_path(r.model, at); }, nullptr},
      make::whole(
          "context", 1, 1U << 24U, [](auto& r) -> auto& { return r.context; }),
      make::whole(
          "batch", 1, 1U << 16U, [](auto& r) -> auto& { return r.batch; }),
      make::share(
          "budget_share", 1, [](auto& r) -> auto& { return r.share; }),
  };
  if (!from.value.is_object()) return from.refuse(R"(an object such as {"phones": "plan.json"})");
  read_object(into.replan, from, table);
  if (into.replan.phones.empty())
    from.mistakes.add(from.path_to("phones"), "nothing", "a file as for pocketfleet plan");
}

const std::vector<setting<group_config>>& group_table() {
  using g = group_config;
  static const std::vector<setting<g>> table{
      {"$schema", [](g&, const place&) {}, nullptr},
      {"name", [](g& into, const place& from) { read_name(into.name, from); }, nullptr},
      {"model", [](g& into, const place& from) { read_text_of(into.model, from); }, nullptr},
      {"master", [](g& into, const place& from) { into.master = read_member(from, false, "master"); },
       nullptr},
      {"workers", read_workers, nullptr},
      {"tensor_split", read_split, nullptr},
      group_make::whole(
          "ngl", 1, 65536, [](auto& v) -> auto& { return v.ngl; }),
      {"api_key_file", [](g& into, const place& from) { read_path(into.api_key_file, from); }, nullptr},
      {"log_folder", [](g& into, const place& from) { read_path(into.log_folder, from); }, nullptr},
      {"status", read_status, nullptr},
      {"replan", read_replan, nullptr},
      group_make::flag(
          "output_on_master", [](auto& v) -> auto& { return v.output_on_master; }),
      group_make::time(
          "look_s", 0.05, 60, [](auto& v) -> auto& { return v.interval; }),
      group_make::time(
          "listen_limit_s", 0.1, 3600, [](auto& v) -> auto& { return v.limits.listen; }),
      group_make::time(
          "ready_limit_s", 0.1, 86400, [](auto& v) -> auto& { return v.limits.ready; }),
      group_make::time(
          "stall_limit_s", 0.1, 3600, [](auto& v) -> auto& { return v.limits.stall; }),
      group_make::time(
          "frozen_limit_s", 0, 3600, [](auto& v) -> auto& { return v.limits.frozen; }),
      group_make::time(
          "grace_s", 0, 600, [](auto& v) -> auto& { return v.limits.grace; }),
      group_make::time(
          "first_pause_s", 0.1, 600, [](auto& v) -> auto& { return v.limits.first_pause; }),
      group_make::time(
          "longest_pause_s", 0.1, 3600, [](auto& v) -> auto& { return v.limits.longest_pause; }),
      group_make::time(
          "settled_s", 0.1, 3600, [](auto& v) -> auto& { return v.limits.settled; }),
      group_make::whole(
          "restarts", 0, 1000, [](auto& v) -> auto& { return v.limits.restarts; }),
  };
  return table;
}

void read_group(group_config& into, const place& from) {
  if (!from.value.is_object()) return from.refuse(R"(an object with "model", "master" and "workers")");
  read_object(into, from, group_table());
  for (const auto* key : {"model", "master", "workers", "tensor_split"}) {
    if (!from.value.contains(key)) from.mistakes.add(key, "nothing", "it is needed; see docs/groups.md");
  }
  if (from.value.contains("tensor_split") && from.value.contains("workers") &&
      into.tensor_split.size() != into.workers.size()) {
    from.mistakes.add("tensor_split", std::to_string(into.tensor_split.size()) + " numbers",
                      "one for each of the " + std::to_string(into.workers.size()) + " workers");
  }
  if (into.ngl == 0) {
    for (const unsigned n : into.tensor_split) into.ngl += n;
  }
  into.status.address = into.status.address.empty() ? "127.0.0.1" : into.status.address;
}

}  // namespace

std::string group_member_config::endpoint() const {
  return at.empty() ? join_host_port(host, port) : at;
}

loaded_group parse_group(std::string_view text) {
  loaded_group out;
  json document;
  if (auto none = json_mistake(text, document)) {
    out.mistakes.push_back(std::move(*none));
    return out;
  }
  mistake_list mistakes;
  read_group(out.value, {document, "", mistakes});
  out.mistakes = mistakes.take();
  return out;
}

loaded_group load_group(const std::string& file) {
  auto read = read_text(file);
  if (read.wrong) return {{}, {std::move(*read.wrong)}};
  loaded_group out = parse_group(read.text);
  const auto folder = std::filesystem::path(file).parent_path();
  auto& g = out.value;
  for (std::string* path : {&g.replan.phones, &g.replan.model}) {
    if (!path->empty()) *path = (folder / *path).string();
  }
  if (!g.log_folder.empty()) g.log_folder = (folder / g.log_folder).string();
  if (out.ok() && !g.api_key_file.empty()) {
    auto got = read_token((folder / g.api_key_file).string(), "api_key_file");
    if (got.wrong) out.mistakes.push_back(std::move(*got.wrong));
    g.api_key = std::move(got.token);
  }
  return out;
}

}  // namespace pocketfleet
