// What one request sleeps on.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "pocketfleet/core/time.hpp"

namespace pocketfleet::sim {

/// A timer that can be woken, and the news that the client has left. Owned by a connection, on the phone's
/// thread; one coroutine at a time sleeps on it. Wake-ups come for many reasons, so whoever naps looks again
/// and naps on.
class sleeper {
 public:
  explicit sleeper(boost::asio::io_context& context) : timer_(context) {}

  boost::asio::awaitable<bool> nap(
      time_point until);  ///< back at that time or when woken; false: client has left
  boost::asio::awaitable<bool> sleep(time_point until);  ///< not before that time unless the client has left
  void wake() { timer_.cancel(); }
  void leave() {
    gone_ = true;
    wake();
  }
  bool gone() const { return gone_; }

 private:
  boost::asio::steady_timer timer_;
  bool gone_ = false;
};

}  // namespace pocketfleet::sim
