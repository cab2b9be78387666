#include "pocketfleet/service/shown_speed.hpp"

#include <algorithm>
#include <cmath>

#include "pocketfleet/core/model_name.hpp"

namespace pocketfleet {
namespace {

json known(double value) {
  return value > 0 ? json(std::round(value * 100) / 100) : json(nullptr);
}

}  // namespace

std::optional<model_speed> shown_speed(const phone_status& p) {
  const std::string own = p.model.empty() ? std::string{} : normalized_model(p.model);
  const auto found =
      std::find_if(p.speeds.begin(), p.speeds.end(), [&](const model_speed& s) { return s.model == own; });
  if (found != p.speeds.end()) return *found;
  const auto most = std::max_element(p.speeds.begin(), p.speeds.end(),
                                     [](const auto& a, const auto& b) { return a.answers < b.answers; });
  return most == p.speeds.end() ? std::nullopt : std::optional(*most);
}

json speeds_as_json(const phone_status& p) {
  json out = json::array();
  for (const model_speed& s : p.speeds) {
    out.push_back({{"model", s.model},
                   {"prefill_tokens_per_s", known(s.prefill)},
                   {"decode_tokens_per_s", known(s.decode)},
                   {"load_s", known(s.load)},
                   {"slowdown", known(s.slowdown)},
                   {"answers", s.answers}});
  }
  return out;
}

}  // namespace pocketfleet
