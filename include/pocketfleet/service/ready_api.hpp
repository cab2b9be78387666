// GET /healthz and /readyz: for machines that ask whether the gateway lives, and whether to send requests to
// it.
#pragma once

#include <atomic>
#include <vector>

#include "pocketfleet/service/desk.hpp"
#include "pocketfleet/service/ports.hpp"

namespace pocketfleet {

/// Open to everybody, so they tell nothing of the fleet but whether there is a phone to ask. Owned by the
/// application, used from every worker; outlives the workers.
class ready_api {
 public:
  explicit ready_api(desk& fleet) : desk_(fleet) {}

  std::vector<route> routes();

  /// The gateway is going down: it lives, and is not ready any more. From any thread.
  void shut_down() { ending_ = true; }

 private:
  task<> alive(http_call& call);
  task<> ready(http_call& call);

  desk& desk_;
  std::atomic<bool> ending_{false};
};

}  // namespace pocketfleet
