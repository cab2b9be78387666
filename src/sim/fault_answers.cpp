// Faults that hit before there is a header.
#include <string>

#include "engine.hpp"
#include "generate.hpp"

namespace pocketfleet::sim {

namespace asio = boost::asio;

namespace {

constexpr std::string_view page =
    "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body><p>Sign in to this "
    "network.</p></body></html>\n";

}  // namespace

asio::awaitable<bool> fault_answers(connection& client, const fault& shown) {
  phone::server& server = client.server();
  const auto answer = [&](unsigned status, std::string_view text) {
    return client.reply(status, "application/json; charset=utf-8",
                        server.speaks->error_body(client.asked(), status, text));
  };
  const bool ollama = server.settings.engine == engine_kind::ollama;
  switch (shown.kind) {
    case fault_kind::error_500: co_await answer(500, "simulated failure of the engine"); co_return true;
    case fault_kind::busy_503:
      co_await answer(503, ollama ? "server busy, please try again.  maximum pending requests exceeded"
                                  : "no slot available");
      co_return true;
    case fault_kind::loading_503:
      co_await answer(503, ollama ? "llm server loading model" : "Loading model");
      co_return true;
    case fault_kind::html:
      co_await client.reply(200, "text/html; charset=utf-8", std::string(page));
      co_return true;
    case fault_kind::reset_after:
      if (shown.after_tokens == 0) client.reset();
      break;
    case fault_kind::close_after:
      if (shown.after_tokens == 0) client.close();
      break;
    case fault_kind::hang: {
      const std::uint64_t epoch = server.fault_epoch();
      while (!client.gone() && server.fault_epoch() == epoch) co_await client.waits().nap(time_point::max());
      break;
    }
    default: break;
  }
  co_return client.gone();
}

}  // namespace pocketfleet::sim
