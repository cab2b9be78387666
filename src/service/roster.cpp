#include "pocketfleet/service/roster.hpp"

#include <algorithm>

#include "pocketfleet/core/membership.hpp"

namespace pocketfleet {
namespace {

bool same_address(const phone_config& a, const phone_config& b) {
  return a.port == b.port && same_host(a.host, b.host);
}

bool same_id(const phone_config& a, const phone_config& b) {
  return !a.id.empty() && a.id == b.id;
}

/// As the dispatcher knows a phone again.
bool same_phone(const phone_config& a, const phone_config& b) {
  return same_id(a, b) || (same_address(a, b) && (a.id.empty() || b.id.empty()));
}

/// What the file says of it; the key is in a file of its own, and by hand more is asked of an address.
bool same_entry(phone_config a, const phone_config& b) {
  a.api_key = b.api_key;
  a.confined = b.confined;
  return a == b;
}

auto named(std::string_view name) {
  return [name](const roster::entry& e) { return !e.removed && e.now.name == name; };
}

/// What the two cannot both have; empty if they go together.
std::string in_the_way(const phone_config& p, const phone_config& of) {
  if (p.name == of.name) return "the name \"" + p.name + "\" is taken";
  if (same_address(p, of)) return "the address " + address_text(p.host, p.port) + " is " + of.name + "'s";
  if (same_id(p, of)) return "the id " + p.id + " is " + of.name + "'s";
  return in_both(p, of);
}

}  // namespace

void roster::take_file(std::vector<phone_config> phones) {
  const std::lock_guard lock(mutex_);
  std::vector<entry> next;
  for (phone_config& p : phones) {
    entry e{p, p, {}, false};
    const auto before = std::find_if(entries_.begin(), entries_.end(),
                                     [&](const entry& b) { return b.said && same_phone(*b.said, p); });
    if (before != entries_.end()) {
      if (p.weight == before->said->weight) e.now.weight = before->now.weight;
      if (p.max_concurrency == before->said->max_concurrency)
        e.now.max_concurrency = before->now.max_concurrency;
      e.removed = before->removed && same_entry(p, *before->said);
    }
    next.push_back(std::move(e));
  }
  const auto file_end = static_cast<std::ptrdiff_t>(next.size());
  for (entry& added : entries_) {
    if (added.said) continue;
    const bool replaced = std::any_of(next.begin(), next.begin() + file_end, [&](const entry& e) {
      return !e.removed && !in_the_way(added.now, e.now).empty();
    });
    if (!replaced) next.push_back(std::move(added));
  }
  entries_ = std::move(next);
}

std::vector<phone_config> roster::phones() const {
  const std::lock_guard lock(mutex_);
  return present();
}

std::vector<roster::entry> roster::entries() const {
  const std::lock_guard lock(mutex_);
  return entries_;
}

std::vector<phone_config> roster::present() const {
  std::vector<phone_config> out;
  for (const entry& e : entries_) {
    if (!e.removed) out.push_back(e.now);
  }
  return out;
}

result<void> roster::add(new_phone phone, const std::vector<phone_config>& others) {
  const std::lock_guard lock(mutex_);
  auto all = present();
  all.insert(all.end(), others.begin(), others.end());
  for (const phone_config& p : all) {
    if (auto why = in_the_way(phone.config, p); !why.empty()) return error(errc::conflict, std::move(why));
  }
  for (entry& e : entries_) {
    if (!e.removed || !same_entry(phone.config, *e.said)) continue;
    e.removed = false;  // the file has it still
    return {};
  }
  entries_.push_back({std::move(phone.config), std::nullopt, std::move(phone.text), false});
  return {};
}

bool roster::change(std::string_view name, const phone_change& what) {
  const std::lock_guard lock(mutex_);
  const auto e = std::find_if(entries_.begin(), entries_.end(), named(name));
  if (e == entries_.end()) return false;
  if (what.weight) e->now.weight = *what.weight;
  if (what.max_concurrency) e->now.max_concurrency = *what.max_concurrency;
  return true;
}

bool roster::remove(std::string_view name) {
  const std::lock_guard lock(mutex_);
  const auto e = std::find_if(entries_.begin(), entries_.end(), named(name));
  if (e == entries_.end()) return false;
  if (e->said) {
    e->removed = true;
    e->now = *e->said;  // should it come back, then as the file says
  } else {
    entries_.erase(e);
  }
  return true;
}

}  // namespace pocketfleet
