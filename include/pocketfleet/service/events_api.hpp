// GET /events: the fleet, live, to anybody who watches.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <vector>

#include "pocketfleet/service/desk.hpp"
#include "pocketfleet/service/dispatch.hpp"
#include "pocketfleet/service/ports.hpp"
#include "pocketfleet/service/tally.hpp"
#include "pocketfleet/wire/fleet_picture.hpp"

namespace pocketfleet {

/// The fleet's pictures, one a second while somebody watches, each made and written down once for all
/// watchers: whoever comes first when it is due makes it. Nothing is kept for those who are slow: they miss
/// changes and get the whole again.
class fleet_feed {
 public:
  using text = std::shared_ptr<const std::string>;
  fleet_feed(std::function<fleet_picture()> look, std::function<token_history()> histories)
      : look_(std::move(look)), histories_(std::move(histories)) {}

  /// What a watcher is to be sent that has seen picture number `seen` (0: none), which is then the number of
  /// what it gets. Null: nothing yet, before due().
  text next(std::uint64_t& seen, time_point now);

  time_point due() const;

 private:
  std::function<fleet_picture()> look_;
  std::function<token_history()> histories_;

  mutable std::mutex mutex_;
  // guarded by mutex_
  fleet_picture picture_;
  std::uint64_t number_ = 0;  // of picture_
  time_point due_{};          // when the next one is to be made
  text change_;               // from the one before to picture_
  text whole_;                // of picture_; made when somebody needs it
};

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
