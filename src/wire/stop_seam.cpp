#include "pocketfleet/wire/stop_seam.hpp"

#include <algorithm>

namespace pocketfleet {

stop_seam::stop_seam(const json& stops, std::string_view before) {
  if (stops.is_array()) {
    for (const auto& stop : stops) {
      if (stop.is_string() && stop.get_ref<const std::string&>().size() > 1)
        stops_.push_back(stop.get<std::string>());
    }
  }
  for (const auto& stop : stops_) longest_ = std::max(longest_, stop.size());
  open_ = longest_ > 0 && !before.empty();
  if (open_) before_ = before.substr(before.size() - std::min(before.size(), longest_ - 1));
}

std::string stop_seam::take(std::string_view more) {
  if (hit_) return {};
  if (!open_) return std::string(more);
  held_.append(more);
  const std::string all = before_ + held_;
  for (const auto& stop : stops_) {
    for (auto at = all.find(stop); at < before_.size(); at = all.find(stop, at + 1)) {
      if (at + stop.size() > before_.size()) {
        hit_ = true;
        held_.clear();
        return {};
      }
    }
  }
  if (held_.size() + 1 < longest_) return {};
  open_ = false;
  return std::exchange(held_, {});
}

std::string stop_seam::rest() {
  open_ = false;
  return std::exchange(held_, {});
}

}  // namespace pocketfleet
