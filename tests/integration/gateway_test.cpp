// Answers of the gateway between clients and simulated phones, while nothing goes wrong. What goes on around
// them: gateway_life_test.cpp; what goes wrong: gateway_faults_test.cpp.
#include <gmock/gmock.h>

#include <set>

#include "gateway_helpers.hpp"

namespace pocketfleet::testing_gateway {
namespace {

using testing::HasSubstr;
using enum engine_kind;

// ---- answers

TEST_F(gateway_test, a_whole_answer_of_either_engine) {
  for (const auto engine : {ollama, llama_server}) {
    stop();
    start({phone(engine, "one")});
    const auto got = ask({{"prompt", "count"}, {"options", {{"num_predict", 7}}}});
    ASSERT_EQ(got.status, 200) << got.body;
    EXPECT_EQ(got.header("Content-Type"), "application/json");
    EXPECT_EQ(got.header("X-Phone"), "one");
    EXPECT_EQ(got.header("X-Cache"), "miss");
    EXPECT_NE(got.header("X-Request-Id"), "");
    const json body = got.object();
    EXPECT_EQ(body["message"], json({{"role", "assistant"}, {"content", count(7)}}));
    EXPECT_EQ(body["model"], "qwen2.5:1.5b");
    EXPECT_EQ(body["done"], true);
    EXPECT_EQ(body["done_reason"], "length");
    EXPECT_EQ(body["eval_count"], 7);
    EXPECT_GT(body["prompt_eval_count"].get<int>(), 0);
    EXPECT_EQ(body["pocketfleet"]["phone"], "one");
    EXPECT_EQ(body["pocketfleet"]["attempts"], 1);
    EXPECT_EQ(body["pocketfleet"]["cached"], false);
    EXPECT_TRUE(becomes_idle());
  }
}

TEST_F(gateway_test, a_streamed_answer_of_either_engine) {
  for (const auto engine : {ollama, llama_server}) {
    stop();
    start({phone(engine, "one")});
    const auto got = ask(fresh(), "/ask_stream");
    ASSERT_EQ(got.status, 200) << got.body;
    EXPECT_TRUE(got.whole);
    EXPECT_EQ(got.header("Content-Type"), "application/x-ndjson");
    EXPECT_EQ(got.header("X-Phone"), "one");
    const auto lines = got.lines();
    ASSERT_EQ(lines.size(), 25U) << "a line a token, and the end";
    for (std::size_t i = 0; i < 24; ++i) {
      EXPECT_EQ(lines[i]["message"]["content"], " " + std::to_string(i + 1));
      EXPECT_EQ(lines[i]["done"], false);
    }
    EXPECT_EQ(lines[24]["done"], true);
    EXPECT_EQ(lines[24]["done_reason"], "stop");
    EXPECT_EQ(lines[24]["eval_count"], 24);
    EXPECT_TRUE(becomes_idle());
  }
}

TEST_F(gateway_test, a_silent_stream_gets_signs_of_life) {
  config_.gateway.service.times.keepalive = milliseconds{30};
  for (const auto engine : {ollama, llama_server}) {
    stop();
    start({phone(engine, "one")});
    set(0, sim::fault_kind::hang, 0, 1);
    http_client client(port_);
    client.post("/ask_stream", fresh(5));
    const auto waiting = client.read_lines(3);
    EXPECT_EQ(waiting.status, 200);
    for (const json& line : waiting.lines()) {
      EXPECT_EQ(line["message"], json({{"role", "assistant"}, {"content", ""}}));
      EXPECT_EQ(line["done"], false);
      EXPECT_TRUE(line["created_at"].is_string());
    }
    phones_->clear_fault(0);
    const auto got = client.read();
    EXPECT_TRUE(got.whole);
    EXPECT_EQ(got.text(), count(5));
  }
}

TEST_F(gateway_test, a_stream_that_fails_behind_signs_of_life_says_so_and_is_cut) {
  config_.gateway.service.times.keepalive = milliseconds{30};
  config_.gateway.service.times.queue = milliseconds{200};
  start({phone(ollama, "one")});
  set(0, sim::fault_kind::hang, 0, 1);
  http_client running(port_);
  running.post("/ask", fresh());
  ASSERT_TRUE(await([&] { return phones_->state(0).requests == 1; }));
  const auto got = ask(fresh(), "/ask_stream");
  EXPECT_EQ(got.status, 200) << "what was sent cannot be taken back";
  EXPECT_FALSE(got.whole);
  EXPECT_TRUE(got.lines().back().contains("error")) << got.body;
}

// ---- requests in parts

TEST_F(gateway_test, a_folded_line_is_refused_wherever_the_segments_end) {
  start({phone(ollama, "one")});
  const std::string head =
      "POST /ask HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding:\r\n chunked\r\nAccept: */*\r\n\r\n";
  for (std::size_t cut = 1; cut < head.size(); cut += 3) {
    http_client client(port_);
    client.send_bytes(head.substr(0, cut));
    client.wait_until_arrived();
    client.send_bytes(head.substr(cut));
    EXPECT_EQ(client.read().status, 400) << cut;
  }
}

TEST_F(gateway_test, a_last_chunk_in_parts_is_read) {
  start({phone(ollama, "one")});
  const std::string all =
      "POST /ask HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
      "chunked\r\n\r\n12\r\n{\"prompt\":\"hello\"}\r\n"
      "0\r\n\r\n";
  for (std::size_t cut = all.size() - 10; cut < all.size(); ++cut) {
    http_client client(port_);
    client.send_bytes(all.substr(0, cut));
    client.wait_until_arrived();
    client.send_bytes(all.substr(cut));
    EXPECT_EQ(client.read().status, 200) << cut;
  }
  // Nothing but a last chunk, whose line end comes in two parts.
  http_client client(port_);
  client.send_bytes("POST /ask HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n");
  client.wait_until_arrived();
  client.send_bytes("\r");
  client.wait_until_arrived();
  client.send_bytes("\n");
  EXPECT_EQ(client.read().status, 400) << "an empty body is no question";
  EXPECT_EQ(ask(fresh()).status, 200);
}

TEST_F(gateway_test, pieces_go_out_as_they_come) {
  start({slow_phone(llama_server, 1'000)});
  http_client client(port_);
  client.post("/ask_stream", fresh());
  const auto got = client.read_lines(3);
  EXPECT_EQ(got.status, 200);
  EXPECT_FALSE(got.whole);
  EXPECT_LT(phones_->state(0).tokens, 100U) << "long before the answer is at its end";
}

TEST_F(gateway_test, reasoning_is_kept_apart) {
  auto thinker = phone(ollama, "one");
  thinker.thinking = true;
  start({thinker});
  const json body = ask(fresh()).object();
  EXPECT_EQ(body["message"]["content"], count(24));
  EXPECT_EQ(body["message"]["thinking"], " t1 t2 t3 t4");
}

TEST_F(gateway_test, one_connection_serves_many_requests) {
  start(four_phones());
  http_client client(port_);
  for (unsigned i = 1; i <= 20; ++i) {
    const auto got = client.ask(i % 2 == 0 ? "/ask" : "/ask_stream", fresh(i));
    ASSERT_EQ(got.status, 200);
    ASSERT_EQ(got.text(), count(i));
  }
  EXPECT_EQ(metric("pocketfleet_connections_total"), 1);
}

TEST_F(gateway_test, thirty_two_at_once_over_four_phones_are_all_whole) {
  auto four = four_phones();
  for (auto& p : four) p.decode_rate = 2'000;
  start(std::move(four));
  std::vector<std::string> wrong(32);
  std::vector<std::set<std::string>> served(32);
  std::vector<std::thread> clients;
  for (unsigned c = 0; c < 32; ++c) {
    clients.emplace_back([&, c] {
      http_client client(port_);
      for (unsigned i = 0; i < 4; ++i) {
        const unsigned tokens = 1 + (c * 7 + i * 13) % 40;
        const auto asked = question("client " + std::to_string(c) + " asks " + std::to_string(i), tokens);
        const auto got = client.ask((c + i) % 2 == 0 ? "/ask" : "/ask_stream", asked);
        if (got.status != 200 || !got.whole || got.text() != count(tokens)) wrong[c] = got.body + "!";
        served[c].insert(got.header("X-Phone"));
      }
    });
  }
  for (auto& c : clients) c.join();
  std::set<std::string> all;
  for (const auto& s : served) all.insert(s.begin(), s.end());
  EXPECT_THAT(wrong, testing::Each(""));
  EXPECT_THAT(all, testing::ElementsAre("l1", "l2", "o1", "o2"));
  EXPECT_TRUE(becomes_idle());
  EXPECT_EQ(requests_seen(), 128U);
  for (std::size_t i = 0; i < 4; ++i) {
    const auto s = phones_->state(i);
    EXPECT_EQ(s.completed, s.requests);
    EXPECT_LE(s.max_active, i < 2 ? 1U : 2U);
  }
}

TEST_F(gateway_test, a_batch_keeps_its_order_and_each_item_its_own_failure) {
  start(four_phones());
  json items = json::array();
  for (unsigned i = 1; i <= 12; ++i) items.push_back(question("item " + std::to_string(i), i));
  items[4] = {{"promt", "x"}};
  items[7]["model"] = "nobody:has-it";
  const auto check = [](const json& result, unsigned i) {
    EXPECT_EQ(result["ok"], i != 5 && i != 8) << result;
    if (result["ok"] == true) {
      EXPECT_EQ(result["data"]["message"]["content"], count(i));
    }
    if (i == 5) {
      EXPECT_THAT(result["error"].get<std::string>(), HasSubstr("did you mean \"prompt\""));
    }
    if (i == 8) {
      EXPECT_THAT(result["error"].get<std::string>(), HasSubstr("qwen2.5:1.5b"));
    }
  };
  const auto got = ask({{"requests", items}}, "/ask_batch");
  ASSERT_EQ(got.status, 200);
  const json results = got.object()["results"];
  ASSERT_EQ(results.size(), 12U);
  for (unsigned i = 1; i <= 12; ++i) check(results[i - 1], i);

  const auto lines =
      http_client(port_).ask("/ask_batch", {{"requests", items}}, "Accept: application/x-ndjson\r\n").lines();
  ASSERT_EQ(lines.size(), 12U);
  std::set<unsigned> seen;
  for (const auto& line : lines) {
    const auto index = line["index"].get<unsigned>();
    EXPECT_TRUE(seen.insert(index).second);
    check(line, index + 1);
  }
  EXPECT_TRUE(becomes_idle());
}

TEST_F(gateway_test, requests_that_no_phone_can_serve_are_refused) {
  start({phone(llama_server, "one")});
  auto got = ask({{"prompt", "x"}, {"model", "other"}});
  EXPECT_EQ(got.status, 404);
  EXPECT_THAT(got.object()["error"].get<std::string>(), HasSubstr("qwen2.5:1.5b"));
  got = ask({{"prompt", "x"}, {"keep_alive", 0}});
  EXPECT_EQ(got.status, 400);
  EXPECT_THAT(got.object()["error"].get<std::string>(), HasSubstr("keep_alive"));
  EXPECT_EQ(ask({{"promt", "x"}}).status, 400);
  EXPECT_EQ(requests_seen(), 0U);
}

// ---- the cache

TEST_F(gateway_test, a_repeated_question_is_answered_from_the_cache) {
  start({phone(ollama, "one")});
  const json asked = fresh(9);
  const auto first = ask(asked);
  const auto again = ask(asked);
  EXPECT_EQ(again.status, 200);
  EXPECT_EQ(again.header("X-Cache"), "hit");
  EXPECT_EQ(again.header("X-Phone"), "one");
  EXPECT_EQ(again.text(), first.text());
  EXPECT_EQ(again.object()["pocketfleet"]["cached"], true);
  EXPECT_EQ(again.object()["eval_count"], 9);

  const auto streamed = ask(asked, "/ask_stream");
  EXPECT_EQ(streamed.header("X-Cache"), "hit");
  EXPECT_TRUE(streamed.whole);
  EXPECT_EQ(streamed.lines().size(), 10U) << "replayed piece by piece";
  EXPECT_EQ(streamed.text(), count(9));
  EXPECT_EQ(requests_seen(), 1U);

  json past = asked;
  past["cache"] = false;
  EXPECT_EQ(ask(past).header("X-Cache"), "bypass");
  EXPECT_EQ(requests_seen(), 2U);
}

TEST_F(gateway_test, failures_and_abandoned_answers_are_not_kept) {
  start({slow_phone(ollama, 8)});
  const json asked = fresh();
  set(0, sim::fault_kind::error_500, 0, 1);
  EXPECT_EQ(ask(asked).status, 502);
  set(0, sim::fault_kind::error_in_stream, 3, 2);  // the second time where it goes on
  EXPECT_FALSE(ask(asked, "/ask_stream").whole);
  {
    http_client client(port_);
    client.post("/ask_stream", asked);
    client.read_lines(2);
  }
  ASSERT_TRUE(becomes_idle());
  const auto got = ask(asked);
  EXPECT_EQ(got.header("X-Cache"), "miss");
  EXPECT_EQ(got.text(), count(8));
  EXPECT_EQ(requests_seen(), 5U);
}

TEST_F(gateway_test, the_same_question_at_the_same_time_is_asked_once) {
  start({phone(llama_server, "one")});
  set(0, sim::fault_kind::hang, 0, 1);
  const json asked = fresh();
  std::vector<std::unique_ptr<http_client>> clients;
  for (int i = 0; i < 8; ++i) {
    clients.push_back(std::make_unique<http_client>(port_));
    clients.back()->post(i % 2 == 0 ? "/ask" : "/ask_stream", asked);
  }
  ASSERT_TRUE(await([&] { return metric("pocketfleet_cache_joined_total") == 7; }));
  phones_->clear_fault(0);
  for (auto& c : clients) {
    const auto got = c->read();
    EXPECT_EQ(got.status, 200);
    EXPECT_TRUE(got.whole);
    EXPECT_EQ(got.text(), count(24));
  }
  EXPECT_EQ(requests_seen(), 1U);
  EXPECT_TRUE(becomes_idle());
}

TEST_F(gateway_test, the_first_ones_leaving_does_not_fail_the_others) {
  start({phone(ollama, "one")});
  set(0, sim::fault_kind::hang, 0, 1);
  const json asked = fresh();
  http_client leader(port_);
  leader.post("/ask_stream", asked);
  ASSERT_TRUE(await([&] { return phones_->state(0).requests == 1; }));
  http_client follower(port_);
  http_client other(port_);
  follower.post("/ask_stream", asked);
  other.post("/ask", asked);
  ASSERT_TRUE(await([&] { return metric("pocketfleet_cache_joined_total") == 2; }));
  leader.leave();
  ASSERT_TRUE(await([&] { return metric("pocketfleet_connections") == 2; }));
  phones_->clear_fault(0);
  EXPECT_EQ(follower.read().text(), count(24));
  EXPECT_EQ(other.read().text(), count(24));
  EXPECT_EQ(requests_seen(), 1U);
  EXPECT_EQ(phones_->state(0).cancelled, 0U);
}

TEST_F(gateway_test, when_all_who_asked_have_left_the_phone_is_told_to_stop) {
  start({slow_phone(ollama, 10'000)});
  const json asked = fresh();
  http_client first(port_);
  first.post("/ask_stream", asked);
  first.read_lines(1);
  http_client second(port_);
  second.post("/ask", asked);
  ASSERT_TRUE(await([&] { return metric("pocketfleet_cache_joined_total") == 1; }));
  first.leave();
  ASSERT_TRUE(await([&] { return metric("pocketfleet_connections") == 1; }));
  EXPECT_EQ(phones_->state(0).active, 1U);
  second.leave();
  EXPECT_TRUE(await([&] { return phones_->state(0).cancelled == 1; }));
  EXPECT_TRUE(becomes_idle());
}

}  // namespace
}  // namespace pocketfleet::testing_gateway
