// A try on its way, with all that belongs to it. Private to this layer.
#pragma once

#include "attempt.hpp"

namespace pocketfleet {

struct runner {
  runner(permit p, generation& g, phone_client& phones, const question& what, const time_limits& times,
         time_point deadline, observer& books, const std::string& traceparent)
      : held(std::move(p)),
        one(g, phones, held, what, times, deadline, books, traceparent),
        where(g.where()),
        began(clock::now()) {}
  runner(const runner&) = delete;
  runner& operator=(const runner&) = delete;
  ~runner() = default;

  permit held;
  attempt one;
  executor where;
  time_point began;
  attempt_result result{error(errc::aborted)};
};

}  // namespace pocketfleet
