#include "pocketfleet/service/wall_clock.hpp"

#include <chrono>
#include <cstdint>
#include <cstdio>

namespace pocketfleet {
namespace {

/// "2026-11-20T13:00:00"
std::string date_and_time(std::chrono::sys_seconds when) {
  using namespace std::chrono;
  const auto day = floor<days>(when);
  const year_month_day date(day);
  const hh_mm_ss time(when - day);
  char text[40];
  const int length =
      std::snprintf(text, sizeof text, "%04d-%02u-%02uT%02d:%02d:%02d", int{date.year()},
                    unsigned{date.month()}, unsigned{date.day()}, static_cast<int>(time.hours().count()),
                    static_cast<int>(time.minutes().count()), static_cast<int>(time.seconds().count()));
  return {text, static_cast<std::size_t>(length)};
}

}  // namespace

std::string rfc3339_now() {
  using namespace std::chrono;
  // The calendar is asked once a second.
  thread_local sys_seconds second{};
  thread_local std::string text;
  const auto now = system_clock::now();
  const auto whole = floor<seconds>(now);
  if (whole != second || text.empty()) {
    second = whole;
    text = date_and_time(whole);
  }
  std::string out = text + ".000000000Z";
  auto rest = static_cast<std::uint64_t>(duration_cast<nanoseconds>(now - whole).count());
  for (std::size_t at = out.size() - 2; rest > 0; --at, rest /= 10)
    out[at] = static_cast<char>('0' + rest % 10);
  return out;
}

}  // namespace pocketfleet
