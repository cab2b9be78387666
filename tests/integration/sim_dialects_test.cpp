// What both engines do with tools, JSON, reasoning, logprobs and embeddings.
#include "sim_helpers.hpp"

namespace pocketfleet::sim_test {
namespace {

const json tools = json::parse(
    R"([{"type":"function","function":{"name":"add","parameters":{"type":"object"}}},
        {"type":"function","function":{"name":"other","parameters":{"type":"object"}}}])");

json with_tools(json body) {
  body["tools"] = tools;
  return body;
}

json with_result(json body) {
  body["messages"].push_back(json{{"role", "tool"}, {"content", "3"}, {"tool_call_id", "call_1"}});
  return body;
}

std::vector<std::string> tokens_of(const json& entries) {
  std::vector<std::string> result;
  for (const json& each : entries) result.push_back(each["token"].get<std::string>());
  return result;
}

TEST_F(sim_ollama, calls_the_first_tool_in_one_piece) {
  const auto lines = ask("/api/chat", with_tools(ollama_chat(0))).lines();
  ASSERT_EQ(lines.size(), 2U);
  const json& call = lines[0]["message"]["tool_calls"][0];
  EXPECT_EQ(call["function"]["name"], "add");
  EXPECT_EQ(call["function"]["arguments"], (json{{"n", 3}}));
  EXPECT_EQ(lines[0]["done"], false);
  EXPECT_EQ(lines[1]["done_reason"], "stop");
  EXPECT_EQ(lines[1]["eval_count"], 5);
  const json whole = ask("/api/chat", with_tools(ollama_chat(0, false))).object();
  EXPECT_EQ(whole["message"]["tool_calls"][0]["function"]["arguments"], (json{{"n", 3}}));
  EXPECT_EQ(ollama_text(ask("/api/chat", with_result(with_tools(ollama_chat(2))))), " 1 2");
  const auto cut = ask("/api/chat", with_tools(ollama_chat(3))).lines();
  ASSERT_EQ(cut.size(), 1U);  // half a call is never told
  EXPECT_EQ(cut[0]["done_reason"], "length");

  auto settings = fast(engine_kind::ollama);
  settings.tools = false;
  run(settings);
  const answer no = ask("/api/chat", with_tools(ollama_chat(0)));
  EXPECT_EQ(no.status, 400U);
  EXPECT_EQ(no.object()["error"], "\"qwen2.5:1.5b\" does not support tools");
}

TEST_F(sim_llama, calls_the_first_tool_in_fragments) {
  const auto events = ask("/v1/chat/completions", with_tools(llama_chat(0))).events();
  std::string id;
  std::string name;
  std::string arguments;
  std::string finish;
  int fragments = 0;
  for (const std::string& event : events) {
    const json data = json::parse(event, nullptr, false);
    if (!data.is_object()) continue;
    const json& choice = data["choices"][0];
    if (choice["finish_reason"].is_string()) finish = choice["finish_reason"].get<std::string>();
    if (!choice["delta"].contains("tool_calls")) continue;
    const json& call = choice["delta"]["tool_calls"][0];
    EXPECT_EQ(call["index"], 0);
    id += call.value("id", "");
    name += call["function"].value("name", "");
    arguments += call["function"].value("arguments", "");
    ++fragments;
  }
  EXPECT_EQ(id, "call_1");
  EXPECT_EQ(name, "add");
  EXPECT_EQ(arguments, "{\"n\": 3}");
  EXPECT_EQ(fragments, 6);
  EXPECT_EQ(finish, "tool_calls");
  EXPECT_EQ(events.back(), "[DONE]");

  const json whole = ask("/v1/chat/completions", with_tools(llama_chat(0, false))).object()["choices"][0];
  EXPECT_EQ(whole["finish_reason"], "tool_calls");
  EXPECT_EQ(whole["message"]["tool_calls"][0]["function"]["arguments"], "{\"n\": 3}");
  EXPECT_EQ(llama_text(ask("/v1/chat/completions", with_result(with_tools(llama_chat(2))))), " 1 2");
  json none = with_tools(llama_chat(2));
  none["tool_choice"] = "none";
  EXPECT_EQ(llama_text(ask("/v1/chat/completions", none)), " 1 2");
  const json cut = ask("/v1/chat/completions", with_tools(llama_chat(3, false))).object()["choices"][0];
  EXPECT_EQ(cut["finish_reason"], "length");
}

TEST_F(sim_ollama, says_json_when_told_to) {
  for (const json& format : {json("json"), json{{"type", "object"}}}) {
    json body = ollama_chat(0);
    body["format"] = format;
    const answer got = ask("/api/chat", body);
    EXPECT_EQ(ollama_text(got), R"({"answer": "1 2 3"})");
    EXPECT_EQ(got.chunks.size(), 8U);
    EXPECT_EQ(got.lines().back()["done_reason"], "stop");
  }
  const json text{{"model", "qwen2.5:1.5b"}, {"prompt", "x"}, {"stream", false}, {"format", "json"}};
  EXPECT_EQ(ask("/api/generate", text).object()["response"], R"({"answer": "1 2 3"})");
  json wrong = ollama_chat(0);
  wrong["format"] = "xml";
  EXPECT_EQ(ask("/api/chat", wrong).status, 500U);
}

TEST_F(sim_llama, says_json_when_told_to) {
  for (const char* type : {"json_object", "json_schema"}) {
    json body = llama_chat(100);
    body["response_format"]["type"] = type;
    EXPECT_EQ(llama_text(ask("/v1/chat/completions", body)), R"({"answer": "1 2 3"})");
    body["stream"] = false;
    EXPECT_EQ(ask("/v1/chat/completions", body).object()["choices"][0]["finish_reason"], "stop");
  }
  json body = llama_chat(2, false);
  body["response_format"]["type"] = "json_object";
  const json cut = ask("/v1/chat/completions", body).object()["choices"][0];
  EXPECT_EQ(cut["message"]["content"], "{\"answer");
  EXPECT_EQ(cut["finish_reason"], "length");
}

TEST_F(sim_ollama, tells_logprobs) {
  json body = ollama_chat(3);
  body["logprobs"] = true;
  body["options"]["stop"] = json::array({" 2 9"});  // a token that is held back is told with the next
  std::vector<std::string> tokens;
  for (const json& line : ask("/api/chat", body).lines())
    if (line.contains("logprobs"))
      for (const std::string& each : tokens_of(line["logprobs"])) tokens.push_back(each);
  EXPECT_EQ(tokens, (std::vector<std::string>{" 1", " 2", " 3"}));
  body["stream"] = false;
  body["top_logprobs"] = 2;
  const json whole = ask("/api/chat", body).object();
  ASSERT_EQ(whole["logprobs"].size(), 3U);
  EXPECT_EQ(whole["logprobs"][0]["bytes"], json::array({32, 49}));
  EXPECT_LT(whole["logprobs"][0]["logprob"], 0);
  EXPECT_EQ(whole["logprobs"][0]["top_logprobs"].size(), 2U);
  body["top_logprobs"] = 21;
  EXPECT_EQ(ask("/api/chat", body).status, 400U);
}

TEST_F(sim_llama, tells_logprobs) {
  json body = llama_chat(2, false);
  body["logprobs"] = true;
  json choice = ask("/v1/chat/completions", body).object()["choices"][0];
  EXPECT_EQ(tokens_of(choice["logprobs"]["content"]), (std::vector<std::string>{" 1", " 2"}));
  EXPECT_EQ(choice["logprobs"]["content"][0]["top_logprobs"], json::array());
  body["top_logprobs"] = 0;  // to this engine: none at all
  EXPECT_FALSE(ask("/v1/chat/completions", body).object()["choices"][0].contains("logprobs"));
  const json text{{"prompt", "a 3"}, {"max_tokens", 2}, {"logprobs", 1}};
  choice = ask("/v1/completions", text).object()["choices"][0];
  EXPECT_EQ(tokens_of(choice["logprobs"]["content"]), (std::vector<std::string>{" 4", " 5"}));
  EXPECT_EQ(choice["logprobs"]["content"][0]["top_logprobs"].size(), 1U);
}

TEST_F(sim_phone, embeds_alike_on_both_engines) {
  auto settings = fast(engine_kind::ollama);
  settings.embedding = true;
  run(settings);
  const json texts = json::array({"one two", "two one", "three"});
  const json first = ask("/api/embed", json{{"model", "qwen2.5:1.5b"}, {"input", texts}}).object();
  EXPECT_EQ(
      ask("/api/embeddings", json{{"model", "qwen2.5:1.5b"}, {"prompt", "three"}}).object()["embedding"],
      first["embeddings"][2]);
  EXPECT_EQ(ask("/api/chat", ollama_chat(1)).status, 200U);

  settings.engine = engine_kind::llama_server;
  run(settings);
  const json second = ask("/v1/embeddings", json{{"input", texts}}).object();
  ASSERT_EQ(second["data"].size(), 3U);
  for (unsigned i = 0; i < 3; ++i) {
    EXPECT_EQ(second["data"][i]["index"], i);
    EXPECT_EQ(second["data"][i]["embedding"], first["embeddings"][i]);
  }
  EXPECT_NE(second["data"][0]["embedding"], second["data"][1]["embedding"]);
  EXPECT_EQ(second["usage"]["prompt_tokens"], first["prompt_eval_count"]);
  EXPECT_EQ(phones_->last_request(0).target, "/v1/embeddings");
  EXPECT_EQ(state().completed, 1U);
  const json coded = ask("/v1/embeddings", json{{"input", "x"}, {"encoding_format", "base64"}}).object();
  EXPECT_EQ(coded["data"][0]["embedding"].get<std::string>().size(), 44U);  // 8 times 4 bytes
  EXPECT_EQ(ask("/v1/embeddings", json{{"input", json::array()}}).status, 400U);
  EXPECT_EQ(ask("/v1/embeddings", json{{"input", json::array({true})}}).status, 400U);
  EXPECT_EQ(ask("/v1/embeddings", json{{"input", std::string(4000, 'x')}}).status, 500U);
  EXPECT_EQ(ask("/v1/chat/completions", llama_chat(1)).status, 501U);
  set(fault_kind::error_500);
  EXPECT_EQ(ask("/v1/embeddings", json{{"input", "x"}}).status, 500U);
  EXPECT_EQ(ask("/v1/embeddings", json{{"input", "x"}}).status, 200U);
}

TEST_F(sim_llama, embeds_only_when_started_for_it) {
  const answer no = ask("/v1/embeddings", json{{"input", "x"}});
  EXPECT_EQ(no.status, 501U);
  EXPECT_EQ(no.object()["error"]["type"], "not_supported_error");
}

TEST_F(sim_ollama, reads_what_generate_brings) {
  const auto generate = [&](json body) {
    body["model"] = "qwen2.5:1.5b";
    body["stream"] = false;
    body["options"]["num_predict"] = 2;
    return ask("/api/generate", body).object();
  };
  const json first = generate({{"prompt", "x"}});
  EXPECT_EQ(first["response"], " 1 2");
  const json second = generate({{"prompt", "y"}, {"context", first["context"]}});
  EXPECT_EQ(second["response"], " 1 2");
  EXPECT_GT(second["context"].size(), 2 * first["context"].size() - 2);  // what was said, and this
  EXPECT_EQ(generate({{"prompt", "f("}, {"suffix", ")"}})["response"], " 1 2");
}

// --- llama-server's /v1/completions and /v1/messages ---

TEST_F(sim_llama, completes_as_openai_does) {
  const json got = ask("/v1/completions", json{{"prompt", "a 3"}, {"max_tokens", 2}}).object();
  EXPECT_EQ(got["object"], "text_completion");
  EXPECT_EQ(got["choices"][0]["text"], " 4 5");
  EXPECT_EQ(got["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(got["usage"]["completion_tokens"], 2);
  const auto events =
      ask("/v1/completions", json{{"prompt", "a 3"}, {"max_tokens", 2}, {"stream", true}}).events();
  ASSERT_EQ(events.size(), 4U);
  EXPECT_EQ(json::parse(events[0])["choices"],
            json::parse(R"([{"text":" 4","index":0,"logprobs":null,"finish_reason":null}])"));
  EXPECT_EQ(json::parse(events[2])["usage"]["completion_tokens"], 2);
  EXPECT_EQ(events[3], "[DONE]");
  EXPECT_EQ(ask("/v1/completions", json::object()).status, 400U);
}

// The data of each event, with its name checked.
std::vector<json> anthropic(const answer& got) {
  std::vector<json> result;
  for (const std::string& event : got.events()) {
    const std::size_t line = event.find("\ndata: ");
    if (line == std::string::npos) {
      ADD_FAILURE() << event;
      continue;
    }
    result.push_back(json::parse(event.substr(line + 7), nullptr, false));
    if (event.substr(0, line) != "event: error") {
      EXPECT_EQ(event.substr(0, line), "event: " + result.back()["type"].get<std::string>());
    }
  }
  return result;
}

TEST_F(sim_llama, speaks_anthropic) {
  json body{{"model", "m"}, {"max_tokens", 2}, {"system", "s"}};
  body["messages"] = json::array({json{{"role", "user"}, {"content", "count"}}});
  const json whole = ask("/v1/messages", body).object();
  EXPECT_EQ(whole["content"], json::parse(R"([{"type":"text","text":" 1 2"}])"));
  EXPECT_EQ(whole["stop_reason"], "max_tokens");
  EXPECT_EQ(whole["usage"]["output_tokens"], 2);
  const json counted = ask("/v1/messages/count_tokens", body).object();
  EXPECT_EQ(counted, (json{{"input_tokens", whole["usage"]["input_tokens"]}}));

  body["stream"] = true;
  const answer got = ask("/v1/messages", body);
  EXPECT_EQ(got.headers.at("content-type"), "text/event-stream");
  const auto events = anthropic(got);
  ASSERT_EQ(events.size(), 7U);
  const json& again = events[0]["message"]["usage"];
  EXPECT_EQ(again["input_tokens"], 1) << "all but the last token is in the cache";
  EXPECT_EQ(again["cache_read_input_tokens"].get<int>() + 1, whole["usage"]["input_tokens"]);
  EXPECT_EQ(events[2]["delta"], (json{{"type", "text_delta"}, {"text", " 1"}}));
  EXPECT_EQ(events[5]["delta"], (json{{"stop_reason", "max_tokens"}, {"stop_sequence", nullptr}}));
  EXPECT_EQ(events[5]["usage"]["output_tokens"], 2);
  EXPECT_EQ(events[6]["type"], "message_stop");

  body["max_tokens"] = 20;
  body["stop_sequences"] = json::array({" 4"});
  EXPECT_EQ(anthropic(ask("/v1/messages", body))[6]["delta"],
            (json{{"stop_reason", "end_turn"}, {"stop_sequence", " 4"}}));
  EXPECT_EQ(ask("/v1/messages", json::object()).status, 500U);
}

TEST_F(sim_llama, thinks_and_calls_in_anthropic) {
  auto settings = fast(engine_kind::llama_server);
  settings.thinking = true;
  settings.reasoning_tokens = 1;
  run(settings);
  json body{{"stream", true}};
  body["messages"] = json::array({json{{"role", "user"}, {"content", "count"}}});
  body["tools"] = json::parse(R"([{"name":"add","input_schema":{"type":"object"}}])");
  std::string arguments;
  std::vector<std::string> kinds;
  for (const json& each : anthropic(ask("/v1/messages", body))) {
    if (each["type"] == "content_block_start")
      kinds.push_back(each["content_block"]["type"].get<std::string>());
    if (each["type"] == "content_block_delta" && each["delta"]["type"] == "input_json_delta") {
      EXPECT_EQ(each["index"], 1);
      arguments += each["delta"]["partial_json"].get<std::string>();
    }
    if (each["type"] == "message_delta") {
      EXPECT_EQ(each["delta"]["stop_reason"], "tool_use");
    }
  }
  EXPECT_EQ(kinds, (std::vector<std::string>{"thinking", "tool_use"}));
  EXPECT_EQ(arguments, "{\"n\": 3}");

  body["stream"] = false;
  body["chat_template_kwargs"]["enable_thinking"] = false;
  EXPECT_EQ(ask("/v1/messages", body).object()["content"],
            json::parse(R"([{"type":"tool_use","id":"call_2","name":"add","input":{"n":3}}])"));
  body["max_tokens"] = 2;
  body["messages"].push_back(json::parse(
      R"({"role":"assistant","content":[{"type":"tool_use","id":"call_2","name":"add","input":{"n":3}}]})"));
  body["messages"].push_back(json::parse(
      R"({"role":"user","content":[{"type":"tool_result","tool_use_id":"call_2","content":"4"}]})"));
  EXPECT_EQ(ask("/v1/messages", body).object()["content"], json::parse(R"([{"type":"text","text":" 1 2"}])"));
}

TEST_F(sim_llama, breaks_anthropic_streams) {
  json body{{"stream", true}, {"max_tokens", 5}};
  body["messages"] = json::array({json{{"role", "user"}, {"content", "count"}}});
  set(fault_kind::error_in_stream, 2);
  const auto events = anthropic(ask("/v1/messages", body));
  ASSERT_EQ(events.size(), 5U);
  EXPECT_EQ(events.back()["code"], 500);
  set(fault_kind::error_500);
  EXPECT_EQ(ask("/v1/messages/count_tokens", body).status, 500U);
  EXPECT_TRUE(becomes([](const phone_state& s) { return s.failed == 2; }));
}

// What its layer makes otherwise than llama-server: blocks end before the next one begins, the prompt is
// counted at the end, nothing is said of stop sequences, calls come whole, an error in mid-stream is lost.
TEST_F(sim_ollama, speaks_anthropic) {
  auto settings = fast(engine_kind::ollama);
  settings.thinking = true;
  settings.reasoning_tokens = 1;
  run(settings);
  json body{{"model", "qwen2.5:1.5b"}, {"max_tokens", 3}, {"stream", true}};
  body["messages"] = json::array({json{{"role", "user"}, {"content", "count"}}});
  std::vector<std::string> kinds;
  const auto events = anthropic(ask("/v1/messages", body));
  for (const json& each : events) kinds.push_back(each["type"].get<std::string>());
  const std::vector<std::string> text{"content_block_start", "content_block_delta", "content_block_stop"};
  const std::vector<std::string> expected{"message_start", text[0], text[1], text[2],         text[0],
                                          text[1],         text[1], text[2], "message_delta", "message_stop"};
  EXPECT_EQ(kinds, expected);
  EXPECT_EQ(events[8]["delta"], (json{{"stop_reason", "max_tokens"}}));
  EXPECT_GT(events[8]["usage"]["input_tokens"], events[0]["message"]["usage"]["input_tokens"]);

  set(fault_kind::error_in_stream, 2);
  EXPECT_EQ(anthropic(ask("/v1/messages", body)).back()["type"], "content_block_delta");

  body["stream"] = false;
  body["max_tokens"] = 9;
  body["thinking"]["type"] = "disabled";
  body["tools"] = json::parse(R"([{"name":"add","input_schema":{"type":"object"}}])");
  const json call = ask("/v1/messages", body).object();
  EXPECT_EQ(call["stop_reason"], "tool_use");
  EXPECT_EQ(call["content"][0]["input"], json::parse(R"({"n":3})"));
  for (const char* missing : {"model", "max_tokens", "messages"}) {
    json without = body;
    without.erase(missing);
    const answer got = ask("/v1/messages", without);
    EXPECT_EQ(got.status, 400U) << missing;
    EXPECT_EQ(got.object()["error"]["type"], "invalid_request_error") << missing;
  }
  body["model"] = "other";
  EXPECT_EQ(ask("/v1/messages", body).object()["error"]["type"], "not_found_error");
}

TEST_F(sim_ollama, is_too_old_for_anthropic) {
  auto settings = fast(engine_kind::ollama);
  settings.messages = false;
  run(settings);
  EXPECT_EQ(get("/api/version").object()["version"], "0.13.5");
  const answer got = ask("/v1/messages", json::object());
  EXPECT_EQ(got.status, 404U);
  EXPECT_EQ(got.body, "404 page not found");
}

TEST_F(sim_ollama, shows_what_it_was_asked_last) {
  client(port())
      .send("POST", "/api/chat?x=1", ollama_chat(1).dump(), "Authorization: Bearer secret\r\n")
      .read();
  const json last = get("/sim/last").object();
  EXPECT_EQ(last["path"], "/api/chat");
  EXPECT_EQ(last["target"], "/api/chat?x=1");
  EXPECT_EQ(last["headers"]["authorization"], "Bearer secret");
}

}  // namespace
}  // namespace pocketfleet::sim_test
