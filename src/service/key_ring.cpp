#include "pocketfleet/service/key_ring.hpp"

#include <algorithm>

#include "pocketfleet/wire/digest.hpp"

namespace pocketfleet {
namespace {

/// Counts a request of a key as running while it lives.
class place_of_key {
 public:
  explicit place_of_key(std::shared_ptr<std::atomic<std::uint32_t>> count) : count_(std::move(count)) {
    ++*count_;
  }
  place_of_key(const place_of_key&) = delete;
  place_of_key& operator=(const place_of_key&) = delete;
  ~place_of_key() { --*count_; }

 private:
  std::shared_ptr<std::atomic<std::uint32_t>> count_;
};

}  // namespace

void key_ring::configure(std::vector<api_key> keys, bool clients_need_one) {
  const std::lock_guard lock(mutex_);
  std::vector<entry> fresh;
  fresh.reserve(keys.size());
  any_admin_ = false;
  for (api_key& key : keys) {
    any_admin_ = any_admin_ || key.terms.role == key_role::admin;
    entry made(std::move(key));
    const auto before =
        std::find_if(keys_.begin(), keys_.end(), [&](const entry& e) { return e.digest == made.digest; });
    if (before != keys_.end()) {
      made.running = before->running;
      if (before->terms->rate_per_minute == made.terms->rate_per_minute) made.rate = before->rate;
    }
    fresh.push_back(std::move(made));
  }
  keys_ = std::move(fresh);
  closed_ = clients_need_one;
}

/// All are looked at, whichever it is: the time that takes tells nothing.
key_ring::entry* key_ring::find(std::string_view key) {
  const auto digest = sha256(key);
  entry* found = nullptr;
  for (entry& each : keys_) {
    if (same_digest(each.digest, digest)) found = &each;
  }
  return found;
}

/// A key that is right is always let in: others behind the same address, as behind a proxy, cannot lock it
/// out.
error key_ring::stranger(const std::string& address, bool has_key, time_point now) {
  if (!has_key)
    return error(errc::unauthorized, "expected a key: \"Authorization: Bearer KEY\" or \"X-API-Key: KEY\"");
  if (const auto wait = failures_.note(address, now)) {
    return error(errc::rate_limited, "too many wrong keys from this address", 0,
                 std::max(seconds{1}, std::chrono::ceil<seconds>(*wait)));
  }
  return error(errc::unauthorized, "the key is not one of this gateway's");
}

result<visit> key_ring::let_in(entry& who, bool takes_place, time_point now) {
  visit out;
  out.terms = who.terms;
  if (takes_place && who.terms->max_concurrency > 0) {
    if (*who.running >= who.terms->max_concurrency) {
      return error(errc::rate_limited,
                   "this key already has " + std::to_string(who.terms->max_concurrency) +
                       (who.terms->max_concurrency == 1 ? " request running" : " requests running"),
                   0, seconds{1});
    }
    out.place = std::make_shared<place_of_key>(who.running);
  }
  if (who.terms->rate_per_minute > 0) {
    if (const auto wait = who.rate.take(now)) {
      return error(errc::rate_limited,
                   "this key may ask " + std::to_string(who.terms->rate_per_minute) + " times a minute", 0,
                   std::max(seconds{1}, std::chrono::ceil<seconds>(*wait)));
    }
  }
  return out;
}

result<visit> key_ring::admit(std::string_view key, access_level needed, bool takes_place,
                              const reply& client, time_point now) {
  if (needed == access_level::open || (needed == access_level::client && !closed_)) return visit{};
  const std::lock_guard lock(mutex_);
  if (needed == access_level::admin && !any_admin_) {
    return error(errc::forbidden,
                 "the fleet can only be changed with an admin key, and there is none: "
                 "\"pocketfleet key new --admin\" makes one");
  }
  entry* const who = key.empty() ? nullptr : find(key);
  if (who == nullptr) return stranger(client.peer(), !key.empty(), now);
  if (needed == access_level::admin && who->terms->role != key_role::admin)
    return error(errc::forbidden, "that takes an admin key");
  return let_in(*who, takes_place, now);
}

}  // namespace pocketfleet
