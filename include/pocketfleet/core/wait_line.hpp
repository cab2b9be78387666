// Those who wait for a phone, in the order in which they are to be served.
#pragma once

#include <cstdint>
#include <list>
#include <unordered_map>

#include "pocketfleet/core/time.hpp"
#include "pocketfleet/core/want.hpp"

namespace pocketfleet {

/// A request's name in the dispatcher's queue.
using ticket = std::uint64_t;

/// Later tries first, in the order they came; then who is interactive, then batches. Among equals the owners
/// take turns (start-time fair queueing, Goyal, Vin and Cheng 1996, a request counting as one): who has many
/// requests waiting holds up the others by one at a time. A batch's request that has waited for a minute is
/// not overtaken any more. Owned by the dispatcher.
class wait_line {
 public:
  struct waiter {
    ticket who;
    want what;
    time_point since;
    double tag;  // its owner's turn
  };
  using iterator = std::list<waiter>::iterator;

  iterator begin() { return line_.begin(); }
  iterator end() { return line_.end(); }
  std::size_t size() const { return line_.size(); }
  bool empty() const { return line_.empty(); }

  /// Where it would stand if it came now: before that one.
  iterator place_of(const want& wanted, time_point now);

  void join(ticket who, const want& wanted, time_point now);
  iterator served(iterator who);  ///< it has got its phone; the next
  bool leave(ticket who);         ///< false: it is not there

 private:
  double tag_of(const want& wanted) const;
  void forget_owners();

  std::list<waiter> line_;
  double turn_ = 0;                                 // tag of the last that was served
  std::unordered_map<std::uint64_t, double> last_;  // an owner's newest tag
};

}  // namespace pocketfleet
