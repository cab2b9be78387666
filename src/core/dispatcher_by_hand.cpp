// What an operator does to a phone while the gateway runs.
#include "pocketfleet/core/dispatcher.hpp"

namespace pocketfleet {

std::vector<granted> dispatcher::drain(std::string_view name, bool drained, time_point now) {
  if (phone* p = named(name)) {
    p->drained = drained;
    changed(*p);
  }
  return serve_queue(now);
}

std::vector<granted> dispatcher::hold_breaker_open(std::string_view name, bool open, time_point now) {
  if (phone* p = named(name)) {
    if (open) {
      p->cut_out.hold_open();
    } else {
      p->cut_out.close();
      p->suspect = false;
    }
    changed(*p);
  }
  return serve_queue(now);
}

}  // namespace pocketfleet
