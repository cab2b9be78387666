// What all who watch the fleet are sent, second by second.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "pocketfleet/core/time.hpp"
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

}  // namespace pocketfleet
