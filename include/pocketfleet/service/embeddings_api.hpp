// The routes that make embeddings: /v1/embeddings, /api/embed, /api/embeddings.
#pragma once

#include <stop_token>
#include <vector>

#include "pocketfleet/service/desk.hpp"
#include "pocketfleet/service/embeddings_refusals.hpp"
#include "pocketfleet/service/ports.hpp"
#include "pocketfleet/service/settings.hpp"
#include "pocketfleet/wire/embeddings.hpp"

namespace pocketfleet {

/// Owned by the application, used from every worker; outlives the workers.
class embeddings_api {
 public:
  embeddings_api(desk& fleet, observer& books, const service_settings& settings)
      : desk_(fleet), observer_(books), settings_(settings) {}

  std::vector<route> routes();

  /// Requests under way end with errc::shutting_down.
  void shut_down() { shutdown_.request_stop(); }

 private:
  task<> embed(http_call& call, embeddings_dialect dialect);

  desk& desk_;
  observer& observer_;
  const service_settings settings_;
  embeddings_refusals refusals_;
  std::stop_source shutdown_;
};

}  // namespace pocketfleet
