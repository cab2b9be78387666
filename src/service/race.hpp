// Two tries at the same answer, on two phones: who has something to say first goes on, the other is dropped.
// Private to this layer.
#pragma once

#include <memory>

#include "pocketfleet/service/async.hpp"

namespace pocketfleet {

class attempt;

/// Lives in the coroutine that runs both, on their worker.
class race {
 public:
  explicit race(std::shared_ptr<waker> news) : news_(std::move(news)) {}

  void enter(attempt& who);

  /// It has something to say. False: the other one came first.
  bool claim(attempt& who);

  const attempt* leader() const { return leader_; }

 private:
  std::shared_ptr<waker> news_;  // told of a leader
  attempt* first_ = nullptr;
  attempt* second_ = nullptr;
  const attempt* leader_ = nullptr;
};

}  // namespace pocketfleet
