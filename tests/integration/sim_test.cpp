// What simulated phones of both engines have in common: rates, slots, faults.
#include "sim_helpers.hpp"

namespace pocketfleet::sim_test {
namespace {

class sim_engine : public sim_phone, public testing::WithParamInterface<engine_kind> {
 protected:
  void SetUp() override { run(fast(GetParam())); }
  bool ollama() const { return GetParam() == engine_kind::ollama; }
  std::string route() const { return ollama() ? "/api/chat" : "/v1/chat/completions"; }
  std::string probe() const { return ollama() ? "/api/version" : "/health"; }
  json body(unsigned tokens, bool stream = true) const {
    return ollama() ? ollama_chat(tokens, stream) : llama_chat(tokens, stream);
  }
  std::string text(const answer& got) const { return ollama() ? ollama_text(got) : llama_text(got); }
  answer chat(unsigned tokens = 5) { return ask(route(), body(tokens)); }
};

INSTANTIATE_TEST_SUITE_P(both, sim_engine, testing::Values(engine_kind::ollama, engine_kind::llama_server),
                         [](const auto& each) {
                           return each.param == engine_kind::ollama ? "ollama" : "llama";
                         });

TEST_P(sim_engine, is_fast_when_told_so) {
  const answer got = chat(3000);
  EXPECT_EQ(text(got), count(1, 3000));
  EXPECT_EQ(got.chunks.size(), ollama() ? 3001U : 3002U);
}

TEST_P(sim_engine, keeps_to_its_rates) {
  auto settings = fast(GetParam());
  settings.prefill_rate = 400;
  settings.decode_rate = 200;
  run(settings);
  json long_prompt = body(10);
  long_prompt["messages"][0]["content"] = std::string(80, 'x');  // with the template some 30 tokens
  const auto begun = std::chrono::steady_clock::now();
  client one(port());
  one.post(route(), long_prompt);
  answer got = one.read(1);
  const auto first = std::chrono::steady_clock::now() - begun;
  one.read_on(got);
  const auto whole = std::chrono::steady_clock::now() - begun;
  EXPECT_GE(first, milliseconds(60));
  EXPECT_GE(whole, milliseconds(60 + 40));  // nine more tokens of 5 ms
}

TEST_P(sim_engine, queues_behind_its_slots) {
  auto settings = fast(GetParam());
  settings.slots = 2;
  settings.decode_rate = 20;
  run(settings);
  std::vector<std::unique_ptr<client>> all;
  for (unsigned i = 0; i < 4; ++i) {
    all.push_back(std::make_unique<client>(port()));
    all.back()->post(route(), body(i < 2 ? 1000 : 1));
    ASSERT_TRUE(becomes([&](const phone_state& s) { return s.active + s.waiting == i + 1; }));
  }
  EXPECT_EQ(state().active, 2U);
  all[3].reset();  // leaves the line
  ASSERT_TRUE(becomes([](const phone_state& s) { return s.waiting == 1 && s.cancelled == 1; }));
  all[0].reset();  // leaves its slot to the next one
  EXPECT_EQ(text(all[2]->read()), " 1");
  all[1]->half_close();  // counts as leaving too
  EXPECT_TRUE(becomes([](const phone_state& s) { return s.active == 0 && s.cancelled == 3; }));
  EXPECT_EQ(state().max_active, 2U);
  EXPECT_EQ(state().completed, 1U);
  EXPECT_EQ(state().requests, 4U);
}

TEST_P(sim_engine, stops_within_milliseconds_when_the_client_leaves) {
  auto settings = fast(GetParam());
  settings.decode_rate = 1;
  run(settings);
  for (const bool stream : {true, false}) {
    auto leaving = std::make_unique<client>(port());
    leaving->post(route(), body(100, stream));
    ASSERT_TRUE(becomes([](const phone_state& s) { return s.active == 1; }));
    const auto begun = std::chrono::steady_clock::now();
    leaving.reset();
    ASSERT_TRUE(becomes([](const phone_state& s) { return s.active == 0; }));
    EXPECT_LT(std::chrono::steady_clock::now() - begun, milliseconds(500));
  }
  EXPECT_EQ(state().cancelled, 2U);
  EXPECT_TRUE(becomes([](const phone_state& s) { return s.connections == 0; }));
}

TEST_P(sim_engine, stops_when_the_client_leaves_without_reading) {
  auto leaving = std::make_unique<client>(port());
  leaving->post(route(), ollama() ? ollama_chat(1'000'000) : llama_chat(1'000'000));
  ASSERT_TRUE(becomes([](const phone_state& s) { return s.tokens > 3000; }));
  leaving.reset();
  EXPECT_TRUE(becomes([](const phone_state& s) { return s.active == 0 && s.connections == 0; }));
}

TEST_P(sim_engine, answers_errors) {
  const auto message = [&](const answer& got) {
    const json error = got.object()["error"];
    return (ollama() ? error : error["message"]).get<std::string>();
  };
  set(fault_kind::error_500);
  EXPECT_EQ(get(probe()).status, 200U);  // probes are not hit, nor do they use it up
  EXPECT_EQ(chat().status, 500U);
  EXPECT_EQ(chat().status, 200U);
  set(fault_kind::busy_503);
  const answer busy = chat();
  EXPECT_EQ(busy.status, 503U);
  if (ollama()) {
    EXPECT_EQ(message(busy), "server busy, please try again.  maximum pending requests exceeded");
  }
  set(fault_kind::loading_503);
  EXPECT_NE(message(chat()).find("oading model"), std::string::npos);
  set(fault_kind::html);
  EXPECT_EQ(chat().headers.at("content-type"), "text/html; charset=utf-8");
  set(fault_kind::error_in_stream, 0);
  EXPECT_EQ(chat().status, 500U);
  EXPECT_EQ(state().failed, 5U);
}

TEST_P(sim_engine, breaks_streams) {
  set(fault_kind::reset_after, 0);
  answer got = chat();
  EXPECT_EQ(got.status, 0U);
  EXPECT_EQ(got.end, ending::reset);
  set(fault_kind::reset_after, 3);
  got = chat();
  EXPECT_EQ(text(got), " 1 2 3");
  EXPECT_EQ(got.end, ending::reset);
  set(fault_kind::reset_after, 1000);  // a shorter answer is hit at its end
  got = chat();
  EXPECT_EQ(text(got), count(1, 5));
  EXPECT_EQ(got.end, ending::reset);
  set(fault_kind::close_after, 0);
  EXPECT_EQ(chat().end, ending::closed);
  set(fault_kind::close_after, 2);
  got = chat();
  EXPECT_EQ(text(got), " 1 2");
  EXPECT_EQ(got.end, ending::closed);
  set(fault_kind::truncated, 2);
  got = chat();
  EXPECT_EQ(text(got), " 1 2");
  EXPECT_EQ(got.end, ending::closed);
  set(fault_kind::end_without_done, 2);
  got = chat();
  EXPECT_EQ(text(got), " 1 2");
  EXPECT_EQ(got.end, ending::whole);
  EXPECT_EQ(got.body.find(ollama() ? "\"done\":true" : "[DONE]"), std::string::npos);
  set(fault_kind::error_in_stream, 2);
  got = chat();
  EXPECT_EQ(got.end, ending::whole);
  EXPECT_EQ(text(got), " 1 2");
  EXPECT_NE(got.chunks.back().find("{\"error\":"), std::string::npos);
  set(fault_kind::garbage, 2);
  got = chat();
  EXPECT_EQ(text(got), count(1, 5));
  EXPECT_NE(got.body.find("}{"), std::string::npos);
  set(fault_kind::huge_line, 2);
  got = chat();
  EXPECT_GT(got.body.size(), 2'000'000U);
  EXPECT_EQ(text(got), count(1, 5));
  EXPECT_EQ(text(chat()), count(1, 5));  // each of them once
  EXPECT_TRUE(
      becomes([](const phone_state& s) { return s.active == 0 && s.requests == s.completed + s.failed; }));
}

TEST_P(sim_engine, breaks_whole_answers) {
  for (const fault_kind kind : {fault_kind::reset_after, fault_kind::close_after, fault_kind::truncated}) {
    set(kind, 2);
    EXPECT_NE(ask(route(), body(5, false)).end, ending::whole) << to_string(kind);
  }
  set(fault_kind::error_in_stream, 2);
  EXPECT_EQ(ask(route(), body(5, false)).status, 500U);
  set(fault_kind::end_without_done, 2);
  const answer got = ask(route(), body(5, false));
  EXPECT_NE(got.body.find("\" 1 2\""), std::string::npos);
  if (ollama()) {
    EXPECT_EQ(got.object()["done"], false);
  }
}

TEST_P(sim_engine, falls_silent) {
  set(fault_kind::silent_after, 2);
  auto one = std::make_unique<client>(port());
  one->post(route(), body(5));
  answer got = one->read(2);
  EXPECT_EQ(text(got), " 1 2");
  EXPECT_EQ(one->silence(milliseconds(30)), ending::open);
  EXPECT_EQ(state().active, 1U);  // the slot stays taken
  EXPECT_EQ(get(probe()).status, 200U);
  one.reset();
  EXPECT_TRUE(becomes([](const phone_state& s) { return s.active == 0 && s.failed == 1; }));
}

TEST_P(sim_engine, hangs_and_comes_back) {
  set(fault_kind::hang, 0, 0);
  client probing(port());
  client asking(port());
  probing.send("GET", probe());
  asking.post(route(), body(3));
  EXPECT_EQ(probing.silence(milliseconds(20)), ending::open);
  EXPECT_EQ(asking.silence(milliseconds(1)), ending::open);
  EXPECT_EQ(get("/sim/state").object()["fault"], "hang");
  EXPECT_EQ(client(port()).send("DELETE", "/sim/fault").read().status, 200U);
  EXPECT_EQ(probing.read().status, 200U);
  EXPECT_EQ(text(asking.read()), " 1 2 3");  // nothing was lost
  set(fault_kind::hang, 0, 1, milliseconds(50));
  client once(port());
  once.post(route(), body(3));
  ASSERT_TRUE(becomes([](const phone_state& s) { return s.requests == 2; }));
  EXPECT_EQ(get(probe()).status, 200U);
  EXPECT_EQ(text(once.read()), " 1 2 3");
}

TEST_P(sim_engine, refuses_connections_for_a_while) {
  client idle(port());
  EXPECT_EQ(idle.get(probe()).status, 200U);
  EXPECT_EQ(client(port()).ask("/sim/fault", json{{"kind", "refuse"}}).status,
            400U);  // nobody could clear it
  EXPECT_EQ(client(port()).ask("/sim/fault", json{{"kind", "refuse"}, {"duration_ms", 60}}).status, 200U);
  EXPECT_FALSE(client(port()).connected());
  EXPECT_EQ(idle.silence(milliseconds(500)), ending::closed);
  EXPECT_TRUE(becomes([](const phone_state& s) { return s.fault_now == fault_kind::none; }));
  EXPECT_EQ(text(chat()), count(1, 5));
}

TEST_P(sim_engine, crashes_and_starts_again) {
  auto settings = fast(GetParam());
  settings.decode_rate = 20;
  run(settings);
  client one(port());
  one.post(route(), body(1000));
  answer got = one.read(1);
  set(fault_kind::crash, 0, 0);
  one.read_on(got);
  EXPECT_EQ(got.end, ending::reset);
  EXPECT_FALSE(client(port()).connected());
  phones_->clear_fault(0);
  EXPECT_EQ(text(ask(route(), body(1))), " 1");
  const std::uint16_t before = port();
  phones_->stop_phone(0);
  EXPECT_FALSE(client(before).connected());
  phones_->start_phone(0);
  EXPECT_EQ(port(), before);
  EXPECT_EQ(text(ask(route(), body(1))), " 1");
}

TEST_P(sim_engine, slows_down_on_command) {
  auto settings = fast(GetParam());
  settings.decode_rate = 500;
  run(settings);
  fault slow;
  slow.kind = fault_kind::slow;
  slow.factor = 0.1;
  slow.times = 1;
  phones_->set(0, slow);
  const auto begun = std::chrono::steady_clock::now();
  EXPECT_EQ(text(chat(5)), count(1, 5));
  EXPECT_GE(std::chrono::steady_clock::now() - begun, milliseconds(90));  // 20 ms a token
}

TEST_P(sim_engine, reads_slowly_too_while_it_is_slow) {
  auto settings = fast(GetParam());
  settings.prefill_rate = 1000;
  run(settings);
  fault slow;
  slow.kind = fault_kind::slow;
  slow.factor = 0.1;
  phones_->set(0, slow);
  json long_prompt = body(1);
  long_prompt["messages"][0]["content"] = std::string(80, 'x');  // with the template some 30 tokens
  const auto begun = std::chrono::steady_clock::now();
  EXPECT_EQ(text(ask(route(), long_prompt)), " 1");
  EXPECT_GE(std::chrono::steady_clock::now() - begun, milliseconds(200));
}

TEST_P(sim_engine, shares_its_speed_if_told_so) {
  auto settings = fast(GetParam());
  settings.slots = 2;
  settings.decode_rate = 200;
  settings.gain_of_more = 0;
  run(settings);
  client beside(port());
  beside.post(route(), body(100'000));
  ASSERT_TRUE(becomes([](const phone_state& s) { return s.tokens > 0; }));
  const auto begun = std::chrono::steady_clock::now();
  EXPECT_EQ(text(chat(20)), count(1, 20));
  EXPECT_GE(std::chrono::steady_clock::now() - begun, milliseconds(150));  // 100 alone, 200 for two
}

TEST_P(sim_engine, is_steered_over_http) {
  client one(port());
  const json fault_body{{"kind", "reset_after"}, {"after_tokens", 3}, {"times", 1}};
  EXPECT_EQ(one.ask("/sim/fault", fault_body).object()["fault"], "reset_after");
  EXPECT_EQ(one.get("/sim/state").object()["fault"], "reset_after");
  EXPECT_EQ(text(chat()), " 1 2 3");
  const json state_now = one.get("/sim/state").object();
  EXPECT_EQ(state_now["fault"], "none");
  EXPECT_EQ(state_now["requests"], 1);
  EXPECT_EQ(state_now["failed"], 1);
  EXPECT_EQ(state_now["tokens"], 3);
  EXPECT_EQ(one.get("/sim/last").object()["target"], route());
  EXPECT_EQ(json::parse(one.get("/sim/last").object()["body"].get<std::string>()), body(5));
  for (const char* wrong : {"{}", "x", R"({"kind":"none","times":-1})", R"({"kind":"slow","factor":0})", ""})
    EXPECT_EQ(one.send("POST", "/sim/fault", wrong).read().status, 400U) << wrong;
  EXPECT_EQ(one.get("/sim/nothing").status, 404U);
}

TEST_P(sim_engine, gets_hot_and_cools_down) {
  auto settings = fast(GetParam());
  settings.decode_rate = 500;
  settings.slowest = 0.25;
  settings.heats_in = milliseconds(60);
  settings.cools_in = milliseconds(60);
  run(settings);
  EXPECT_EQ(state().speed_share, 1);
  client one(port());
  one.post(route(), body(1000));
  ASSERT_TRUE(becomes([](const phone_state& s) { return s.speed_share == 0.25; }));
  const std::uint64_t hot = state().tokens;
  const auto begun = std::chrono::steady_clock::now();
  ASSERT_TRUE(becomes([&](const phone_state& s) { return s.tokens >= hot + 20; }));
  EXPECT_GE(std::chrono::steady_clock::now() - begun, milliseconds(120));  // 8 ms each; 2 ms when cold
  one.half_close();
  EXPECT_TRUE(becomes([](const phone_state& s) { return s.speed_share == 1 && s.temperature_share == 0; }));
}

TEST_P(sim_engine, survives_malformed_input) {
  EXPECT_EQ(client(port()).raw("GARBAGE\r\n\r\n").read().status, 400U);
  EXPECT_EQ(
      client(port()).raw("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n").read().status,
      400U);
  const std::string chunked = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  EXPECT_EQ(client(port()).raw(chunked + "zz\r\n").read().status, 400U);
  client trailer(port());
  trailer.raw(chunked + "0\r\nX: " + std::string(100'000, 'x') + "\r\n\r\n");
  EXPECT_NE(trailer.read().status, 200U);
  client header(port());
  header.raw("GET / HTTP/1.1\r\nX: " + std::string(100'000, 'x') + "\r\n\r\n");
  EXPECT_NE(header.read().status, 200U);
  client two_lengths(port());
  two_lengths.raw("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx");
  EXPECT_EQ(two_lengths.read().status, 400U);
  client half(port());
  half.raw("POST " + route() + " HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{");
  half.half_close();
  EXPECT_NE(half.read().end, ending::whole);
  for (const char* body :
       {"null", "[]", "1", "\"x\"", "{\"messages\":[1]}", "{\"model\":\"qwen2.5:1.5b\",\"messages\":[[]]}",
        "{\"model\":[],\"options\":1}", "{\"prompt\":{}}", "\xff\xfe"}) {
    for (const char* path :
         {"/api/chat", "/api/generate", "/api/embed", "/api/show", "/completion", "/tokenize",
          "/v1/chat/completions", "/apply-template", "/detokenize", "/sim/fault"}) {
      EXPECT_NE(client(port()).send("POST", path, body).read().status, 0U) << path << ' ' << body;
    }
  }
  EXPECT_EQ(text(chat()), count(1, 5));
}

TEST_P(sim_engine, takes_bodies_as_clients_send_them) {
  const std::string text_body = body(2).dump();
  char size[20];
  std::snprintf(size, sizeof size, "%zx", text_body.size());
  const std::string head = "POST " + route() + " HTTP/1.1\r\nHost: a\r\n";
  client chunked(port());
  chunked.raw(head + "Transfer-Encoding: chunked\r\n\r\n" + size + "\r\n" + text_body + "\r\n0\r\n\r\n");
  EXPECT_EQ(text(chunked.read()), " 1 2");
  client expecting(port());
  expecting.raw(head + "Expect: 100-continue\r\nContent-Length: " + std::to_string(text_body.size()) +
                "\r\n\r\n");
  EXPECT_EQ(expecting.read(0, true).status, 100U);
  EXPECT_EQ(text(expecting.raw(text_body).read()), " 1 2");
  if (ollama()) {
    client pipelined(port());
    pipelined.send("POST", route(), text_body);
    pipelined.send("POST", route(), text_body);
    EXPECT_EQ(text(pipelined.read()), " 1 2");
    EXPECT_EQ(text(pipelined.read()), " 1 2");
  }
}

}  // namespace
}  // namespace pocketfleet::sim_test
