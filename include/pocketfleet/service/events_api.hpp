// GET /events: the fleet, live, to anybody who watches.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <stop_token>
#include <string>
#include <vector>

#include "pocketfleet/service/desk.hpp"
#include "pocketfleet/service/dispatch.hpp"
#include "pocketfleet/service/fleet_feed.hpp"
#include "pocketfleet/service/ports.hpp"
#include "pocketfleet/service/tally.hpp"

namespace pocketfleet {

/// How many watch, and under which keys. Used from every worker.
class watchers {
 public:
  void come(const std::string& key);
  void go(const std::string& key);
  std::size_t all() const;
  std::size_t of(const std::string& key) const;

 private:
  mutable std::mutex mutex_;
  // guarded by mutex_
  std::map<std::string, std::size_t> by_key_;  // by the key's name
  std::size_t all_ = 0;
};

/// Owned by the application, used from every worker; outlives the workers.
class events_api {
 public:
  static constexpr std::size_t most_watchers = 64;
  static constexpr std::size_t most_of_a_key = 16;  ///< so that no key keeps all others out

  /// What of the fleet's numbers the service does not know.
  struct about {
    std::size_t queue_capacity = 0;
    std::string version{};
  };
  events_api(desk& fleet, const dispatch& runner, const tally& numbers, about more);

  std::vector<route> routes();

  /// The streams end, properly, and no others begin: nobody who only watches holds up a drain.
  void shut_down() { ending_.request_stop(); }

 private:
  task<> watch(http_call& call);
  task<> stream(http_call& call);
  fleet_picture look() const;

  desk& desk_;
  const dispatch& dispatch_;
  const tally& tally_;
  const about about_;
  const std::string started_;
  watchers watchers_;
  std::stop_source ending_;
  fleet_feed feed_;
};

}  // namespace pocketfleet
