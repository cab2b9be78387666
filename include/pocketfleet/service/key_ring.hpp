// Who may ask what: the keys that there are, and what each has left.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "pocketfleet/core/api_key.hpp"
#include "pocketfleet/service/ports.hpp"

namespace pocketfleet {

/// Owned by the application, used from every worker; one lock, never held across I/O.
class key_ring final : public doorkeeper {
 public:
  /// Replaces the keys. What a key that stays has used up stays used up; requests under way are finished.
  /// `clients_need_one`: otherwise routes for clients are open, and keys are only for those of admins.
  void configure(std::vector<api_key> keys, bool clients_need_one);

  result<visit> admit(std::string_view key, access_level needed, bool takes_place, const reply& client,
                      time_point now) override;

 private:
  /// A key, and what has been used of it.
  struct entry {
    explicit entry(api_key key)
        : digest(key.digest),
          terms(std::make_shared<const client_terms>(std::move(key.terms))),
          rate(terms->rate_per_minute) {}

    std::array<unsigned char, 32> digest;
    std::shared_ptr<const client_terms> terms;
    token_bucket rate;
    std::shared_ptr<std::atomic<std::uint32_t>> running = std::make_shared<std::atomic<std::uint32_t>>(0);
  };

  entry* find(std::string_view key);
  error stranger(const std::string& address, bool has_key, time_point now);
  static result<visit> let_in(entry& who, bool takes_place, time_point now);

  std::atomic<bool> closed_{false};  // to clients without a key
  std::mutex mutex_;
  // guarded by mutex_
  std::vector<entry> keys_;
  bool any_admin_ = false;
  failed_attempts failures_{10, 1024};
};

}  // namespace pocketfleet
