#include "pocketfleet/service/embeddings_refusals.hpp"

#include <algorithm>

namespace pocketfleet {
namespace {

constexpr seconds worth_knowing{60};

}  // namespace

void embeddings_refusals::remember(const phone_target& phone, std::string_view model, time_point now) {
  const std::lock_guard lock(mutex_);
  std::erase_if(
      known_, [&](const refusal& r) { return r.until <= now || (r.phone == phone.id && r.model == model); });
  known_.push_back({phone.id, std::string(model), phone.models, now + worth_knowing});
}

void embeddings_refusals::forget(phone_id phone, std::string_view model) {
  const std::lock_guard lock(mutex_);
  std::erase_if(known_, [&](const refusal& r) { return r.phone == phone && r.model == model; });
}

std::vector<phone_id> embeddings_refusals::among(std::span<const std::shared_ptr<const phone_target>> fleet,
                                                 std::string_view model, time_point now) {
  const std::lock_guard lock(mutex_);
  std::vector<phone_id> out;
  for (const refusal& r : known_) {
    if (r.model != model || r.until <= now) continue;
    const auto same = [&](const auto& p) { return p->id == r.phone && p->models == r.models; };
    if (std::any_of(fleet.begin(), fleet.end(), same)) out.push_back(r.phone);
  }
  return out;
}

}  // namespace pocketfleet
