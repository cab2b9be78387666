// The simulated Ollama as a client sees it on the wire.
#include "sim_helpers.hpp"

namespace pocketfleet::sim_test {
namespace {

TEST_F(sim_ollama, tells_what_it_is_and_has) {
  client one(port());  // all on one connection
  EXPECT_EQ(one.get("/").body, "Ollama is running");
  EXPECT_EQ(one.send("HEAD", "/").read(0, true).status, 200U);
  EXPECT_EQ(one.get("/api/version").object()["version"], "0.33.0");
  const json tags = one.get("/api/tags").object();
  ASSERT_EQ(tags["models"].size(), 1U);
  EXPECT_EQ(tags["models"][0]["name"], "qwen2.5:1.5b");
  EXPECT_EQ(tags["models"][0]["digest"].get<std::string>().size(), 64U);
  EXPECT_EQ(one.get("/api/ps").object(), json::parse(R"({"models":[]})"));
  EXPECT_EQ(one.ask("/api/show", json{{"model", "QWEN2.5:1.5b"}}).object()["capabilities"][0], "completion");
  EXPECT_EQ(one.ask("/api/show", json{{"model", "x"}}).status, 404U);
  EXPECT_EQ(one.get("/nothing").status, 404U);
  EXPECT_EQ(one.get("/api/chat").status, 405U);
  EXPECT_EQ(state().requests, 0U);
}

TEST_F(sim_ollama, streams_a_chat) {
  const answer got = ask("/api/chat", ollama_chat(3));
  EXPECT_EQ(got.status, 200U);
  EXPECT_EQ(got.headers.at("content-type"), "application/x-ndjson");
  EXPECT_EQ(got.end, ending::whole);
  ASSERT_EQ(got.chunks.size(), 4U);
  const json first = json::parse(got.chunks[0]);
  EXPECT_EQ(first["model"], "qwen2.5:1.5b");
  EXPECT_EQ(first["message"], (json{{"role", "assistant"}, {"content", " 1"}}));
  EXPECT_EQ(first["done"], false);
  EXPECT_EQ(first["created_at"].get<std::string>().size(),
            std::string("2026-01-02T03:04:05.678901234Z").size());
  const json last = json::parse(got.chunks[3]);
  EXPECT_EQ(last["message"]["content"], "");
  EXPECT_EQ(last["done"], true);
  EXPECT_EQ(last["done_reason"], "length");
  EXPECT_EQ(last["eval_count"], 3);
  EXPECT_GT(last["prompt_eval_count"], 5);
  EXPECT_GT(last["total_duration"], 0);
  EXPECT_EQ(ollama_text(got), " 1 2 3");
  EXPECT_TRUE(
      becomes([](const phone_state& s) { return s.completed == 1 && s.active == 0 && s.tokens == 3; }));
}

TEST_F(sim_ollama, answers_whole_without_a_stream) {
  const answer got = ask("/api/chat", ollama_chat(0, false));
  EXPECT_EQ(got.headers.at("content-type"), "application/json; charset=utf-8");
  EXPECT_EQ(got.object()["message"]["content"], count(1, 24));
  EXPECT_EQ(got.object()["done_reason"], "stop");
  const answer text =
      ask("/api/generate", json{{"model", "qwen2.5:1.5b"}, {"prompt", "x 9"}, {"stream", false}});
  EXPECT_EQ(text.object()["response"], count(1, 24));
  EXPECT_GT(text.object()["context"].size(), 24U);
}

TEST_F(sim_ollama, goes_on_counting) {
  EXPECT_EQ(ollama_text(ask("/api/chat", ollama_chat(2, true, " 1 2 3"))), " 4 5");
  EXPECT_EQ(ollama_text(ask("/api/chat", ollama_chat(0, true, " 1 2 3"))), count(4, 24));
  const json raw{{"model", "qwen2.5:1.5b"},
                 {"prompt", "a b 41"},
                 {"raw", true},
                 {"stream", false},
                 {"options", {{"num_predict", 2}}}};
  EXPECT_EQ(ask("/api/generate", raw).object()["response"], " 42 43");
  EXPECT_FALSE(ask("/api/generate", raw).object().contains("context"));

  auto closing = fast(engine_kind::ollama);
  closing.continues = false;
  run(closing);
  EXPECT_EQ(ollama_text(ask("/api/chat", ollama_chat(2, true, " 1 2 3"))), " 1 2");
}

TEST_F(sim_ollama, renders_without_running) {
  json body = ollama_chat(0, true, "SENTINEL");
  body["_debug_render_only"] = true;
  const auto text = ask("/api/chat", body).object()["_debug_info"]["rendered_template"].get<std::string>();
  EXPECT_EQ(text, "<|im_start|>user\ncount<|im_end|>\n<|im_start|>assistant\nSENTINEL");
  EXPECT_EQ(state().requests, 0U);
  EXPECT_EQ(state().loaded, "qwen2.5:1.5b");
}

TEST_F(sim_ollama, heeds_stop_strings) {
  json body = ollama_chat(0, false);
  body["options"]["stop"] = json::array({"4 5", "zzz"});
  const json got = ask("/api/chat", body).object();
  EXPECT_EQ(got["message"]["content"], " 1 2 3 ");
  EXPECT_EQ(got["done_reason"], "stop");
  body["options"] = json{{"num_predict", 4}, {"stop", json::array({" 4 5"})}};
  EXPECT_EQ(ask("/api/chat", body).object()["message"]["content"],
            " 1 2 3 4");  // what was held back comes in the end
}

TEST_F(sim_ollama, refuses_as_ollama_does) {
  const auto error = [](const answer& got) {
    return std::to_string(got.status) + ' ' + got.object().value("error", "");
  };
  EXPECT_EQ(error(client(port()).send("POST", "/api/chat").read()), "400 missing request body");
  EXPECT_EQ(client(port()).send("POST", "/api/chat", "{x").read().status, 400U);
  EXPECT_EQ(client(port()).send("POST", "/api/chat", std::string(100000, '[')).read().status, 400U);
  EXPECT_EQ(error(ask("/api/chat", json{{"model", "nope"}})), "404 model 'nope' not found");
  EXPECT_EQ(error(ask("/api/embed", json{{"model", "nope"}, {"input", "x"}})),
            "404 model \"nope\" not found, try pulling it first");
  json body = ollama_chat(0);
  body["options"]["num_predict"] = "128";
  EXPECT_EQ(error(ask("/api/chat", body)), "500 option \"num_predict\" must be of type integer");
  body = ollama_chat(0);
  body["keep_alive"] = "300";
  EXPECT_EQ(error(ask("/api/chat", body)), "400 time: missing unit in duration \"300\"");
  body = ollama_chat(0);
  body["think"] = true;
  EXPECT_EQ(error(ask("/api/chat", body)), "400 \"qwen2.5:1.5b\" does not support thinking");
  body["think"] = false;
  EXPECT_EQ(ask("/api/chat", body).status, 200U);
  const json raw{{"model", "qwen2.5:1.5b"}, {"prompt", "x"}, {"raw", true}, {"system", "s"}};
  EXPECT_EQ(error(ask("/api/generate", raw)), "400 raw mode does not support template, system, or context");
}

TEST_F(sim_ollama, thinks_unless_told_not_to) {
  auto settings = fast(engine_kind::ollama);
  settings.thinking = true;
  run(settings);
  const json got = ask("/api/chat", ollama_chat(0, false)).object();
  EXPECT_EQ(got["message"]["thinking"], " t1 t2 t3 t4");
  EXPECT_EQ(got["message"]["content"], count(1, 24));
  EXPECT_EQ(got["eval_count"], 28);
  json body = ollama_chat(0, false);
  body["think"] = false;
  EXPECT_FALSE(ask("/api/chat", body).object()["message"].contains("thinking"));
}

TEST_F(sim_ollama, embeds_only_when_the_model_can) {
  const json body{{"model", "qwen2.5:1.5b"}, {"input", json::array({"a", "b"})}};
  EXPECT_EQ(ask("/api/embed", body).status, 501U);
  EXPECT_EQ(state().loads, 1U);  // the model was loaded to find that out
  auto settings = fast(engine_kind::ollama);
  settings.embedding = true;
  run(settings);
  const json got = ask("/api/embed", body).object();
  ASSERT_EQ(got["embeddings"].size(), 2U);
  double length = 0;
  for (const auto& each : got["embeddings"][0]) length += each.get<double>() * each.get<double>();
  EXPECT_NEAR(length, 1, 1e-9);
  EXPECT_NE(got["embeddings"][0], got["embeddings"][1]);
  EXPECT_EQ(ask("/api/embed", json{{"model", "qwen2.5:1.5b"}, {"input", ""}}).object()["embeddings"].size(),
            1U);
  EXPECT_EQ(ask("/api/embed", json{{"model", "qwen2.5:1.5b"}}).object()["embeddings"], json::array());
}

TEST_F(sim_ollama, loads_and_unloads) {
  auto settings = fast(engine_kind::ollama);
  settings.load_time = milliseconds(30);
  settings.other_models = {"tiny"};
  run(settings);
  const json load{{"model", "qwen2.5:1.5b"}};
  const answer loaded = ask("/api/generate", load);
  EXPECT_EQ(loaded.headers.at("content-type"), "application/json; charset=utf-8");
  EXPECT_EQ(loaded.object()["done_reason"], "load");
  EXPECT_EQ(loaded.object()["response"], "");
  json ps = get("/api/ps").object();
  ASSERT_EQ(ps["models"].size(), 1U);
  EXPECT_EQ(ps["models"][0]["name"], "qwen2.5:1.5b");
  EXPECT_FALSE(ask("/api/chat", ollama_chat(1, false)).object().contains("load_duration"));
  EXPECT_EQ(state().loads, 1U);

  json other = ollama_chat(1, false);
  other["model"] = "tiny";
  EXPECT_GE(ask("/api/chat", other).object()["load_duration"], 30'000'000);
  EXPECT_EQ(state().loaded, "tiny:latest");
  other["options"]["num_ctx"] = 2048;  // another runner is needed for this
  EXPECT_GE(ask("/api/chat", other).object()["load_duration"], 30'000'000);
  EXPECT_EQ(state().loads, 3U);

  EXPECT_EQ(ask("/api/generate", json{{"model", "tiny"}, {"keep_alive", 0}}).object()["done_reason"],
            "unload");
  EXPECT_EQ(get("/api/ps").object()["models"].size(), 0U);
  json once = ollama_chat(1, false);
  once["keep_alive"] = "20ms";
  EXPECT_EQ(ask("/api/chat", once).status, 200U);
  EXPECT_TRUE(becomes([](const phone_state& s) { return s.loaded.empty(); }));
}

TEST_F(sim_ollama, gives_up_loading_when_the_client_leaves) {
  auto settings = fast(engine_kind::ollama);
  settings.load_time = std::chrono::seconds(60);
  run(settings);
  client waits(port());
  {
    client loads(port());
    loads.post("/api/chat", ollama_chat(1));
    ASSERT_TRUE(becomes([](const phone_state& s) { return s.active == 1; }));
    waits.send("GET", "/api/ps");  // blocks until the load is over
    EXPECT_EQ(waits.silence(milliseconds(20)), ending::open);
  }
  EXPECT_TRUE(
      becomes([](const phone_state& s) { return s.active == 0 && s.cancelled == 1 && s.loads == 0; }));
  EXPECT_EQ(waits.read().object()["models"].size(), 0U);
}

}  // namespace
}  // namespace pocketfleet::sim_test
