#include "pocketfleet/service/wall_clock.hpp"

#include <chrono>
#include <cstdio>

namespace pocketfleet {

std::string rfc3339_now() {
  using namespace std::chrono;
  const auto now = system_clock::now();
  const auto day = floor<days>(now);
  const year_month_day date(day);
  const hh_mm_ss time(floor<nanoseconds>(now - day));
  char text[40];
  const int length = std::snprintf(
      text, sizeof text, "%04d-%02u-%02uT%02d:%02d:%02d.%09dZ", int{date.year()}, unsigned{date.month()},
      unsigned{date.day()}, static_cast<int>(time.hours().count()), static_cast<int>(time.minutes().count()),
      static_cast<int>(time.seconds().count()), static_cast<int>(time.subseconds().count()));
  return {text, static_cast<std::size_t>(length)};
}

}  // namespace pocketfleet
