// Deadlines of a worker's connections, at the price of one timer.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "pocketfleet/service/async.hpp"

namespace pocketfleet {

/// Moving a deadline is a store; only one that is nearer than all others touches the timer. Used on its
/// worker's thread only. Shared by the guards, so that it lives as long as any of them.
class watchdog : public std::enable_shared_from_this<watchdog> {
 public:
  explicit watchdog(executor where) : timer_(where) {}
  watchdog(const watchdog&) = delete;
  watchdog& operator=(const watchdog&) = delete;

  /// One deadline. When it is over, `expired` is called once and the deadline is `never` again.
  class guard {
   public:
    guard(std::shared_ptr<watchdog> dog, std::function<void()> expired);
    guard(const guard&) = delete;
    guard& operator=(const guard&) = delete;
    ~guard();

    void set(time_point deadline) {
      deadline_ = deadline;
      if (deadline < dog_->armed_for_) dog_->arm(deadline);
    }
    void never() { deadline_ = time_point::max(); }

   private:
    friend class watchdog;
    std::shared_ptr<watchdog> dog_;
    std::function<void()> expired_;
    time_point deadline_ = time_point::max();
    std::size_t index_;
  };

 private:
  void arm(time_point when);
  void sweep();

  wait_timer timer_;
  time_point armed_for_ = time_point::max();
  std::vector<guard*> guards_;
};

}  // namespace pocketfleet
