#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pocketfleet/wire/dialects.hpp"

namespace pocketfleet {
namespace {

using testing::StartsWith;

using parser = result<generation_request> (*)(std::string_view, bool);

generation_request taken(parser parse, const json& body, bool pass = false) {
  auto read = parse(body.dump(), pass);
  EXPECT_TRUE(read.has_value()) << body << ": " << (read ? "" : read.error().message);
  return read ? std::move(*read) : generation_request{.choices = {question{}}};
}

/// The message of the refusal; empty if it is taken.
std::string fault_of(parser parse, const json& body) {
  const auto read = parse(body.dump(), false);
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
  return taken(parse_ollama_chat, body).choices.front();
}

std::string fault(const json& body) {
  return fault_of(parse_ollama_chat, body);
}

json generate(const char* name = nullptr, const json& value = {}) {
  json body{{"prompt", "hello"}};
  if (name != nullptr) body[name] = value;
  return body;
}

question generated(const json& body) {
  return taken(parse_ollama_generate, body).choices.front();
}

std::string generate_fault(const json& body) {
  return fault_of(parse_ollama_generate, body);
}

// ---- /api/chat

TEST(ollama_chat_request, messages_are_taken_as_they_are) {
  const json messages =
      json::array({message("system", "s"), message("user", "u"), message("assistant", "a")});
  const auto read = taken(parse_ollama_chat, {{"messages", messages}, {"model", "Qwen"}});
  ASSERT_EQ(read.choices.size(), 1U);
  const question& q = read.choices[0];
  EXPECT_TRUE(read.stream) << "unless told otherwise";
  EXPECT_FALSE(read.load);
  EXPECT_EQ(q.messages, messages);
  EXPECT_EQ(q.model, "Qwen");
  EXPECT_EQ(q.spoken, dialect::ollama_chat);
  EXPECT_EQ(q.native, json({{"messages", messages}}));
  EXPECT_FALSE(q.rich || q.has_images || q.raw);
  EXPECT_TRUE(q.resumable);
  EXPECT_EQ(q.native_only, "");
  EXPECT_FALSE(taken(parse_ollama_chat, chat("stream", false)).stream);
}

TEST(ollama_chat_request, roles_in_capitals_and_missing_contents_are_taken) {
  EXPECT_EQ(asked(talk({{"role", "Assistant"}})).messages[1], message("assistant", ""));
  EXPECT_EQ(asked(talk(message("USER", nullptr))).messages[1], message("user", ""));
  EXPECT_EQ(asked(talk(message("USER", "x"))).native["messages"][1]["role"], "USER") << "in its own words";
}

TEST(ollama_chat_request, what_else_is_in_a_message_is_kept) {
  const json call{{"function", {{"name", "f"}, {"arguments", {{"n", 3}}}}}};
  const json messages = json::array(
      {{{"role", "user"}, {"content", "u"}, {"images", {"aGk="}}},
       {{"role", "assistant"}, {"content", ""}, {"thinking", "hm"}, {"tool_calls", json::array({call})}},
       {{"role", "tool"}, {"content", "3"}, {"tool_name", "f"}, {"tool_call_id", "c"}}});
  const auto q = asked({{"messages", messages}});
  EXPECT_EQ(q.messages, messages);
  EXPECT_TRUE(q.rich && q.has_images);
  EXPECT_EQ(q.native_only, "");
  EXPECT_FALSE(asked(talk({{"role", "user"}, {"images", json::array()}})).has_images);
  EXPECT_EQ(asked(talk({{"role", "user"}, {"content", "x"}, {"name", "anna"}})).native_only,
            "messages[1].name");
  EXPECT_EQ(asked(talk({{"role", "user"}, {"c4n4ry \n", 1}})).native_only, "messages[1].a field");
}

TEST(ollama_chat_request, a_mistake_in_a_message_is_told_with_its_place) {
  const std::string role = R"(messages[1].role: expected "system", "user", "assistant" or "tool")";
  const auto with = [](const char* name, const json& value) {
    return json{{"role", "assistant"}, {name, value}};
  };
  const std::vector<std::pair<json, std::string>> wrong{
      {"x", "messages[1]: expected an object"},
      {json::array(), "messages[1]: expected an object"},
      {{{"content", "x"}}, role},
      {message("developer", "x"), role},
      {{{"role", 7}, {"content", "x"}}, role},
      {with("content", 7), "messages[1].content: expected a string"},
      {with("content", json::array({"x"})), "messages[1].content: expected a string"},
      {with("thinking", true), "messages[1].thinking: expected a string"},
      {with("tool_name", 1), "messages[1].tool_name: expected a string"},
      {with("tool_call_id", 1), "messages[1].tool_call_id: expected a string"},
      {with("images", "aGk="), "messages[1].images: expected an array of base64 strings"},
      {with("images", json::array({"data:image/png;base64,aGk="})),
       "messages[1].images: expected base64 strings, without \"data:\" before them"},
      {with("tool_calls", "x"), "messages[1].tool_calls: expected an array"},
      {with("tool_calls", json::array({7})), "messages[1].tool_calls[0].function.name: expected a name"},
      {with("tool_calls", {{{"function", {{"name", "f"}, {"arguments", "{}"}}}}}),
       "messages[1].tool_calls[0].function.arguments: expected an object"},
  };
  for (const auto& [second, text] : wrong) EXPECT_EQ(fault(talk(second)), text) << second;
  EXPECT_EQ(fault({{"messages", "x"}}), "messages: expected an array");
  EXPECT_EQ(fault({{"messages", json::object()}}), "messages: expected an array");
}

TEST(ollama_chat_request, without_messages_the_model_is_to_be_read) {
  for (const json& body : {json::object(), json{{"messages", nullptr}}, json{{"messages", json::array()}}}) {
    const auto read = taken(parse_ollama_chat, body);
    EXPECT_TRUE(read.load) << body;
    EXPECT_EQ(read.choices.size(), 1U);
  }
  EXPECT_EQ(asked({{"keep_alive", 0}}).keep_alive, 0);
}

TEST(ollama_chat_request, options_are_read_and_sent_on) {
  json body = chat("options", {{"num_predict", 5}, {"stop", "x"}, {"seed", nullptr}});
  auto q = asked(body);
  EXPECT_EQ(q.options, json({{"num_predict", 5}, {"stop", {"x"}}}));
  EXPECT_EQ(q.native["options"], q.options) << "Ollama takes no single string";
  EXPECT_EQ(q.native_only, "");
  q = asked(chat("options", {{"num_predict", 5}, {"newer", 1}}));
  EXPECT_EQ(q.native_only, "options.newer") << "Ollama may know it";
  EXPECT_EQ(q.native["options"], json({{"num_predict", 5}, {"newer", 1}}));
  EXPECT_EQ(q.options, json({{"num_predict", 5}}));
}

TEST(ollama_chat_request, options_that_reload_the_model_are_left_out) {
  const json body = chat("options", {{"num_ctx", 8192}, {"num_gpu", 1}});
  const auto read = taken(parse_ollama_chat, body);
  EXPECT_THAT(read.ignored, testing::ElementsAre("num_ctx", "num_gpu"));
  EXPECT_EQ(read.choices[0].options, json::object());
  EXPECT_FALSE(read.choices[0].native.contains("options"));
  const auto passed = taken(parse_ollama_chat, body, true);
  EXPECT_THAT(passed.ignored, testing::IsEmpty());
  EXPECT_EQ(passed.choices[0].options, body["options"]);
  EXPECT_EQ(passed.choices[0].native["options"], body["options"]);
  EXPECT_EQ(fault(chat("options", {{"num_ctx", "8192"}})), "options.num_ctx: expected a whole number");
}

TEST(ollama_chat_request, every_field_of_a_wrong_type_is_named) {
  const json object = json::object();
  const std::vector<std::pair<const char*, std::vector<json>>> wrong{
      {"model", {1, true, object, std::string(257, 'm')}},
      {"stream", {0, 1, "false", object}},
      {"options", {1, "x", json::array(), true}},
      {"format", {1, true, "xml", json::array({1})}},
      {"think", {1, 0, "yes", object}},
      {"keep_alive", {"", "300", "m", true, object}},
      {"truncate", {"x", 1}},
      {"shift", {"x", 1}},
      {"tools", {"x", 7, json{{"a", 1}}}},
      {"_debug_render_only", {true, 1}},
  };
  for (const auto& [name, values] : wrong) {
    for (const auto& value : values) {
      EXPECT_THAT(fault(chat(name, value)), StartsWith(std::string(name) + ":")) << value;
      if (std::string_view(name) == "tools") continue;  // not of /api/generate
      EXPECT_THAT(generate_fault(generate(name, value)), StartsWith(std::string(name) + ":")) << value;
    }
  }
  for (const auto& [option, value] : {std::pair<const char*, json>{"seed", "7"},
                                      {"temperature", "0"},
                                      {"stop", 7},
                                      {"num_predict", 1.5},
                                      {"penalize_newline", 1}}) {
    EXPECT_THAT(fault(chat("options", {{option, value}})),
                StartsWith(std::string("options.") + option + ": "));
  }
}

TEST(ollama_chat_request, the_neutral_fields_are_read) {
  json body = chat("format", "json");
  body.update({{"think", "high"}, {"keep_alive", "10m"}, {"truncate", false}, {"shift", false}});
  body["tools"] = json::array({{{"type", "function"}, {"function", {{"name", "f"}}}}});
  const auto q = asked(body);
  EXPECT_EQ(q.format, "json");
  EXPECT_EQ(q.think, "high");
  EXPECT_EQ(q.keep_alive, "10m");
  EXPECT_EQ(q.tools, body["tools"]);
  EXPECT_EQ(q.native_only, "");
  EXPECT_FALSE(q.resumable) << "for the tools";
  EXPECT_EQ(q.native, body);
  EXPECT_TRUE(asked(chat("format", "")).format.is_null());
}

TEST(ollama_chat_request, what_only_ollama_has_is_told) {
  for (const auto& [name, value] : {std::pair<const char*, json>{"truncate", true},
                                    {"shift", true},
                                    {"logprobs", true},
                                    {"top_logprobs", 2},
                                    {"newer", "x"}}) {
    const auto q = asked(chat(name, value));
    EXPECT_EQ(q.native_only, name);
    EXPECT_EQ(q.native[name], value);
    EXPECT_FALSE(q.resumable);
    EXPECT_EQ(generated(generate(name, value)).native_only, name);
  }
  for (const json& nothing : {json(), json(false), json::array(), json::object()}) {
    EXPECT_EQ(asked(chat("newer", nothing)).native_only, "") << nothing;
  }
  EXPECT_EQ(asked(chat("c4n4ry \"\n", 1)).native_only, "a field") << "an odd name is not repeated";
}

// OpenAI's form is the same.
TEST(ollama_chat_request, a_mistake_in_a_tool_is_told_with_its_place) {
  const json a_tool{{"type", "function"}, {"function", {{"name", "f"}}}};
  const auto of = [&](const json& tool) { return fault(chat("tools", json::array({a_tool, tool}))); };
  EXPECT_EQ(of("f"), "tools[1].function: expected an object");
  EXPECT_EQ(of({{"type", "function"}}), "tools[1].function: expected an object");
  EXPECT_EQ(of({{"type", "web_search"}, {"function", {{"name", "f"}}}}),
            "tools[1].type: expected \"function\"");
  EXPECT_EQ(of({{"function", json::object()}}), "tools[1].function.name: expected a name");
  EXPECT_EQ(of({{"function", {{"name", ""}}}}), "tools[1].function.name: expected a name");
  EXPECT_EQ(of({{"function", {{"name", "f"}, {"parameters", "x"}}}}),
            "tools[1].function.parameters: expected a JSON Schema object");
  EXPECT_EQ(fault(chat("tools", json(129, a_tool))), "tools: expected an array of at most 128 tools");
}

// ---- /api/generate

TEST(ollama_generate_request, a_prompt_is_the_users_message) {
  const auto read = taken(parse_ollama_generate, generate("system", "s"));
  const question& q = read.choices[0];
  EXPECT_TRUE(read.stream);
  EXPECT_FALSE(read.load || q.raw);
  EXPECT_EQ(q.spoken, dialect::ollama_generate);
  EXPECT_EQ(q.messages, json::array({message("system", "s"), message("user", "hello")}));
  EXPECT_EQ(q.native, json({{"prompt", "hello"}, {"system", "s"}}));
  EXPECT_EQ(q.native_only, "");
  EXPECT_EQ(generated(generate("system", "")).messages.size(), 1U) << "an empty one is none";
  EXPECT_EQ(generated(generate("suffix", "")).native_only, "");
}

TEST(ollama_generate_request, images_belong_to_the_prompt) {
  const auto q = generated(generate("images", {"aGk="}));
  EXPECT_TRUE(q.has_images && q.rich);
  EXPECT_EQ(q.messages, json::array({{{"role", "user"}, {"content", "hello"}, {"images", {"aGk="}}}}));
  EXPECT_FALSE(generated(generate("images", json::array())).has_images);
  const auto read = taken(parse_ollama_generate, {{"prompt", ""}, {"images", {"aGk="}}});
  EXPECT_FALSE(read.load) << "an image is something to be asked";
  for (const json& wrong : {json("aGk="), json::array({7}), json::array({""}), json{{"a", 1}}}) {
    EXPECT_THAT(generate_fault(generate("images", wrong)), StartsWith("images: ")) << wrong;
  }
}

TEST(ollama_generate_request, raw_text_stands_as_it_is) {
  const auto q = generated(generate("raw", true));
  EXPECT_TRUE(q.raw);
  EXPECT_EQ(q.prompt, "hello");
  EXPECT_TRUE(q.messages.is_null());
  EXPECT_EQ(q.native, json({{"prompt", "hello"}, {"raw", true}}));
  for (const auto& [name, value] :
       {std::pair<const char*, json>{"system", "s"}, {"template", "t"}, {"context", {1, 2}}}) {
    json body = generate("raw", true);
    body[name] = value;
    EXPECT_EQ(generate_fault(body),
              std::string(name) + ": raw mode does not support template, system, or context");
  }
  for (const auto* name : {"system", "template", "context"}) {
    json body = generate("raw", true);
    body[name] = std::string_view(name) == "context" ? json::array() : json("");
    EXPECT_EQ(generate_fault(body), "") << name << " says nothing";
  }
}

TEST(ollama_generate_request, without_a_prompt_the_model_is_to_be_read) {
  for (const json& body : {json::object(), json{{"prompt", ""}}, json{{"prompt", nullptr}, {"model", "m"}}}) {
    EXPECT_TRUE(taken(parse_ollama_generate, body).load) << body;
  }
  EXPECT_FALSE(taken(parse_ollama_generate, {{"prompt", ""}, {"suffix", "x"}}).load);
}

TEST(ollama_generate_request, what_only_ollama_has_is_told) {
  for (const auto& [name, value] :
       {std::pair<const char*, json>{"suffix", "x"}, {"template", "t"}, {"context", {1, 2}}}) {
    EXPECT_EQ(generated(generate(name, value)).native_only, name);
  }
  EXPECT_EQ(generated(generate("context", json::array())).native_only, "");
}

TEST(ollama_generate_request, a_mistake_is_told) {
  const std::vector<std::pair<const char*, std::vector<json>>> wrong{
      {"prompt", {1, true, json::array({"x"}), json::object()}},
      {"system", {1, json::array({"x"})}},
      {"suffix", {1, json::array({"x"})}},
      {"template", {1, json::array({"x"})}},
      {"raw", {1, "true"}},
      {"context", {"x", 7, json::array({"x"}), json::array({1.5}), json{{"a", 1}}}},
  };
  for (const auto& [name, values] : wrong) {
    for (const auto& value : values) {
      EXPECT_THAT(generate_fault(generate(name, value)), StartsWith(std::string(name) + ":")) << value;
    }
  }
}

TEST(ollama_request, a_body_is_needed) {
  EXPECT_EQ(parse_ollama_chat("", false).error().message, "missing request body");
  EXPECT_EQ(parse_ollama_generate("", false).error().message, "missing request body");
}

}  // namespace
}  // namespace pocketfleet
