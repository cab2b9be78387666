#include "page.hpp"

namespace pocketfleet {

task<result<page>> read_page(phone_exchange& exchange, const phone_request& request, time_point deadline,
                             std::size_t most_bytes) {
  if (auto there = co_await exchange.connect(deadline); !there) co_return there.error();
  auto head = co_await exchange.send(request.method, request.target, request.body, deadline);
  if (!head) co_return head.error();
  page out{head->status, head->server, {}};
  for (;;) {
    const auto more = co_await exchange.read(deadline);
    if (!more) co_return more.error();
    if (more->empty()) co_return out;
    if (out.body.size() + more->size() > most_bytes) co_return error(errc::too_large, "a page without end");
    out.body.append(*more);
  }
}

}  // namespace pocketfleet
