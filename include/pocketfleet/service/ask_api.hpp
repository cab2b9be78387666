// The routes of our own dialect: /ask, /ask_stream, /ask_batch, and /warmup and /health beside them.
#pragma once

#include <vector>

#include "pocketfleet/service/desk.hpp"
#include "pocketfleet/service/dispatch.hpp"
#include "pocketfleet/service/ports.hpp"
#include "pocketfleet/service/serve.hpp"
#include "pocketfleet/service/settings.hpp"
#include "pocketfleet/wire/ask.hpp"

namespace pocketfleet {

/// Owned by the application, used from every worker; outlives the workers.
class ask_api {
 public:
  ask_api(desk& fleet, dispatch& runner, const service_settings& settings)
      : desk_(fleet), dispatch_(runner), settings_(settings) {}

  std::vector<route> routes();

 private:
  task<> ask(http_call& call);
  task<> ask_stream(http_call& call);
  task<> ask_batch(http_call& call);
  task<> health(http_call& call);
  task<> warm_up(http_call& call);

  task<> answer_to(http_call& call, bool stream);
  static serving serving_of(ask_request& request);
  task<> batch_plain(http_call& call, std::vector<result<ask_request>>& items);
  task<> batch_lines(http_call& call, std::vector<result<ask_request>>& items);
  task<std::string> batch_item(http_call& call, result<ask_request>& item);
  task<json> warm_up_phone(http_call& call, std::shared_ptr<const phone_target> phone, std::string model,
                           json keep_alive);

  ask_rules rules(bool stream_route) const { return {stream_route, settings_.pass_load_options}; }
  std::size_t runners(std::size_t items);

  desk& desk_;
  dispatch& dispatch_;
  const service_settings settings_;
};

}  // namespace pocketfleet
