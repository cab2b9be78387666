// GET /events: the fleet, live, to anybody who watches.
#pragma once

#include <atomic>
#include <cstddef>
#include <stop_token>
#include <string>
#include <vector>

#include "pocketfleet/service/desk.hpp"
#include "pocketfleet/service/dispatch.hpp"
#include "pocketfleet/service/fleet_feed.hpp"
#include "pocketfleet/service/ports.hpp"
#include "pocketfleet/service/tally.hpp"

namespace pocketfleet {

/// Owned by the application, used from every worker; outlives the workers.
class events_api {
 public:
  static constexpr std::size_t most_watchers = 64;

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
  std::atomic<std::size_t> watchers_{0};
  std::stop_source ending_;
  fleet_feed feed_;
};

}  // namespace pocketfleet
