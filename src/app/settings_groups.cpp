// A phone that is several: its "group" in phones.json.
#include <algorithm>
#include <map>
#include <set>

#include "host_text.hpp"
#include "pocketfleet/app/listen_address.hpp"
#include "pocketfleet/core/membership.hpp"
#include "settings_tables.hpp"

namespace pocketfleet {
namespace {

constexpr std::size_t most_members = 64;

using make = make_setting<group_member>;

void read_host(group_member& into, const place& from) {
  if (!from.value.is_string()) return from.refuse(check_host("").expected);
  auto checked = check_host(from.value.get_ref<const std::string&>());
  if (!checked.expected.empty()) return from.refuse(std::move(checked.expected));
  into.host = std::move(checked.host);
}

const std::vector<setting<group_member>>& member_table() {
  static const std::vector<setting<group_member>> table{
      {"name",
       [](group_member& into, const place& from) {
         if (!from.value.is_string() || !is_plain_name(from.value.get_ref<const std::string&>(), 64))
           return from.refuse("the name that the group's own file gives it");
         into.name = from.value.get<std::string>();
       },
       nullptr},
      {"host", read_host, nullptr},
      make::whole(
          "port", 1, 65535, [](auto& m) -> auto& { return m.port; }),
      {"id", [](group_member& into, const place& from) { read_id(into.id, from); }, nullptr},
      {"token_sha256",
       [](group_member& into, const place& from) { read_token_digest(into.token_sha256, from); }, nullptr},
  };
  return table;
}

void read_members(phone_group& into, const place& from) {
  if (!from.value.is_array() || from.value.empty() || from.value.size() > most_members)
    return from.refuse(R"(1 to 64 workers, as [{"name": "galaxy", "host": "192.168.1.51"}])");
  std::set<std::string> names;
  for (std::size_t i = 0; i < from.value.size(); ++i) {
    const place at = from.item(i);
    group_member m;
    m.port = 50052;
    if (!at.value.is_object()) {
      at.refuse(R"(an object such as {"name": "galaxy", "host": "192.168.1.51"})");
      continue;
    }
    read_object(m, at, member_table());
    if (!at.value.contains("host")) at.mistakes.add(at.path_to("host"), "nothing", check_host("").expected);
    if (m.id.empty() && !m.token_sha256.empty())
      at.mistakes.add(at.path_to("token_sha256"), "no id", "\"id\" beside it: whose token it is");
    if (m.name.empty()) m.name = join_host_port(m.host, m.port);
    if (!names.insert(m.name).second)
      at.mistakes.add(at.path_to("name"), describe(json(m.name)), "a name of its own");
    into.members.push_back(std::move(m));
  }
}

void read_status(phone_group& into, const place& from) {
  const auto* text = from.value.get_ptr<const std::string*>();
  const std::string expected = R"(where "pocketfleet group" tells its status, as "http://127.0.0.1:50100")";
  constexpr std::string_view scheme = "http://";
  if (text == nullptr || !text->starts_with(scheme)) return from.refuse(expected);
  std::string rest = text->substr(scheme.size());
  if (rest.ends_with('/')) rest.pop_back();
  const auto at = parse_listen_address(rest);
  if (!at || at->port == 0 || !is_ipv4(at->address)) return from.refuse(expected);
  into.status_host = at->address;
  into.status_port = at->port;
}

void read_stand_in(phone_group& into, const place& from) {
  if (!from.value.is_string() || !is_plain_name(from.value.get_ref<const std::string&>(), 256))
    return from.refuse(R"(the name of a model that other phones have, as "qwen2.5:1.5b")");
  into.stand_in = from.value.get<std::string>();
}

}  // namespace

void read_group(phone_config& into, const place& from) {
  static const std::vector<setting<phone_group>> table{
      {"members", read_members, nullptr},
      {"status", read_status, nullptr},
      {"stand_in", read_stand_in, nullptr},
  };
  if (!from.value.is_object())
    return from.refuse(R"(an object such as {"members": [{"host": "192.168.1.51"}]})");
  read_object(into.group, from, table);
  if (!from.value.contains("members"))
    from.mistakes.add(from.path_to("members"), "nothing", "the workers of the group");
}

void check_own_members(const phone_config& phone, const place& from) {
  const auto& members = phone.group.members;
  for (std::size_t m = 0; m < members.size(); ++m) {
    const auto refuse = [&](const std::string& who) {
      from.mistakes.add(from.path_to("group") + ".members[" + std::to_string(m) + "]",
                        "the address " + join_host_port(members[m].host, members[m].port),
                        "one of its own; " + who + " has it");
    };
    if (member_at(phone, phone.host, phone.port) == &members[m]) refuse("the group's master");
    const std::string& id = members[m].id;
    const bool twice =
        id == phone.id || std::any_of(members.begin(), members.begin() + static_cast<std::ptrdiff_t>(m),
                                      [&](const auto& before) { return before.id == id; });
    if (!id.empty() && twice)
      from.mistakes.add(from.path_to("group") + ".members[" + std::to_string(m) + "].id", describe(json(id)),
                        "an id of its own");
    for (std::size_t before = 0; before < m; ++before) {
      if (members[m].port != members[before].port || !same_host(members[m].host, members[before].host))
        continue;
      refuse("members[" + std::to_string(before) + "]");
      break;
    }
  }
}

void check_groups(const place& phones, const std::vector<phone_config>& read,
                  const std::vector<std::size_t>& at) {
  const auto address_of = [](std::string host, unsigned port) {
    for (char& c : host) {
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    return join_host_port(host, port);
  };
  struct owner {
    std::size_t phone;
    std::string path;
  };
  std::map<std::string, owner> taken;
  for (std::size_t i = 0; i < read.size(); ++i)
    taken.try_emplace(address_of(read[i].host, read[i].port), owner{i, phones.item(at[i]).path});
  for (std::size_t i = 0; i < read.size(); ++i) {
    const auto& members = read[i].group.members;
    for (std::size_t m = 0; m < members.size(); ++m) {
      const std::string address = address_of(members[m].host, members[m].port);
      const std::string path = phones.item(at[i]).path + ".group.members[" + std::to_string(m) + "]";
      const auto [first, fresh] = taken.try_emplace(address, owner{i, path});
      if (fresh || first->second.phone == i) continue;  // check_own_members() has the latter
      phones.mistakes.add(path, "the address " + address,
                          "one that is in this group only; " + first->second.path + " has it");
    }
  }
}

}  // namespace pocketfleet
