// The routes by which other tools ask: OpenAI's, Ollama's and Anthropic's.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/service/desk.hpp"
#include "pocketfleet/service/dispatch.hpp"
#include "pocketfleet/service/ports.hpp"
#include "pocketfleet/service/settings.hpp"
#include "pocketfleet/wire/answer_form.hpp"
#include "pocketfleet/wire/dialects.hpp"

namespace pocketfleet {

/// Owned by the application, used from every worker; outlives the workers.
class dialects_api {
 public:
  dialects_api(desk& fleet, dispatch& runner, const service_settings& settings)
      : desk_(fleet), dispatch_(runner), settings_(settings) {}

  std::vector<route> routes();

 private:
  using form_maker = std::unique_ptr<answer_form> (*)(asked_how);

  task<> answer(http_call& call, result<generation_request> request, form_maker form);
  task<> load(http_call& call, const question& what);
  task<result<void>> unload(http_call& call, const question& what);
  task<> count_tokens(http_call& call);

  desk& desk_;
  dispatch& dispatch_;
  const service_settings settings_;
};

}  // namespace pocketfleet
