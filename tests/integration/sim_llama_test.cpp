// The simulated llama-server as a client sees it on the wire.
#include "sim_helpers.hpp"

namespace pocketfleet::sim_test {
namespace {

TEST_F(sim_llama, tells_what_it_is_and_has) {
  client one(port());
  const answer health = one.get("/health");
  EXPECT_EQ(health.body, R"({"status":"ok"})");
  EXPECT_EQ(health.headers.at("server"), "llama.cpp");
  EXPECT_EQ(health.headers.at("keep-alive"), "timeout=5, max=100");
  EXPECT_EQ(one.get("/v1/models").object()["data"][0]["id"], "qwen2.5:1.5b");
  EXPECT_EQ(one.get("/props").object()["total_slots"], 1);
  EXPECT_EQ(one.get("/slots").object()[0]["is_processing"], false);
  EXPECT_NE(one.get("/metrics").body.find("\nllamacpp:requests_processing 0\n"), std::string::npos);
  const json with_pieces =
      one.ask("/tokenize", json{{"content", "h\xc3\xa9 41 42"}, {"with_pieces", true}}).object();
  EXPECT_EQ(with_pieces["tokens"].back()["piece"], " 42");
  const json tokens = one.ask("/tokenize", json{{"content", "hello w\xc3\xa9rld 41 42"}}).object();
  EXPECT_EQ(one.ask("/detokenize", tokens).object()["content"], "hello w\xc3\xa9rld 41 42");
  EXPECT_EQ(one.ask("/apply-template", chat_body(" 1 2")).object()["prompt"],
            "<|im_start|>user\ncount<|im_end|>\n<|im_start|>assistant\n 1 2");
  EXPECT_EQ(one.get("/").object()["error"]["type"], "not_found_error");
  EXPECT_EQ(one.silence(milliseconds(500)), ending::closed);  // as after every error
}

TEST_F(sim_llama, streams_a_chat) {
  json body = llama_chat(2);
  body["stream_options"]["include_usage"] = true;
  client one(port());
  const answer got = one.ask("/v1/chat/completions", body);
  EXPECT_EQ(got.headers.at("content-type"), "text/event-stream");
  EXPECT_EQ(got.end, ending::whole);
  ASSERT_EQ(got.chunks.size(), 4U);  // role and first token, second token, finish and usage, [DONE]
  const auto events = got.events();
  ASSERT_EQ(events.size(), 6U);
  EXPECT_EQ(json::parse(events[0])["choices"],
            json::parse(R"([{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}])"));
  EXPECT_EQ(json::parse(events[1])["choices"],
            json::parse(R"([{"finish_reason":null,"index":0,"delta":{"content":" 1"}}])"));
  EXPECT_EQ(json::parse(events[3])["choices"],
            json::parse(R"([{"finish_reason":"length","index":0,"delta":{}}])"));
  EXPECT_EQ(json::parse(events[4])["choices"], json::array());
  EXPECT_EQ(json::parse(events[4])["usage"]["completion_tokens"], 2);
  EXPECT_EQ(json::parse(events[4])["timings"]["predicted_n"], 2);
  EXPECT_EQ(events[5], "[DONE]");
  EXPECT_EQ(llama_text(got), " 1 2");
  EXPECT_EQ(one.silence(milliseconds(500)), ending::closed);
}

TEST_F(sim_llama, shows_progress_of_prefill) {
  json body = llama_chat(1);
  body["return_progress"] = true;
  body["messages"][0]["content"] = std::string(800, 'x');
  const auto events = ask("/v1/chat/completions", body).events();
  const json first = json::parse(events[0]);
  EXPECT_EQ(first["prompt_progress"]["processed"], 0);
  EXPECT_GT(first["prompt_progress"]["total"], 200);
  EXPECT_GT(json::parse(events[2])["prompt_progress"]["processed"], 0);
}

TEST_F(sim_llama, sends_pings_while_it_says_nothing) {
  auto settings = fast(engine_kind::llama_server);
  settings.decode_rate = 10;
  settings.sse_ping = milliseconds(30);
  run(settings);
  const auto events = ask("/v1/chat/completions", llama_chat(2)).events();
  EXPECT_EQ(events[0][0], '{');  // nothing before the header, which comes with the first token
  EXPECT_GE(std::count(events.begin(), events.end(), ":"), 2);
}

TEST_F(sim_llama, goes_on_counting) {
  EXPECT_EQ(llama_text(ask("/v1/chat/completions", llama_chat(2, true, " 1 2 3"))), " 4 5");
  const json whole = ask("/v1/chat/completions", llama_chat(2, false, " 1 2 3")).object();
  EXPECT_EQ(whole["choices"][0]["message"]["content"], " 1 2 3 4 5");
  EXPECT_EQ(whole["usage"]["completion_tokens"], 2);
  json both = llama_chat(2, true, " 1");
  both["continue_final_message"] = true;
  EXPECT_EQ(ask("/v1/chat/completions", both).status, 400U);
  both["add_generation_prompt"] = false;
  EXPECT_EQ(llama_text(ask("/v1/chat/completions", both)), " 2 3");

  auto echoing = fast(engine_kind::llama_server);
  echoing.echoes_prefill = true;
  run(echoing);
  EXPECT_EQ(llama_text(ask("/v1/chat/completions", llama_chat(2, true, " 1 2 3"))), " 1 2 3 4 5");
  EXPECT_EQ(llama_text(ask("/v1/chat/completions", both)), " 2 3");
}

TEST_F(sim_llama, completes) {
  const json got =
      ask("/completion", json{{"prompt", "hi 4"}, {"n_predict", 3}, {"return_tokens", true}}).object();
  EXPECT_EQ(got["content"], " 5 6 7");
  EXPECT_EQ(got["tokens"].size(), 3U);
  EXPECT_EQ(got["stop_type"], "limit");
  EXPECT_EQ(got["prompt"], "hi 4");
  json prompt = json::array({"hi"});
  for (const json& id : got["tokens"]) prompt.push_back(id);
  const auto events =
      ask("/completion", json{{"prompt", prompt}, {"n_predict", 2}, {"stream", true}}).events();
  ASSERT_EQ(events.size(), 3U);  // no [DONE]
  EXPECT_EQ(json::parse(events[0])["content"], " 8");
  EXPECT_EQ(json::parse(events[0])["stop"], false);
  EXPECT_EQ(json::parse(events[2])["stop"], true);
  EXPECT_EQ(json::parse(events[2])["content"], "");
  const json stopped = ask("/completion", json{{"prompt", "a"}, {"stop", json::array({"3"})}}).object();
  EXPECT_EQ(stopped["content"], " 1 2 ");
  EXPECT_EQ(stopped["stop_type"], "word");
  EXPECT_EQ(stopped["stopping_word"], "3");
  EXPECT_EQ(ask("/completion", json{{"prompt", "a"}}).object()["stop_type"], "eos");
}

TEST_F(sim_llama, refuses_as_llama_server_does) {
  const auto error = [](const answer& got) {
    const json body = got.object();
    EXPECT_EQ(body["error"]["code"], got.status);
    return body["error"]["type"].get<std::string>() + ": " + body["error"]["message"].get<std::string>();
  };
  EXPECT_EQ(error(ask("/v1/chat/completions", json::object())),
            "invalid_request_error: 'messages' is required");
  EXPECT_EQ(error(ask("/api/chat", json::object())), "not_found_error: File Not Found");
  json two = llama_chat(1, true, "a");
  two["messages"].push_back(two["messages"].back());
  EXPECT_EQ(error(ask("/v1/chat/completions", two)),
            "invalid_request_error: Cannot have 2 or more assistant messages at the end of the list.");
  json text = llama_chat(1);
  text["max_tokens"] = "3";
  EXPECT_EQ(ask("/v1/chat/completions", text).status, 400U);
  json longer = llama_chat(1);
  longer["messages"][0]["content"] = std::string(20000, 'x');
  const answer too_long = ask("/v1/chat/completions", longer);
  EXPECT_EQ(error(too_long).find("exceed_context_size_error: request (50"), 0U);
  EXPECT_EQ(too_long.object()["error"]["n_ctx"], 4096);
}

TEST_F(sim_llama, says_that_it_is_loading) {
  auto settings = fast(engine_kind::llama_server);
  settings.load_time = milliseconds(100);
  run(settings);
  const answer got = get("/health");
  EXPECT_EQ(got.status, 503U);
  EXPECT_EQ(got.object(),
            json::parse(R"({"error":{"code":503,"message":"Loading model","type":"unavailable_error"}})"));
  EXPECT_EQ(ask("/v1/chat/completions", llama_chat(1)).status, 503U);
  EXPECT_TRUE(becomes([](const phone_state& s) { return !s.loaded.empty(); }));
  EXPECT_EQ(get("/health").status, 200U);
}

TEST_F(sim_llama, closes_idle_and_long_used_connections) {
  auto settings = fast(engine_kind::llama_server);
  settings.idle_close = milliseconds(500);
  run(settings);
  client one(port());
  EXPECT_EQ(one.get("/health").status, 200U);
  EXPECT_EQ(one.silence(patience), ending::closed);
  client two(port());
  for (int i = 0; i < 99; ++i) EXPECT_EQ(two.get("/health").headers.count("connection"), 0U);
  EXPECT_EQ(two.get("/health").headers.at("connection"), "close");
  EXPECT_EQ(two.silence(patience), ending::closed);
}

TEST_F(sim_llama, ends_when_the_context_is_full) {
  auto settings = fast(engine_kind::llama_server);
  settings.context = 64;
  run(settings);
  const json got = ask("/completion", json{{"prompt", "a"}, {"n_predict", 1000}}).object();
  EXPECT_EQ(got["tokens_predicted"], 63);
  EXPECT_EQ(got["truncated"], true);
  EXPECT_EQ(got["stop_type"], "limit");
}

}  // namespace
}  // namespace pocketfleet::sim_test
