// Which phones have said that they make no embeddings.
#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/core/phone.hpp"
#include "pocketfleet/core/time.hpp"

namespace pocketfleet {

/// For a minute, or until the phone's models change: in a fleet where the same model chats on one phone and
/// embeds on another, nobody says so before it is asked. Used from every worker.
class embeddings_refusals {
 public:
  void remember(const phone_target& phone, std::string_view model, time_point now);

  /// It has made some after all.
  void forget(phone_id phone, std::string_view model);

  /// Those of the fleet that are known to refuse it.
  std::vector<phone_id> among(std::span<const std::shared_ptr<const phone_target>> fleet,
                              std::string_view model, time_point now);

 private:
  struct refusal {
    phone_id phone{};
    std::string model{};
    std::vector<served_model> models{};  // the phone's, then
    time_point until{};
  };

  std::mutex mutex_;
  std::vector<refusal> known_;  // guarded by mutex_; a few at most
};

}  // namespace pocketfleet
