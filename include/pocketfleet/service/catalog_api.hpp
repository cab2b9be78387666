// Which models the fleet has, in OpenAI's and Ollama's words; and that nobody manages them from here.
#pragma once

#include <string>
#include <vector>

#include "pocketfleet/service/desk.hpp"
#include "pocketfleet/service/ports.hpp"
#include "pocketfleet/wire/catalog.hpp"

namespace pocketfleet {

/// Owned by the application, used from every worker; outlives the workers.
class catalog_api {
 public:
  explicit catalog_api(desk& fleet) : desk_(fleet) {}

  std::vector<route> routes();

 private:
  /// Somewhere to ask about a model.
  struct place {
    std::shared_ptr<const phone_target> phone;
    served_model model;
    bool healthy = false;
    std::uint32_t in_flight = 0;
  };

  task<> one_model(http_call& call);
  task<> show(http_call& call);
  task<result<std::string>> ask(http_call& call, const place& at, const show_request& wanted);
  std::vector<place> places_of(const std::string& model);

  desk& desk_;
};

}  // namespace pocketfleet
