#include "pocketfleet/service/ready_api.hpp"

#include "ask_common.hpp"

namespace pocketfleet {
namespace {

/// "Not ready" is a right answer to the question, no failed request: its outcome is "ok".
task<> tell(http_call& call, int status, std::string_view text) {
  header_list headers;
  headers.emplace_back("Cache-Control", "no-store");
  call.record.outcome = "ok";
  std::string body(text);
  co_await call.out->send(status, json_type, std::move(body), std::move(headers));
}

}  // namespace

std::vector<route> ready_api::routes() {
  return {{"/healthz", "GET", [this](http_call& call) { return alive(call); }, access_level::open},
          {"/readyz", "GET", [this](http_call& call) { return ready(call); }, access_level::open}};
}

task<> ready_api::alive(http_call& call) {
  return tell(call, 200, R"({"alive":true})");
}

/// There is no gateway without a configuration: one that cannot be read ends the start, and a bad one later
/// leaves the old one.
task<> ready_api::ready(http_call& call) {
  if (ending_) return tell(call, 503, R"({"ready":false,"reason":"draining"})");
  if (!desk_.any_healthy()) return tell(call, 503, R"({"ready":false,"reason":"no phone can be asked"})");
  return tell(call, 200, R"({"ready":true})");
}

}  // namespace pocketfleet
