#include "pocketfleet/service/fleet_feed.hpp"

namespace pocketfleet {
namespace {

constexpr seconds interval{1};

}  // namespace

time_point fleet_feed::due() const {
  const std::lock_guard lock(mutex_);
  return due_;
}

fleet_feed::text fleet_feed::next(std::uint64_t& seen, time_point now) {
  const std::lock_guard lock(mutex_);
  if (now >= due_) {
    fleet_picture fresh = look_();
    change_ = number_ > 0 ? std::make_shared<const std::string>(render_change(picture_, fresh)) : nullptr;
    whole_ = nullptr;
    picture_ = std::move(fresh);
    ++number_;
    due_ = now + interval;
  }
  if (seen == number_) return nullptr;
  const bool next_one = seen != 0 && seen + 1 == number_;
  seen = number_;
  if (next_one) return change_;
  if (!whole_) whole_ = std::make_shared<const std::string>(render_fleet(picture_, histories_()));
  return whole_;
}

}  // namespace pocketfleet
