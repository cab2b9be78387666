// The coroutine types of the shell. The executor is named, not type-erased: it costs less on each step.
#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <memory>

#include "pocketfleet/core/time.hpp"

namespace pocketfleet {

namespace asio = boost::asio;

using executor = asio::io_context::executor_type;

template <class T = void>
using task = asio::awaitable<T, executor>;

inline constexpr asio::use_awaitable_t<executor> use_task{};

/// co_await operation(use_result) gives a tuple that begins with the error code, and never throws.
inline constexpr asio::as_tuple_t<asio::use_awaitable_t<executor>> use_result{};

using wait_timer = asio::basic_waitable_timer<clock, asio::wait_traits<clock>, executor>;

/// Lets one coroutine wait until someone, on whatever thread, says that there is news. Shared by both sides;
/// waited for only on its executor, by one coroutine at a time. News that come while nobody waits end the
/// next wait at once.
class waker : public std::enable_shared_from_this<waker> {
 public:
  explicit waker(executor where) : executor_(where), timer_(where) {}

  /// True: there are news. False: the time is over.
  task<bool> wait(time_point until = time_point::max()) {
    if (!news_) {
      timer_.expires_at(until);
      waiting_ = true;
      co_await timer_.async_wait(use_result);
      waiting_ = false;
    }
    co_return std::exchange(news_, false);
  }

  /// From any thread.
  void wake() {
    if (executor_.running_in_this_thread()) {
      wake_here();
    } else {
      asio::post(executor_, [self = shared_from_this()] { self->wake_here(); });
    }
  }

 private:
  void wake_here() {
    news_ = true;
    if (waiting_) timer_.cancel();
  }

  executor executor_;
  wait_timer timer_;
  bool news_ = false;
  bool waiting_ = false;
};

}  // namespace pocketfleet
