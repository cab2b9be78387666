#include "pocketfleet/transport/watchdog.hpp"

#include <algorithm>

namespace pocketfleet {

watchdog::guard::guard(std::shared_ptr<watchdog> dog, std::function<void()> expired)
    : dog_(std::move(dog)), expired_(std::move(expired)), index_(dog_->guards_.size()) {
  dog_->guards_.push_back(this);
}

watchdog::guard::~guard() {
  auto& all = dog_->guards_;
  all[index_] = all.back();
  all[index_]->index_ = index_;
  all.pop_back();
}

void watchdog::arm(time_point when) {
  armed_for_ = when;
  timer_.expires_at(when);  // ends the wait before
  timer_.async_wait([weak = weak_from_this()](const boost::system::error_code& ec) {
    const auto self = weak.lock();
    if (!ec && self) self->sweep();
  });
}

void watchdog::sweep() {
  const time_point now = clock::now();
  time_point next = time_point::max();
  std::vector<guard*> over;
  for (guard* g : guards_) {
    if (g->deadline_ <= now) {
      g->deadline_ = time_point::max();
      over.push_back(g);
    } else {
      next = std::min(next, g->deadline_);
    }
  }
  armed_for_ = time_point::max();
  if (next != time_point::max()) arm(next);
  // What expires cancels its socket; the coroutine that owns it is resumed later, so no guard goes away in
  // here.
  for (guard* g : over) g->expired_();
}

}  // namespace pocketfleet
