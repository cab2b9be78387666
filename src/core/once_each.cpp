#include "pocketfleet/core/once_each.hpp"

#include <string_view>
#include <unordered_map>

namespace pocketfleet {

std::vector<const phone_status*> once_each(const std::vector<phone_status>& all) {
  std::unordered_map<std::string_view, std::size_t> places;
  std::vector<const phone_status*> out;
  for (const phone_status& p : all) {
    const auto [found, fresh] = places.emplace(p.config.name, out.size());
    if (fresh)
      out.push_back(&p);
    else if (!p.draining)
      out[found->second] = &p;
  }
  return out;
}

}  // namespace pocketfleet
