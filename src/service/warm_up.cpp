#include "warm_up.hpp"

#include "page.hpp"
#include "pocketfleet/engines/codec.hpp"

namespace pocketfleet {

task<result<std::string>> warm_up(http_call& call, desk& fleet, const warm_up_order& order) {
  const std::stop_token stop = call.gone;
  auto held = co_await fleet.acquire(call.where, order.wanted, order.deadline, stop);
  if (!held) co_return held.error();
  const std::shared_ptr<const phone_target> phone = held->phone();
  const phone_request request =
      engine_of(phone->engine).warm_up(model_for(*phone, order.model), order.keep_alive);
  const std::unique_ptr<phone_exchange> exchange = call.phones->open(phone, call.traceparent);
  const std::stop_callback on_stop(stop, [&exchange] { exchange->abort(); });
  const auto got = co_await read_page(*exchange, request, order.deadline);
  const error why = !got ? got.error() : got->status != 200 ? phone_failure(got->status, got->body) : error{};
  const bool good = got && got->status == 200;
  held->settle(good ? verdict::success : verdict_of(why.code));
  if (!good) co_return why;
  co_return phone->name;
}

}  // namespace pocketfleet
