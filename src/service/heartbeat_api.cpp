#include "pocketfleet/service/heartbeat_api.hpp"

#include "ask_common.hpp"
#include "pocketfleet/wire/digest.hpp"
#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {
namespace {

constexpr std::size_t most_bytes = std::size_t{16} << 10U;
constexpr std::string_view bearer = "Bearer ";

/// One word for the phone's log.
std::string_view state_of(const phone_status& p) {
  if (p.rests == rest_kind::hard) return "resting";
  if (p.healthy) return "serving";
  return p.state == health::unknown || p.state == health::loading ? "checking" : "down";
}

}  // namespace

std::vector<route> heartbeat_api::routes() {
  return {{"/fleet/heartbeat", "POST", [this](http_call& call) { return take(call); }, access_level::open}};
}

/// The token goes before the body: who has none learns nothing else.
result<std::string> heartbeat_api::answer(const http_call& call) {
  if (!registry_.listens())
    return error(errc::forbidden, "this gateway takes no heartbeats: its file names no fleet_token_file");
  if (!call.authorization.starts_with(bearer))
    return error(errc::unauthorized, "expected \"Authorization: Bearer \" and the fleet's token");
  const std::string token = sha256_hex(std::string_view(call.authorization).substr(bearer.size()));
  if (!registry_.knows(token)) return error(errc::unauthorized, "the token is not the fleet's");
  if (call.body.size() > most_bytes) return error(errc::bad_request, "a heartbeat has at most 16 KiB");
  const auto heard = parse_heartbeat(call.body);
  if (!heard) return heard.error();
  const auto taken = registry_.take(*heard, call.out->peer(), token, clock::now());
  if (!taken) return taken.error();
  if (taken->joined || taken->moved) changed_(*taken);

  json out{
      {"phone", nullptr}, {"state", "unknown"}, {"reason", nullptr}, {"interval_s", heard->interval.count()}};
  if (!taken->remark.empty()) out["reason"] = taken->remark;
  const auto status = desk_.hear(heard->id, heard->reads, heard->interval);
  if (status) {
    out["phone"] = status->config.name;
    out["state"] = state_of(*status);
    if (taken->remark.empty() && !status->reason.empty()) out["reason"] = status->reason;
    if (taken->remark.empty() && !status->resting.empty()) out["reason"] = status->resting;
  }
  observer_.on_heartbeat(status ? "ok" : "stranger");
  return dump_json(out);
}

task<> heartbeat_api::take(http_call& call) {
  auto said = answer(call);
  if (said) {
    co_await call.out->send(200, json_type, std::move(*said));
    co_return;
  }
  const error why = said.error();
  observer_.on_heartbeat(to_string(why.code));
  header_list headers;
  if (why.code == errc::unauthorized) headers.emplace_back("WWW-Authenticate", "Bearer");
  co_await refuse(call, why, std::move(headers));
}

}  // namespace pocketfleet
