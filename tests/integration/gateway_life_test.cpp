// Around the answers: clients that leave, the queue, draining, reloading, and what is told.
#include "gateway_helpers.hpp"

namespace pocketfleet::testing_gateway {
namespace {

using enum engine_kind;

// ---- clients that leave

TEST_F(gateway_test, a_client_that_leaves_frees_its_phone) {
  for (const auto engine : {ollama, llama_server}) {
    for (const std::string target : {"/ask", "/ask_stream"}) {
      stop();
      start({slow_phone(engine, 10'000)});
      http_client client(port_);
      client.post(target, fresh());
      if (target == "/ask_stream") client.read_lines(2);
      ASSERT_TRUE(await([&] { return phones_->state(0).tokens >= 2; }));
      client.leave();
      EXPECT_TRUE(await([&] { return phones_->state(0).cancelled == 1; })) << target;
      EXPECT_TRUE(becomes_idle()) << target;
      EXPECT_LT(phones_->state(0).tokens, 1'000U);
      EXPECT_EQ(ask(fresh(2)).text(), count(2)) << "its permit is there for the next one";
    }
  }
}

TEST_F(gateway_test, a_client_that_leaves_the_queue_is_never_served) {
  start({phone(ollama, "one")});
  set(0, sim::fault_kind::hang, 0, 1);
  http_client running(port_);
  running.post("/ask", fresh());
  ASSERT_TRUE(await([&] { return phones_->state(0).requests == 1; }));
  http_client waiting(port_);
  waiting.post("/ask", fresh());
  ASSERT_TRUE(await([&] { return metric("pocketfleet_queue_length") == 1; }));
  waiting.leave();
  EXPECT_TRUE(await([&] { return metric("pocketfleet_queue_length") == 0; }));
  phones_->clear_fault(0);
  EXPECT_EQ(running.read().status, 200);
  EXPECT_TRUE(becomes_idle());
  EXPECT_EQ(requests_seen(), 1U);
}

// ---- the queue

TEST_F(gateway_test, over_the_queues_bound_the_answer_is_no_and_when_to_come_back) {
  config_.gateway.dispatch.queue_capacity = 1;
  start({phone(ollama, "one")});
  set(0, sim::fault_kind::hang, 0, 1);
  http_client running(port_);
  running.post("/ask", fresh());
  ASSERT_TRUE(await([&] { return phones_->state(0).requests == 1; }));
  http_client waiting(port_);
  waiting.post("/ask", fresh(3));
  ASSERT_TRUE(await([&] { return metric("pocketfleet_queue_length") == 1; }));
  for (const auto* target : {"/ask", "/ask_stream"}) {
    const auto refused = ask(fresh(), target);
    EXPECT_EQ(refused.status, 503);
    EXPECT_GE(std::stoi("0" + refused.header("Retry-After")), 1);
    EXPECT_TRUE(refused.object()["error"].is_string());
  }
  phones_->clear_fault(0);
  EXPECT_EQ(running.read().status, 200);
  EXPECT_EQ(waiting.read().text(), count(3));
  EXPECT_TRUE(becomes_idle());
}

TEST_F(gateway_test, who_waits_too_long_is_told_so_and_never_reaches_a_phone) {
  config_.gateway.service.times.queue = milliseconds{50};
  start({phone(ollama, "one")});
  set(0, sim::fault_kind::hang, 0, 1);
  http_client running(port_);
  running.post("/ask", fresh());
  ASSERT_TRUE(await([&] { return phones_->state(0).requests == 1; }));
  const auto got = ask(fresh());
  EXPECT_EQ(got.status, 503);
  EXPECT_GE(std::stoi("0" + got.header("Retry-After")), 1);
  EXPECT_EQ(metric("pocketfleet_queue_length"), 0);
  phones_->clear_fault(0);
  EXPECT_EQ(running.read().status, 200);
  EXPECT_TRUE(becomes_idle());
  EXPECT_EQ(requests_seen(), 1U);
}

// ---- drain and reload

TEST_F(gateway_test, draining_lets_what_runs_come_to_its_end) {
  start({slow_phone(llama_server, 20)});
  http_client idle_one(port_);
  ASSERT_EQ(idle_one.get("/health").status, 200);
  http_client client(port_);
  client.post("/ask_stream", fresh());
  client.read_lines(2);
  gateway_->drain();
  EXPECT_TRUE(await([&] { return !http_client(port_).connected(); })) << "the listener is closed";
  EXPECT_EQ(idle_one.read().status, 0) << "an idle connection is closed";
  const auto got = client.read();
  EXPECT_TRUE(got.whole);
  EXPECT_EQ(got.text(), count(20));
  EXPECT_TRUE(ends());
}

TEST_F(gateway_test, when_the_grace_is_over_a_running_stream_gets_an_error) {
  config_.gateway.drain = seconds{0};
  start({slow_phone(ollama, 10'000)});
  http_client client(port_);
  client.post("/ask_stream", fresh());
  client.read_lines(2);
  gateway_->drain();
  const auto got = client.read();
  EXPECT_FALSE(got.whole);
  EXPECT_TRUE(got.lines().back().contains("error")) << got.body;
  EXPECT_TRUE(ends());
  EXPECT_TRUE(await([&] { return phones_->state(0).cancelled == 1; }));
}

TEST_F(gateway_test, a_reload_adds_and_removes_phones) {
  auto slow = slow_phone(ollama, 30);
  start_phones({slow, phone(llama_server, "new")});
  const auto both = config_.phones;
  config_.phones = {both[0]};
  start();
  http_client client(port_);
  client.post("/ask_stream", fresh());
  client.read_lines(2);

  configuration next = config_;
  next.phones = {both[1]};
  gateway_->reload(next);
  EXPECT_EQ(ask(fresh()).header("X-Phone"), "new") << "it waits for the new one to be looked at";
  const auto all = gateway_->phones();
  ASSERT_EQ(all.size(), 2U);
  EXPECT_TRUE(all[0].draining);
  EXPECT_EQ(all[0].in_flight, 1U);
  const auto got = client.read();
  EXPECT_TRUE(got.whole) << "a stream on a removed phone goes on";
  EXPECT_EQ(got.text(), count(30));
  EXPECT_TRUE(await([&] { return gateway_->phones().size() == 1; }));

  next.phones = both;
  gateway_->reload(next);
  EXPECT_TRUE(await([&] {
    const auto now = gateway_->phones();
    return now.size() == 2 && now[0].healthy && now[1].healthy;
  })) << "one that was removed may come back";
  EXPECT_EQ(ask({{"prompt", "again"}, {"cache", false}}).status, 200);
  EXPECT_TRUE(becomes_idle());
}

// ---- several workers, and an end at any time

TEST_F(gateway_test, several_workers_share_phones_queue_and_cache) {
  config_.gateway.workers = 3;
  start({phone(ollama, "one")});
  set(0, sim::fault_kind::hang, 0, 1);
  const json same = fresh(5);
  std::vector<std::unique_ptr<http_client>> clients;
  for (unsigned i = 0; i < 24; ++i) {  // on whatever worker each connection comes to
    clients.push_back(std::make_unique<http_client>(port_));
    clients.back()->post(i % 2 == 0 ? "/ask_stream" : "/ask", i < 12 ? same : fresh(i));
  }
  ASSERT_TRUE(await([&] {
    return metric("pocketfleet_cache_joined_total") == 11 && metric("pocketfleet_queue_length") == 12;
  }));
  phones_->clear_fault(0);
  for (unsigned i = 0; i < 24; ++i) {
    const auto got = clients[i]->read();
    EXPECT_TRUE(got.whole);
    EXPECT_EQ(got.text(), count(i < 12 ? 5 : i));
  }
  EXPECT_TRUE(becomes_idle());
  EXPECT_EQ(requests_seen(), 13U);
  EXPECT_EQ(phones_->state(0).max_active, 1U);
}

TEST_F(gateway_test, it_can_be_stopped_with_everything_under_way) {
  for (const unsigned workers : {1U, 1U, 3U, 3U}) {
    config_.gateway.workers = workers;
    start({slow_phone(ollama, 10'000), slow_phone(llama_server, 10'000)});
    const json same = fresh();
    std::vector<std::unique_ptr<http_client>> clients;
    for (unsigned i = 0; i < 20; ++i) {  // some share an answer, some wait, some stream
      clients.push_back(std::make_unique<http_client>(port_));
      clients.back()->post(i % 2 == 0 ? "/ask_stream" : "/ask", i % 3 == 0 ? same : fresh());
    }
    clients.push_back(std::make_unique<http_client>(port_));
    clients.back()->post("/ask_batch", {{"prompts", {"a", "b", "c"}}});
    ASSERT_TRUE(await([&] {
      return metric("pocketfleet_queue_length") >= 12 && phones_->state(0).tokens > 2 &&
             phones_->state(1).tokens > 2;
    }));
    stop();
    for (auto& c : clients) EXPECT_FALSE(c->read().whole);
    EXPECT_TRUE(await([&] { return phones_->state(0).active + phones_->state(1).active == 0; }));
  }
}

// ---- what is told

TEST_F(gateway_test, health_tells_how_each_phone_is) {
  start(four_phones());
  const auto got = http_client(port_).get("/health");
  ASSERT_EQ(got.status, 200);
  const json body = got.object();
  ASSERT_EQ(body["phones"].size(), 4U);
  for (const auto& p : body["phones"]) {
    EXPECT_EQ(p["healthy"], true);
    EXPECT_EQ(p["inflight"], 0);
    EXPECT_EQ(p["host"], "127.0.0.1");
    EXPECT_EQ(p["model"], "qwen2.5:1.5b");
  }
  EXPECT_EQ(body["phones"][3]["permits"], 2);
}

TEST_F(gateway_test, health_counts_what_runs) {
  start({slow_phone(ollama, 10'000)});
  http_client client(port_);
  client.post("/ask_stream", fresh());
  client.read_lines(1);
  EXPECT_EQ(http_client(port_).get("/health").object()["phones"][0]["inflight"], 1);
  client.leave();
  EXPECT_TRUE(
      await([&] { return http_client(port_).get("/health").object()["phones"][0]["inflight"] == 0; }));
}

}  // namespace
}  // namespace pocketfleet::testing_gateway
