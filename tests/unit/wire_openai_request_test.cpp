#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pocketfleet/wire/dialects.hpp"

namespace pocketfleet {
namespace {

using testing::StartsWith;

generation_request taken(result<generation_request> read) {
  EXPECT_TRUE(read.has_value()) << (read ? "" : read.error().message);
  return read ? std::move(*read) : generation_request{.choices = {question{}}};
}

generation_request read_chat(const json& body) {
  return taken(parse_openai_chat(body.dump()));
}

generation_request read_text(const json& body) {
  return taken(parse_openai_completion(body.dump()));
}

/// The message of the refusal; empty if it is taken.
std::string fault_of(const result<generation_request>& read) {
  if (read) return "";
  EXPECT_EQ(read.error().code, errc::bad_request);
  return read.error().message;
}

json message(const char* role, const json& content) {
  return {{"role", role}, {"content", content}};
}

json chat(const char* name = nullptr, const json& value = {}) {
  json body{{"messages", json::array({message("user", "hello")})}};
  if (name != nullptr) body[name] = value;
  return body;
}

json talk(const json& second) {
  return {{"messages", json::array({message("user", "u"), second})}};
}

question asked(const json& body) {
  return read_chat(body).choices.front();
}

std::string fault(const json& body) {
  return fault_of(parse_openai_chat(body.dump()));
}

json text_part(const char* text) {
  return {{"type", "text"}, {"text", text}};
}

json image_part(const json& url) {
  return {{"type", "image_url"}, {"image_url", url}};
}

json called(const char* id, const char* name, const json& arguments) {
  return {{"id", id}, {"type", "function"}, {"function", {{"name", name}, {"arguments", arguments}}}};
}

// ---- the conversation

TEST(openai_chat_request, messages_are_taken_as_they_are) {
  const json messages = json::array(
      {message("system", "s"), message("user", "u"), message("assistant", "a"), message("user", "")});
  const auto q = asked({{"messages", messages}, {"model", "Qwen"}});
  EXPECT_EQ(q.messages, messages);
  EXPECT_EQ(q.model, "Qwen") << "as the client wrote it";
  EXPECT_EQ(q.spoken, dialect::openai_chat);
  EXPECT_EQ(q.native, json({{"messages", messages}}));
  EXPECT_EQ(q.native_only, "");
  EXPECT_FALSE(q.rich || q.has_images || q.raw);
  EXPECT_TRUE(q.resumable);
}

TEST(openai_chat_request, a_developer_is_the_system) {
  const auto q = asked({{"messages", json::array({message("developer", "d"), message("user", "u")})}});
  EXPECT_EQ(q.messages[0], message("system", "d"));
  EXPECT_EQ(q.native["messages"][0]["role"], "developer") << "in the client's own words";
  EXPECT_EQ(q.native_only, "");
}

TEST(openai_chat_request, text_parts_become_one_text) {
  const auto q = asked(talk(message("user", json::array({text_part("a"), text_part("b")}))));
  EXPECT_EQ(q.messages[1], message("user", "a\nb"));
  EXPECT_EQ(asked(talk(message("user", json::array()))).messages[1], message("user", ""));
  const json refused{{"type", "refusal"}, {"refusal", "no"}};
  EXPECT_EQ(asked(talk(message("assistant", json::array({refused})))).messages[1],
            message("assistant", "no"));
}

TEST(openai_chat_request, images_are_taken_out_of_their_uris) {
  const json url = "data:image/png;base64,aGk=";
  for (const json& image : {url, json{{"url", url}}, json{{"url", url}, {"detail", "low"}}}) {
    const auto q = asked(talk(message("user", json::array({text_part("what?"), image_part(image)}))));
    EXPECT_TRUE(q.has_images && q.rich) << image;
    EXPECT_EQ(q.messages[1], json({{"role", "user"}, {"content", "what?"}, {"images", {"aGk="}}})) << image;
    EXPECT_EQ(q.native_only, "") << image;
  }
}

TEST(openai_chat_request, what_has_no_neutral_form_is_told_by_its_place) {
  const auto only = [](const json& part) {
    const auto q = asked(talk(message("user", json::array({text_part("x"), part}))));
    EXPECT_FALSE(q.resumable) << part;
    return q.native_only;
  };
  EXPECT_EQ(only(image_part({{"url", "https://example.org/cat.png"}})),
            "messages[1].content[1].image_url.url");
  EXPECT_EQ(only({{"type", "input_audio"}, {"input_audio", {{"data", "x"}}}}), "messages[1].content[1]");
  json reasoned = message("assistant", "so");
  reasoned["reasoning_content"] = "hm";
  EXPECT_EQ(asked(talk(reasoned)).native_only, "");
  EXPECT_EQ(asked(talk(reasoned)).messages[1]["thinking"], "hm");
  json named = message("user", "x");
  named["name"] = "anna";
  EXPECT_EQ(asked(talk(named)).native_only, "messages[1].name");
  EXPECT_EQ(asked(talk({{"role", "user"}, {"content", "x"}, {"weird \n", 1}})).native_only,
            "messages[1].a field")
      << "an odd name is not repeated";
}

TEST(openai_chat_request, calls_of_tools_get_objects_for_arguments) {
  const auto q =
      asked(R"({"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": null,
      "tool_calls": [{"id": "c7", "type": "function", "function": {"name": "f", "arguments": "{\"n\":3}"}}]},
      {"role": "tool", "tool_call_id": "c7", "content": "three"},
      {"role": "tool", "tool_call_id": "c8", "content": "nobody asked"}]})"_json);
  EXPECT_TRUE(q.rich);
  EXPECT_EQ(q.native_only, "");
  EXPECT_EQ(q.messages, R"([{"role": "user", "content": "u"}, {"role": "assistant", "content": "",
      "tool_calls": [{"id": "c7", "function": {"name": "f", "arguments": {"n": 3}}}]},
      {"role": "tool", "content": "three", "tool_call_id": "c7", "tool_name": "f"},
      {"role": "tool", "content": "nobody asked", "tool_call_id": "c8"}])"_json);
}

TEST(openai_chat_request, arguments_that_are_no_object_have_no_neutral_form) {
  const auto of = [](const json& arguments) {
    json m = message("assistant", nullptr);
    m["tool_calls"] = json::array({called("c", "f", arguments)});
    return talk(m);
  };
  EXPECT_EQ(asked(of("")).native_only, "") << "none";
  for (const auto* odd : {"[1]", "7", "{\"n\":", "{\"n\":1,\"n\":2}"}) {
    EXPECT_EQ(asked(of(odd)).native_only, "messages[1].tool_calls[0].function.arguments") << odd;
  }
  EXPECT_EQ(fault(of({{"n", 3}})), "messages[1].tool_calls[0].function.arguments: expected a string");
}

TEST(openai_chat_request, a_mistake_in_a_message_is_told_with_its_place) {
  const std::string role =
      R"(messages[1].role: expected "system", "developer", "user", "assistant" or "tool")";
  const std::string content = "messages[1].content: expected a string or an array of parts";
  const auto parts = [](const json& part) { return message("user", json::array({text_part("x"), part})); };
  const auto calls = [](const json& value) {
    return json{{"role", "assistant"}, {"content", "x"}, {"tool_calls", value}};
  };
  const std::vector<std::pair<json, std::string>> wrong{
      {"text", "messages[1]: expected an object"},
      {json::array(), "messages[1]: expected an object"},
      {{{"content", "x"}}, role},
      {message("human", "x"), role},
      {message("User", "x"), role},
      {{{"role", 1}, {"content", "x"}}, role},
      {{{"role", "user"}}, content},
      {message("user", nullptr), content},
      {message("tool", nullptr), content},
      {message("user", 7), content},
      {message("assistant", json::object()), content},
      {parts("x"), "messages[1].content[1]: expected an object"},
      {parts(json::object()), "messages[1].content[1].type: expected a string"},
      {parts({{"type", 1}}), "messages[1].content[1].type: expected a string"},
      {parts({{"type", "text"}}), "messages[1].content[1].text: expected a string"},
      {parts({{"type", "text"}, {"text", 1}}), "messages[1].content[1].text: expected a string"},
      {parts({{"type", "refusal"}, {"text", "x"}}), "messages[1].content[1].text: expected a string"},
      {parts({{"type", "image_url"}}), "messages[1].content[1].image_url.url: expected a string"},
      {parts(image_part(7)), "messages[1].content[1].image_url.url: expected a string"},
      {parts(image_part(json::object())), "messages[1].content[1].image_url.url: expected a string"},
      {calls("x"), "messages[1].tool_calls: expected an array"},
      {calls({1}), "messages[1].tool_calls[0].function.name: expected a name"},
      {calls({{{"function", "f"}}}), "messages[1].tool_calls[0].function.name: expected a name"},
      {calls({{{"function", {{"name", 1}}}}}), "messages[1].tool_calls[0].function.name: expected a name"},
      {{{"role", "tool"}, {"content", "x"}, {"tool_call_id", 7}},
       "messages[1].tool_call_id: expected a string"},
      {{{"role", "assistant"}, {"content", "x"}, {"reasoning_content", 7}},
       "messages[1].reasoning_content: expected a string"},
  };
  for (const auto& [second, text] : wrong) EXPECT_EQ(fault(talk(second)), text) << second;
  for (const json& none : {json(), json("x"), json::array(), json::object()}) {
    EXPECT_EQ(fault({{"messages", none}}), "messages: expected an array with at least one message") << none;
  }
  EXPECT_EQ(fault(json::object()), "messages: expected an array with at least one message");
}

// ---- the fields beside it

TEST(openai_chat_request, options_get_ollamas_names) {
  const auto q = asked(chat("max_tokens", 5));
  EXPECT_EQ(q.options, json({{"num_predict", 5}}));
  json body = chat("max_tokens", 5);
  body["max_completion_tokens"] = 6;
  EXPECT_EQ(asked(body).options, json({{"num_predict", 6}})) << "the newer name wins";
  EXPECT_EQ(asked(body).native["max_tokens"], 6) << "for builds that know the older one only";
  body =
      R"({"messages": [{"role": "user", "content": "u"}], "stop": "END", "seed": 7, "temperature": 0, "top_p": 0.5,
      "top_k": 3, "presence_penalty": 1, "frequency_penalty": -1, "repeat_penalty": 1.1})"_json;
  EXPECT_EQ(asked(body).options, R"({"stop": ["END"], "seed": 7, "temperature": 0, "top_p": 0.5, "top_k": 3,
      "presence_penalty": 1, "frequency_penalty": -1, "repeat_penalty": 1.1})"_json);
  EXPECT_EQ(asked(body).native["stop"], "END") << "in the client's own words";
  EXPECT_EQ(asked(body).native_only, "");
}

TEST(openai_chat_request, every_field_of_a_wrong_type_is_named) {
  const json object = json::object();
  const std::vector<std::pair<const char*, std::vector<json>>> wrong{
      {"model", {1, object, std::string(257, 'm')}},
      {"stream", {0, 1, "true", object}},
      {"stream_options", {1, "x", json::array(), true}},
      {"n", {0, -1, 17, 1.5, "2", object, 18446744073709551615U}},
      {"temperature", {"hot", true, object}},
      {"max_tokens", {"5", 1.5, -2, 4294967296, true}},
      {"max_completion_tokens", {"5", 1.5, object}},
      {"stop", {1, "", json::array({1}), json(17, "x")}},
      {"seed", {"x", 1.5, 18446744073709551615U}},
      {"tools", {"x", 7, json{{"a", 1}}}},
      {"tool_choice", {"some", 7, json::array({1}), true}},
      {"parallel_tool_calls", {"x", 1}},
      {"response_format", {"json", 7, object, json{{"type", "yaml"}}, json{{"type", 7}}}},
      {"reasoning_effort", {"some", 7, true, object}},
  };
  for (const auto& [name, values] : wrong) {
    for (const auto& value : values) {
      EXPECT_THAT(fault(chat(name, value)), StartsWith(std::string(name) + ":")) << value;
    }
  }
  EXPECT_EQ(fault(chat("stream_options", {{"include_usage", 1}})),
            "stream_options.include_usage: expected true or false");
}

TEST(openai_chat_request, null_is_as_good_as_absent) {
  for (const auto* name :
       {"model", "stream", "stream_options", "n", "temperature", "max_tokens", "stop", "tools", "tool_choice",
        "response_format", "logprobs", "chat_template_kwargs", "whatever"}) {
    const auto q = asked(chat(name, nullptr));
    EXPECT_TRUE(q.options.empty() && q.native_only.empty() && q.resumable) << name;
  }
}

TEST(openai_chat_request, a_session_and_patience_are_read_and_sent_on) {
  const auto named = read_chat(chat("prompt_cache_key", "talk 7"));
  EXPECT_EQ(named.session, "talk 7");
  EXPECT_EQ(named.choices.front().native["prompt_cache_key"], "talk 7");
  EXPECT_FALSE(named.patient);
  EXPECT_TRUE(read_chat(chat("service_tier", "flex")).patient);
  for (const json& other : {json("auto"), json("priority"), json(), json(1)})
    EXPECT_FALSE(read_chat(chat("service_tier", other)).patient) << other;
  EXPECT_EQ(read_chat(chat("prompt_cache_key", 1)).session, "");
  EXPECT_TRUE(read_text({{"prompt", "x"}, {"service_tier", "flex"}}).patient);
}

TEST(openai_chat_request, what_the_gateway_acts_on_is_not_sent_on) {
  json body = chat("stream", true);
  body.update({{"model", "m"}, {"n", 2}, {"stream_options", {{"include_usage", true}}}, {"user", "u"}});
  const auto read = read_chat(body);
  EXPECT_TRUE(read.stream && read.include_usage);
  EXPECT_FALSE(read.load);
  ASSERT_EQ(read.choices.size(), 2U);
  EXPECT_EQ(read.choices[1].native, json({{"messages", body["messages"]}, {"user", "u"}}));
  EXPECT_EQ(read.choices[1].native_only, "") << "about the caller";
}

TEST(openai_chat_request, choices_have_seeds_of_their_own) {
  json body = chat("seed", 4294967295U);
  body["n"] = 3;
  const auto read = read_chat(body);
  ASSERT_EQ(read.choices.size(), 3U);
  const std::vector<std::uint64_t> seeds{4294967295U, 0, 1};
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(read.choices[i].options["seed"], seeds[i]);
    EXPECT_EQ(read.choices[i].native["seed"], seeds[i]);
  }
  body["seed"] = -1;
  for (const auto& q : read_chat(body).choices) EXPECT_EQ(q.options["seed"], -1) << "a random one";
  body.erase("seed");
  for (const auto& q : read_chat(body).choices) EXPECT_FALSE(q.options.contains("seed"));
}

TEST(openai_chat_request, response_format_becomes_a_format) {
  const json schema{{"type", "object"}};
  const auto format = [](const json& value) { return asked(chat("response_format", value)).format; };
  EXPECT_TRUE(format({{"type", "text"}}).is_null());
  EXPECT_EQ(format({{"type", "json_object"}}), "json");
  EXPECT_EQ(format({{"type", "json_object"}, {"schema", schema}}), schema);
  EXPECT_EQ(format({{"type", "json_schema"}, {"json_schema", {{"name", "x"}, {"schema", schema}}}}), schema);
  const std::string text = "response_format.json_schema.schema: expected a JSON Schema object";
  for (const json& odd :
       {json(), json("x"), json::object(), json{{"schema", 7}}, json{{"schema", nullptr}}}) {
    EXPECT_EQ(fault(chat("response_format", {{"type", "json_schema"}, {"json_schema", odd}})), text) << odd;
  }
  const json bomb{{"type", "string"}, {"pattern", std::string(513, '(')}};
  EXPECT_EQ(fault(chat("response_format", {{"type", "json_schema"}, {"json_schema", {{"schema", bomb}}}})),
            "response_format: a pattern is longer than 512 bytes");
}

TEST(openai_chat_request, thinking_is_switched_in_two_ways) {
  EXPECT_EQ(asked(chat("reasoning_effort", "none")).think, false);
  const json levels =
      R"({"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "max"})"_json;
  for (const auto& [effort, think] : levels.items())
    EXPECT_EQ(asked(chat("reasoning_effort", effort)).think, think);
  EXPECT_EQ(asked(chat("chat_template_kwargs", {{"enable_thinking", false}})).think, false);
  EXPECT_EQ(asked(chat("chat_template_kwargs", json::object())).native_only, "");
  for (const json& other : {json{{"custom", 1}}, json{{"enable_thinking", true}, {"custom", 1}},
                            json{{"enable_thinking", "yes"}}, json("x")}) {
    EXPECT_EQ(asked(chat("chat_template_kwargs", other)).native_only, "chat_template_kwargs") << other;
  }
}

TEST(openai_chat_request, tools_and_what_is_to_be_done_with_them) {
  json body = chat("tools", {{{"type", "function"}, {"function", {{"name", "f"}}}}});
  EXPECT_EQ(asked(body).tools, body["tools"]);
  EXPECT_FALSE(asked(body).resumable);
  body["tool_choice"] = "auto";
  EXPECT_EQ(asked(body).native_only, "");
  for (const json& choice : {json("required"), json{{"type", "function"}, {"function", {{"name", "f"}}}}}) {
    body["tool_choice"] = choice;
    EXPECT_EQ(asked(body).native_only, "tool_choice") << choice;
  }
  body["tool_choice"] = "none";
  const auto q = asked(body);
  EXPECT_TRUE(q.tools.is_null()) << "not shown to a model that could not be kept from calling them";
  EXPECT_EQ(q.apart["tools"], body["tools"]) << "but not the same question as without any";
  EXPECT_TRUE(asked(chat("tools", json::array())).tools.is_null());
  body["tool_choice"] = "auto";
  body["parallel_tool_calls"] = false;
  EXPECT_EQ(asked(body).native_only, "parallel_tool_calls");
  body["parallel_tool_calls"] = true;
  EXPECT_EQ(asked(body).native_only, "");
}

TEST(openai_chat_request, a_field_that_nobody_knows_is_for_who_may_know_it) {
  for (const auto* name : {"grammar", "samplers", "cache_prompt", "logprobs", "modalities"}) {
    const auto q = asked(chat(name, {{"a", true}}));
    EXPECT_EQ(q.native_only, name);
    EXPECT_EQ(q.native[name], json({{"a", true}}));
    EXPECT_FALSE(q.resumable);
  }
  EXPECT_EQ(asked(chat("logprobs", false)).native_only, "") << "says nothing";
  EXPECT_EQ(asked(chat("cache_prompt", false)).native_only, "cache_prompt") << "says something";
  EXPECT_EQ(asked(chat("c4n4ry \n", 1)).native_only, "a field") << "an odd name is not repeated";
}

// ---- plain text

std::string text_fault(const json& body) {
  return fault_of(parse_openai_completion(body.dump()));
}

TEST(openai_completion_request, a_prompt_is_taken_as_it_stands) {
  const auto read = read_text({{"prompt", "1 2"}, {"max_tokens", 3}, {"model", "m"}, {"stream", true}});
  ASSERT_EQ(read.choices.size(), 1U);
  const question& q = read.choices[0];
  EXPECT_TRUE(read.stream && q.raw && q.resumable);
  EXPECT_EQ(q.prompt, "1 2");
  EXPECT_EQ(q.spoken, dialect::openai_completion);
  EXPECT_TRUE(q.messages.is_null());
  EXPECT_EQ(q.native, json({{"prompt", "1 2"}, {"max_tokens", 3}}));
  EXPECT_EQ(q.options, json({{"num_predict", 3}}));
}

TEST(openai_completion_request, each_prompt_of_a_list_is_a_choice) {
  const auto read = read_text({{"prompt", {"a", json::array({1, 2}), "c"}}, {"n", 2}, {"seed", 5}});
  ASSERT_EQ(read.choices.size(), 6U);
  const std::vector<json> prompts{"a", "a", {1, 2}, {1, 2}, "c", "c"};
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(read.choices[i].native["prompt"], prompts[i]);
    EXPECT_EQ(read.choices[i].options["seed"], 5 + i % 2);
    EXPECT_EQ(read.choices[i].native_only, prompts[i].is_array() ? "prompt" : "")
        << "tokens are the engine's";
  }
  EXPECT_EQ(read_text({{"prompt", {1, 2}}}).choices.size(), 1U) << "one, of tokens";
}

TEST(openai_completion_request, a_mistake_is_told) {
  const std::string odd = "prompt: expected a string, an array of tokens, or an array of up to 64 of these";
  EXPECT_EQ(text_fault(json::object()), odd);
  for (const json& wrong : {json(), json(7), json(true), json::object(), json::array(), json::array({"a", 1}),
                            json::array({json::array()}), json::array({json::array({"a"})}), json(65, "x"),
                            json::array({-1}), json::array({nullptr})}) {
    EXPECT_EQ(text_fault({{"prompt", wrong}}), odd) << wrong;
  }
  EXPECT_THAT(text_fault({{"prompt", "x"}, {"n", 0}}), StartsWith("n: "));
  EXPECT_THAT(text_fault({{"prompt", "x"}, {"temperature", "0"}}), StartsWith("temperature: "));
}

TEST(openai_completion_request, only_the_best_of_one_is_plain) {
  const auto only = [](const char* name, const json& value) {
    return read_text({{"prompt", "x"}, {name, value}}).choices[0].native_only;
  };
  EXPECT_EQ(only("best_of", 1), "");
  EXPECT_EQ(only("best_of", 2), "best_of");
  EXPECT_EQ(only("suffix", "x"), "suffix");
  EXPECT_EQ(only("echo", true), "echo");
  EXPECT_EQ(only("logprobs", 2), "logprobs");
}

}  // namespace
}  // namespace pocketfleet
