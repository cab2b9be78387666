#include <unordered_map>

#include "host_text.hpp"
#include "pocketfleet/core/model_name.hpp"
#include "pocketfleet/wire/heartbeat.hpp"
#include "settings_tables.hpp"

namespace pocketfleet {
namespace {

using make = make_setting<phone_config>;

void read_host(phone_config& into, const place& from) {
  if (!from.value.is_string()) return from.refuse(check_host("").expected);
  const auto& text = from.value.get_ref<const std::string&>();
  auto checked = check_host(text);
  const bool has_user = text.find('@') != std::string::npos;  // and maybe a password
  if (!checked.expected.empty() && has_user) return from.refuse_unseen(std::move(checked.expected));
  if (!checked.expected.empty()) return from.refuse(std::move(checked.expected));
  into.host = std::move(checked.host);
}

void read_name(phone_config& into, const place& from) {
  if (!from.value.is_string() || !is_plain_name(from.value.get_ref<const std::string&>(), 64)) {
    return from.refuse(
        "1 to 64 printable ASCII characters, no quotation mark or backslash, no space at either end");
  }
  into.name = from.value.get<std::string>();
}

constexpr std::size_t longest_model = 256;
constexpr std::size_t most_aliases = 64;

void read_model_name(std::string& into, const place& from) {
  if (!from.value.is_string() || !is_plain_name(from.value.get_ref<const std::string&>(), longest_model)) {
    return from.refuse(
        R"(the model's name as the phone spells it, as "qwen2.5:1.5b", at most 256 characters)");
  }
  into = from.value.get<std::string>();
}

void read_aliases(phone_config& into, const place& from) {
  if (!from.value.is_object() || from.value.size() > most_aliases)
    return from.refuse(R"(an object of at most 64 names, as {"small": "qwen2.5:1.5b"})");
  for (const auto& [name, unused] : from.value.get_ref<const json::object_t&>()) {
    const place at = from.member(name);
    if (!is_plain_name(name, longest_model)) {
      from.mistakes.add(at.path, "that name", R"(1 to 256 printable ASCII characters as a name, as "small")");
      continue;
    }
    const std::string normalized = normalized_model(name);
    const auto same = std::find_if(into.aliases.begin(), into.aliases.end(), [&](const model_alias& a) {
      return normalized_model(a.name) == normalized;
    });
    if (same != into.aliases.end()) {
      from.mistakes.add(at.path, "the name " + describe(json(name)),
                        "a name of its own; " + from.path_to(same->name) + " is the same");
      continue;
    }
    model_alias alias{name, {}};
    read_model_name(alias.behind, at);
    into.aliases.push_back(std::move(alias));
  }
}

void read_serial(phone_config& into, const place& from) {
  // It ends up as an argument of adb.
  constexpr std::string_view allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-";
  const auto* text = from.value.get_ptr<const std::string*>();
  if (text == nullptr || text->empty() || text->size() > 64 || text->front() == '-' ||
      text->find_first_not_of(allowed) != std::string::npos) {
    return from.refuse(R"(a serial number as "adb devices" prints it)");
  }
  into.serial = *text;
}

std::string lower(std::string text) {
  for (auto& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

}  // namespace

void read_id(std::string& into, const place& from) {
  if (!from.value.is_string() || !is_phone_id(from.value.get_ref<const std::string&>()))
    return from.refuse("1 to 64 letters, digits, '.', '_' or '-'");
  into = from.value.get<std::string>();
}

void read_token_digest(std::string& into, const place& from) {
  const auto* text = from.value.get_ptr<const std::string*>();
  if (text == nullptr || text->size() != 64 ||
      text->find_first_not_of("0123456789abcdef") != std::string::npos) {
    return from.refuse_unseen("the token's SHA-256, 64 lower-case hexadecimal digits");
  }
  into = *text;
}

const std::vector<setting<phone_config>>& phone_table() {
  static const std::vector<setting<phone_config>> table{
      {"host", read_host, nullptr},
      make::whole(
          "port", 1, 65535, [](auto& p) -> auto& { return p.port; }),
      {"model", [](phone_config& into, const place& from) { read_model_name(into.model, from); }, nullptr},
      {"aliases", read_aliases, nullptr},
      make::whole(
          "weight", 1, 1000, [](auto& p) -> auto& { return p.weight; }),
      make::whole(
          "max_concurrency", 1, 64, [](auto& p) -> auto& { return p.max_concurrency; }),
      {"group", read_group, nullptr},
      {"serial", read_serial, nullptr},
      {"name", read_name, nullptr},
      {"id", [](phone_config& into, const place& from) { read_id(into.id, from); }, nullptr},
      {"token_sha256",
       [](phone_config& into, const place& from) { read_token_digest(into.token_sha256, from); }, nullptr},
      make::flag(
          "tls", [](auto& p) -> auto& { return p.tls; }),
      {"api_key_file", [](phone_config& into, const place& from) { read_path(into.api_key_file, from); },
       nullptr},
      make::choice<engine_kind>(
          "engine",
          {{"ollama", engine_kind::ollama},
           {"llama-server", engine_kind::llama_server},
           {"auto", engine_kind::unknown}},
          [](auto& p) -> auto& { return p.engine; }),
  };
  return table;
}

phone_config read_phone(const place& from) {
  phone_config phone;
  if (!from.value.is_object()) {
    from.refuse(R"(an object such as {"host": "192.168.1.50"})");
    return phone;
  }
  read_object(phone, from, phone_table());
  if (!from.value.contains("host"))
    from.mistakes.add(from.path_to("host"), "nothing", check_host("").expected);
  if (phone.id.empty() && !phone.token_sha256.empty())
    from.mistakes.add(from.path_to("token_sha256"), "no id", "\"id\" beside it: whose token it is");
  if (!phone.group.members.empty()) {
    if (phone.engine == engine_kind::ollama) {
      from.mistakes.add(from.path_to("engine"), R"("ollama" (a string))",
                        "\"llama-server\" or nothing: a group has that engine");
    }
    phone.engine = engine_kind::llama_server;
    check_own_members(phone, from);
  }
  if (phone.name.empty() && !phone.host.empty()) phone.name = join_host_port(phone.host, phone.port);
  return phone;
}

std::vector<phone_config> read_phones(const place& from, bool others_may_join) {
  if (!from.value.is_array() || (from.value.empty() && !others_may_join)) {
    from.refuse("an array with at least one phone");
    return {};
  }
  std::vector<phone_config> phones;
  std::unordered_map<std::string, std::string> addresses;  // to the path of the phone that has it
  std::unordered_map<std::string, std::string> names;
  std::unordered_map<std::string, std::size_t> ids;  // to the phone that has it, or whose member
  std::vector<std::size_t> at_index;
  for (std::size_t i = 0; i < from.value.size(); ++i) {
    const auto at = from.item(i);
    phone_config phone = read_phone(at);
    if (!at.value.is_object()) continue;

    bool second = false;  // at its address
    if (!phone.host.empty()) {
      const auto address = join_host_port(phone.host, phone.port);
      const auto [first, fresh] = addresses.try_emplace(lower(address), at.path);
      second = !fresh;
      if (second) {
        at.mistakes.add(at.path, "the address " + address,
                        "an address of its own; " + first->second + " has this one");
      }
    }
    if (!phone.name.empty() && !(second && !at.value.contains("name"))) {
      const auto [first, fresh] = names.try_emplace(phone.name, at.path);
      if (!fresh) {
        at.mistakes.add(at.path_to("name"), describe(json(phone.name)),
                        "a name of its own; " + first->second + " has this one");
      }
    }
    const auto has_id = [&](const std::string& id, const std::string& path) {
      const auto [first, fresh] = ids.try_emplace(id, i);
      if (id.empty() || first->second == i) return;  // check_own_members() has the latter
      at.mistakes.add(path + ".id", describe(json(id)),
                      "an id of its own; " + from.item(first->second).path + " has this one");
    };
    has_id(phone.id, at.path);
    for (std::size_t m = 0; m < phone.group.members.size(); ++m)
      has_id(phone.group.members[m].id, at.path_to("group") + ".members[" + std::to_string(m) + "]");
    phones.push_back(std::move(phone));
    at_index.push_back(i);
  }
  check_groups(from, phones, at_index);
  return phones;
}

}  // namespace pocketfleet
