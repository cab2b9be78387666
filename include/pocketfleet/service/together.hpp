// Several coroutines at the same time.
#pragma once

#include <exception>
#include <memory>

#include "pocketfleet/service/async.hpp"

namespace pocketfleet {

/// Runs f(0) ... f(n-1), each a task<>, at the same time on one worker; returns when all have ended. What f
/// refers to must outlive the call. An exception of one is thrown when all have ended.
template <class F>
task<> together(executor where, std::size_t n, F& f) {
  struct shared {
    explicit shared(executor e) : done(std::make_shared<waker>(e)) {}
    std::shared_ptr<waker> done;
    std::size_t left = 0;
    std::exception_ptr thrown{};
  };
  const auto s = std::make_shared<shared>(where);
  s->left = n;
  for (std::size_t i = 0; i < n; ++i) {
    asio::co_spawn(where, f(i), [s](const std::exception_ptr& thrown) {
      if (thrown) s->thrown = thrown;
      if (--s->left == 0) s->done->wake();
    });
  }
  while (s->left != 0) co_await s->done->wait();
  if (s->thrown) std::rethrow_exception(s->thrown);
}

}  // namespace pocketfleet
