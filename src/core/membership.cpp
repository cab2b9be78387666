#include "pocketfleet/core/membership.hpp"

#include <algorithm>

namespace pocketfleet {
namespace {

bool is_at(const phone_config& p, const group_member& m) {
  return p.port == m.port && same_host(p.host, m.host);
}

}  // namespace

bool same_host(std::string_view one, std::string_view other) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::equal(one.begin(), one.end(), other.begin(), other.end(),
                    [&](char a, char b) { return lower(a) == lower(b); });
}

std::string address_text(std::string_view host, std::uint16_t port) {
  const bool ipv6 = host.find(':') != std::string_view::npos;
  std::string out(ipv6 ? "[" : "");
  return out.append(host).append(ipv6 ? "]:" : ":").append(std::to_string(port));
}

const group_member* member_at(const phone_config& phone, std::string_view host, std::uint16_t port) {
  for (const auto& m : phone.group.members) {
    if (m.port == port && same_host(m.host, host)) return &m;
  }
  return nullptr;
}

const group_member* member_with(const phone_config& phone, std::string_view id) {
  for (const auto& m : phone.group.members) {
    if (!id.empty() && m.id == id) return &m;
  }
  return nullptr;
}

std::string in_both(const phone_config& one, const phone_config& other) {
  if (const auto* m = member_at(other, one.host, one.port)) {
    return "the address " + address_text(m->host, m->port) + " is " + m->name + "'s, a member of the group " +
           other.name;
  }
  if (const auto* m = member_with(other, one.id))
    return "the id " + m->id + " is " + m->name + "'s, a member of the group " + other.name;
  for (const auto& m : one.group.members) {
    if (!m.id.empty() && (m.id == other.id || member_with(other, m.id) != nullptr)) {
      const auto* there = member_with(other, m.id);
      return "the id " + m.id + " of its member " + m.name + " is " +
             (there != nullptr ? there->name + "'s, a member of the group " + other.name : other.name + "'s");
    }
    const std::string its = "the address " + address_text(m.host, m.port) + " of its member " + m.name;
    if (is_at(other, m)) return its + " is " + other.name + "'s";
    if (const auto* there = member_at(other, m.host, m.port))
      return its + " is " + there->name + "'s, a member of the group " + other.name;
  }
  return {};
}

}  // namespace pocketfleet
