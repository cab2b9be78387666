// Simulated phones on the caller's own loop, and fleets of them.
#include "sim_helpers.hpp"

namespace pocketfleet::sim_test {
namespace {

TEST(sim_loop, phone_runs_on_the_given_context) {
  asio::io_context context(1);
  phone one(context, fast(engine_kind::ollama));
  one.start();
  const phone_config config = one.config();
  EXPECT_EQ(config.port, one.port());
  EXPECT_EQ(config.name, "127.0.0.1:" + std::to_string(one.port()));
  EXPECT_EQ(config.engine, engine_kind::ollama);
  tcp::socket socket(context);
  socket.connect({asio::ip::make_address("127.0.0.1"), one.port()});
  asio::write(socket, asio::buffer(std::string("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")));
  std::string got;
  bool over = false;
  asio::async_read(socket, asio::dynamic_buffer(got), [&](error_code, std::size_t) { over = true; });
  while (!over && context.run_one_for(patience) != 0) {
  }
  EXPECT_NE(got.find("Ollama is running"), std::string::npos) << got;
  one.stop();
  EXPECT_NO_THROW(context.run());  // nothing is left in it
}

TEST(sim_loop, context_may_end_in_the_middle_of_everything) {
  auto context = std::make_unique<asio::io_context>(1);
  auto settings = fast(engine_kind::ollama);
  settings.decode_rate = 10;
  auto one = std::make_unique<phone>(*context, settings);
  one->start();
  std::vector<tcp::socket> sockets;
  const std::string body = ollama_chat(100).dump();
  for (int i = 0; i < 3; ++i) {  // one runs, two wait
    sockets.emplace_back(*context);
    sockets.back().connect({asio::ip::make_address("127.0.0.1"), one->port()});
    asio::write(sockets.back(), asio::buffer("POST /api/chat HTTP/1.1\r\nHost: a\r\nContent-Length: " +
                                             std::to_string(body.size()) + "\r\n\r\n" + body));
  }
  while (one->state().waiting < 2) context->run_one_for(patience);
  sockets.clear();
  one.reset();
  context.reset();
}

TEST(sim_loop, bad_settings_are_refused) {
  phone_settings settings = fast(engine_kind::ollama);
  settings.decode_rate = 0;
  fleet phones({settings});
  EXPECT_THROW(phones.start(), std::invalid_argument);
  settings = fast(engine_kind::unknown);
  fleet nothing({settings});
  EXPECT_THROW(nothing.start(), std::invalid_argument);
}

TEST(sim_loop, fleet_restarts_on_the_same_ports) {
  fleet phones({fast(engine_kind::ollama), fast(engine_kind::llama_server)});
  phones.start();
  const auto configs = phones.configs();
  ASSERT_EQ(configs.size(), 2U);
  EXPECT_NE(configs[0].port, configs[1].port);
  client held(configs[0].port);
  held.send("GET", "/api/version").read();
  phones.stop();
  EXPECT_EQ(held.silence(milliseconds(500)), ending::reset);
  phones.start();
  EXPECT_EQ(phones.port(1), configs[1].port);
  EXPECT_EQ(client(configs[1].port).get("/health").status, 200U);
}

}  // namespace
}  // namespace pocketfleet::sim_test
