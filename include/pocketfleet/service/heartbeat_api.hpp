// POST /fleet/heartbeat: phones say how they are, and where.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "pocketfleet/service/desk.hpp"
#include "pocketfleet/service/ports.hpp"
#include "pocketfleet/service/registry.hpp"

namespace pocketfleet {

/// Owned by the application, used from every worker; outlives the workers.
class heartbeat_api {
 public:
  /// `fleet_changed` is called when the registry's fleet is another than before, on any worker, with what has
  /// happened: after it, the desk knows the new fleet.
  using change = std::function<void(const registry::taken& what)>;
  heartbeat_api(registry& phones, desk& fleet, observer& books, change fleet_changed)
      : registry_(phones), desk_(fleet), observer_(books), changed_(std::move(fleet_changed)) {}

  std::vector<route> routes();

 private:
  task<> take(http_call& call);
  result<std::string> answer(const http_call& call);

  registry& registry_;
  desk& desk_;
  observer& observer_;
  change changed_;
};

}  // namespace pocketfleet
