// Time as the core sees it: a value that is handed in. Nothing in this layer reads a clock.
#pragma once

#include <chrono>

namespace pocketfleet {

using clock = std::chrono::steady_clock;  ///< monotonic, so that a jump of the wall clock changes nothing
using time_point = clock::time_point;
using duration = clock::duration;

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

}  // namespace pocketfleet
