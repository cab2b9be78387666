#include "pocketfleet/service/registry.hpp"

#include <algorithm>
#include <boost/asio/ip/address.hpp>

#include "pocketfleet/core/membership.hpp"

namespace pocketfleet {
namespace {

constexpr std::uint16_t least_port = 1024;  // Android gives a program no other
constexpr seconds settled{30};  // two devices with one id would otherwise move it with each heartbeat

bool is_loopback(const std::string& address) {
  boost::system::error_code ec;
  const auto parsed = boost::asio::ip::make_address(address, ec);
  return !ec && parsed.is_loopback();
}

}  // namespace

void registry::configure(const registration_settings& settings, std::vector<phone_config> of_file) {
  const std::lock_guard lock(mutex_);
  settings_ = settings;
  take_file(std::move(of_file));
}

void registry::configure(std::vector<phone_config> of_file) {
  const std::lock_guard lock(mutex_);
  take_file(std::move(of_file));
}

void registry::take_file(std::vector<phone_config> of_file) {
  for (const auto& p : of_file) {
    const phone_config* before = p.id.empty() ? nullptr : this->of_file(p.id);
    if (before != nullptr && (before->host != p.host || before->port != p.port)) found_.erase(p.id);
  }
  file_ = std::move(of_file);
}

bool registry::change(std::string_view name, const phone_change& what) {
  const std::lock_guard lock(mutex_);
  for (auto& [id, f] : found_) {
    if (f.name != name || of_file(id) != nullptr) continue;
    if (what.weight) f.weight = *what.weight;
    if (what.max_concurrency) f.max_concurrency = *what.max_concurrency;
    return true;
  }
  return false;
}

bool registry::forget(const std::string& id) {
  const std::lock_guard lock(mutex_);
  return found_.erase(id) != 0;
}

void registry::restore(std::vector<phone_config> registered) {
  const std::lock_guard lock(mutex_);
  for (auto& p : registered) {
    if (found_.size() >= settings_.most) break;
    found_.insert_or_assign(p.id, found{p.name, p.engine, p.weight, p.max_concurrency, {p.host, p.port}, {}});
  }
}

bool registry::listens() const {
  const std::lock_guard lock(mutex_);
  return !settings_.token_sha256.empty() || has_token([](const std::string& t) { return !t.empty(); });
}

bool registry::lets_join() const {
  const std::lock_guard lock(mutex_);
  return settings_.mode == registration_mode::open;
}

bool registry::knows(const std::string& token_sha256) const {
  const std::lock_guard lock(mutex_);
  if (token_sha256.empty()) return false;
  return token_sha256 == settings_.token_sha256 ||
         has_token([&](const std::string& t) { return t == token_sha256; });
}

/// A phone of the file, or a member of its group.
template <class Is>
bool registry::has_token(Is is) const {
  return std::any_of(file_.begin(), file_.end(), [&](const phone_config& p) {
    const auto& members = p.group.members;
    return is(p.token_sha256) ||
           std::any_of(members.begin(), members.end(), [&](const auto& m) { return is(m.token_sha256); });
  });
}

const phone_config* registry::of_file(const std::string& id) const {
  const auto at = std::find_if(file_.begin(), file_.end(), [&](const auto& p) { return p.id == id; });
  return at == file_.end() ? nullptr : &*at;
}

/// Whether what has been found out about that phone counts.
bool registry::follows(const std::string& id) const {
  if (settings_.mode == registration_mode::off || !found_.contains(id)) return false;
  return settings_.mode == registration_mode::open || of_file(id) != nullptr;
}

registry::place registry::place_of(const phone_config& p) const {
  if (!p.id.empty() && follows(p.id)) return found_.at(p.id).at;
  return {p.host, p.port};
}

/// Where the phone is by what it says. Empty host: it does not say.
result<registry::place> registry::where(const heartbeat& h, const std::string& peer) const {
  if (h.tunnel_port) {
    if (*h.tunnel_port < settings_.first_tunnel_port || *h.tunnel_port > settings_.last_tunnel_port) {
      return error(errc::forbidden, "tunnel_port: expected one of the gateway's tunnel_ports, " +
                                        std::to_string(settings_.first_tunnel_port) + " to " +
                                        std::to_string(settings_.last_tunnel_port));
    }
    return place{"127.0.0.1", *h.tunnel_port};
  }
  if (h.port == 0) return place{};
  const bool home = settings_.from.contains(peer);
  if (!home && is_loopback(peer)) return place{};  // over USB: where its engine is, only the file can say
  if (!home) return error(errc::forbidden, "the address " + peer + " is in none of the phone_networks");
  if (h.port < least_port) return error(errc::forbidden, "engine.port: expected 1024 or more");
  return place{peer, h.port};
}

const phone_config* registry::group_with(const std::string& member_id) const {
  const auto has_it = [&](const auto& p) { return member_with(p, member_id) != nullptr; };
  const auto group = std::find_if(file_.begin(), file_.end(), has_it);
  return group == file_.end() ? nullptr : &*group;
}

/// The group that has a member there; null: none has.
const phone_config* registry::group_at(const place& at) const {
  const auto has_it = [&](const auto& p) { return member_at(p, at.host, at.port) != nullptr; };
  const auto group = std::find_if(file_.begin(), file_.end(), has_it);
  return group == file_.end() ? nullptr : &*group;
}

/// Another phone may have that address still: if it has an id, its address is stale, and it waits for its own
/// heartbeat; if not, the file's word stands.
result<void> registry::make_room(const place& at, const std::string& id) {
  if (const auto* group = group_at(at)) {
    return error(errc::forbidden, "the address " + address_text(at.host, at.port) + " is " +
                                      member_at(*group, at.host, at.port)->name +
                                      "'s, a member of the group " + group->name);
  }
  for (const auto& p : file_) {
    if (p.id == id || place_of(p) != at) continue;
    if (p.id.empty()) return error(errc::forbidden, "the phone " + p.name + " of the file has that address");
    found_.insert_or_assign(p.id, found{.name = p.name, .engine = p.engine});
  }
  for (auto& [other, f] : found_) {
    if (other != id && f.at == at) f.at = {};
  }
  return {};
}

std::string registry::free_name(const std::string& wish, const std::string& id) const {
  const auto free = [&](const std::string& name) {
    return std::none_of(file_.begin(), file_.end(), [&](const auto& p) { return p.name == name; }) &&
           std::none_of(found_.begin(), found_.end(),
                        [&](const auto& f) { return f.first != id && f.second.name == name; });
  };
  if (!wish.empty() && free(wish)) return wish;
  for (int i = 2; !wish.empty() && i < 100; ++i) {
    if (std::string name = wish + "-" + std::to_string(i); free(name)) return name;
  }
  return id;
}

result<registry::taken> registry::take(const heartbeat& h, const std::string& peer,
                                       const std::string& token_sha256, time_point now) {
  const std::lock_guard lock(mutex_);
  const phone_config* in_file = of_file(h.id);
  const phone_config* group = group_with(h.id);
  const std::string own = group != nullptr     ? member_with(*group, h.id)->token_sha256
                          : in_file != nullptr ? in_file->token_sha256
                                               : std::string{};
  const std::string& expected = own.empty() ? settings_.token_sha256 : own;
  if (expected.empty() || token_sha256 != expected)
    return error(errc::unauthorized, "the token is not this phone's");

  taken out;
  if (group != nullptr) {
    out.phone = group->name;
    return out;
  }
  const auto known = found_.find(h.id);
  const bool joins = in_file == nullptr && known == found_.end();
  if (in_file != nullptr)
    out.phone = in_file->name;
  else if (follows(h.id))
    out.phone = known->second.name;
  if (settings_.mode == registration_mode::off) return out;
  if (in_file == nullptr && settings_.mode == registration_mode::known) {
    out.remark = "this phone is not in the gateway's file, and registration is not open";
    return out;
  }

  const auto says = where(h, peer);
  if (!says) return says.error();
  if (says->host.empty()) {
    if (joins) out.remark = "the gateway cannot see where this phone's engine is";
    return out;
  }
  const place present = in_file != nullptr ? place_of(*in_file) : joins ? place{} : known->second.at;
  if (*says == present) return out;
  if (joins && found_.size() >= settings_.most) return error(errc::forbidden, "no more phones can join");
  const bool just_moved = known != found_.end() && !known->second.at.host.empty() &&
                          known->second.moved != time_point{} && now - known->second.moved < settled;
  if (just_moved) {
    out.remark = "it has moved within the last 30 s; is there another phone with this id?";
    return out;
  }
  if (auto room = make_room(*says, h.id); !room) return room.error();
  found& f = found_[h.id];
  if (f.name.empty()) f.name = in_file != nullptr ? in_file->name : free_name(h.name, h.id);
  if (h.engine != engine_kind::unknown) f.engine = h.engine;
  f.at = *says;
  f.moved = joins ? time_point{} : now;
  out.phone = in_file != nullptr ? in_file->name : f.name;
  out.joined = joins;
  out.moved = !joins;
  out.address = address_text(f.at.host, f.at.port);
  return out;
}

std::vector<phone_config> registry::fleet() const {
  const std::lock_guard lock(mutex_);
  std::vector<phone_config> out;
  for (const auto& p : file_) {
    const place at = place_of(p);
    if (at.host.empty() || group_at(at) != nullptr) continue;  // until it says where it is
    out.push_back(p);
    out.back().host = at.host;
    out.back().port = at.port;
  }
  if (settings_.mode != registration_mode::open) return out;
  for (const auto& [id, f] : found_) {
    if (f.at.host.empty() || of_file(id) != nullptr) continue;
    const bool taken_by_now = std::any_of(out.begin(), out.end(), [&](const auto& p) {
      return (p.host == f.at.host && p.port == f.at.port) || p.name == f.name;
    });
    if (taken_by_now || group_at(f.at) != nullptr || group_with(id) != nullptr)
      continue;  // the file has been changed since
    phone_config p;
    p.name = f.name;
    p.host = f.at.host;
    p.port = f.at.port;
    p.engine = f.engine;
    p.weight = f.weight;
    p.max_concurrency = f.max_concurrency;
    p.id = id;
    p.api_key = settings_.api_key;
    out.push_back(std::move(p));
  }
  return out;
}

std::vector<phone_config> registry::registered() const {
  const std::lock_guard lock(mutex_);
  std::vector<phone_config> out;
  for (const auto& [id, f] : found_) {
    if (f.at.host.empty()) continue;
    phone_config p;
    p.name = f.name;
    p.host = f.at.host;
    p.port = f.at.port;
    p.engine = f.engine;
    p.weight = f.weight;
    p.max_concurrency = f.max_concurrency;
    p.id = id;
    out.push_back(std::move(p));
  }
  return out;
}

}  // namespace pocketfleet
