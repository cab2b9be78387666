#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pocketfleet/wire/dialects.hpp"

namespace pocketfleet {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

generation_request taken(const json& body) {
  auto read = parse_anthropic(body.dump());
  EXPECT_TRUE(read.has_value()) << body << ": " << (read ? "" : read.error().message);
  return read ? std::move(*read) : generation_request{.choices = {question{}}};
}

question asked(const json& body) {
  return taken(body).choices.front();
}

/// The message of the refusal; empty if it is taken.
std::string fault(const json& body) {
  const auto read = parse_anthropic(body.dump());
  if (read) return "";
  EXPECT_EQ(read.error().code, errc::bad_request);
  return read.error().message;
}

json message(const char* role, const json& content) {
  return {{"role", role}, {"content", content}};
}

json text(const char* said) {
  return {{"type", "text"}, {"text", said}};
}

json with(const char* name, const json& value) {
  json body{{"messages", json::array({message("user", "hello")})}, {"max_tokens", 5}};
  body[name] = value;
  return body;
}

json talk(const json& second) {
  return with("messages", json::array({message("user", "u"), second}));
}

TEST(anthropic_request, is_sent_on_as_it_is) {
  json body = with("system", "s");
  body.update({{"model", "claude"},
               {"stream", true},
               {"stop_sequences", {"x"}},
               {"temperature", 0},
               {"top_p", 0.5},
               {"top_k", 3},
               {"metadata", {{"user_id", "u"}}},
               {"newer", 1}});
  const auto read = taken(body);
  ASSERT_EQ(read.choices.size(), 1U);
  const question& q = read.choices[0];
  EXPECT_TRUE(read.stream && q.resumable);
  EXPECT_FALSE(read.load || read.include_usage);
  EXPECT_EQ(q.model, "claude");
  EXPECT_EQ(q.spoken, dialect::anthropic);
  EXPECT_EQ(q.native_only, "the Messages API");
  EXPECT_EQ(q.options,
            json({{"num_predict", 5}, {"stop", {"x"}}, {"temperature", 0}, {"top_p", 0.5}, {"top_k", 3}}));
  EXPECT_EQ(q.messages, json::array({message("system", "s"), message("user", "hello")}));
  body.erase("model");
  body.erase("stream");
  EXPECT_EQ(q.native, body);
  EXPECT_FALSE(taken(with("stream", nullptr)).stream);
}

TEST(anthropic_request, blocks_of_text_are_one_text) {
  const json blocks = json::array({text("a"), text("b")});
  EXPECT_EQ(asked(talk(message("user", blocks))).messages[1], message("user", "a\nb"));
  EXPECT_EQ(asked(with("system", blocks)).messages[0], message("system", "a\nb"));
  EXPECT_TRUE(asked(talk(message("user", blocks))).resumable);
}

TEST(anthropic_request, what_is_no_text_cannot_be_gone_on_with) {
  for (const json& block : {json{{"type", "image"}, {"source", json::object()}},
                            json{{"type", "tool_result"}, {"tool_use_id", "t"}, {"content", "3"}},
                            json{{"type", "thinking"}, {"thinking", "hm"}}}) {
    const auto q = asked(talk(message("user", json::array({text("a"), block}))));
    EXPECT_FALSE(q.resumable) << block;
    EXPECT_EQ(q.native["messages"][1]["content"][1], block);
  }
  EXPECT_FALSE(asked(talk(message("assistant", "so"))).resumable) << "the answer goes on with it";
  EXPECT_FALSE(asked(with("tools", {{{"name", "f"}}})).resumable);
  EXPECT_TRUE(asked(with("tools", json::array())).resumable);
  EXPECT_FALSE(asked(with("thinking", {{"type", "enabled"}})).resumable);
}

TEST(anthropic_request, a_mistake_in_a_message_is_told_with_its_place) {
  const std::string role = R"(messages[1].role: expected "user" or "assistant")";
  const auto block = [](const json& b) { return message("user", json::array({text("x"), b})); };
  const std::vector<std::pair<json, std::string>> wrong{
      {"x", role},
      {{{"content", "x"}}, role},
      {message("tool", "x"), role},
      {{{"role", 7}, {"content", "x"}}, role},
      {{{"role", "user"}}, "messages[1].content: expected a string or an array of blocks"},
      {message("user", nullptr), "messages[1].content: expected a string or an array of blocks"},
      {message("user", 7), "messages[1].content: expected a string or an array of blocks"},
      {message("user", json::object()), "messages[1].content: expected a string or an array of blocks"},
      {block("x"), "messages[1].content[1].type: expected a string"},
      {block({{"text", "x"}}), "messages[1].content[1].type: expected a string"},
      {block({{"type", "text"}}), "messages[1].content[1].text: expected a string"},
      {block({{"type", "text"}, {"text", 7}}), "messages[1].content[1].text: expected a string"},
  };
  for (const auto& [second, said] : wrong) EXPECT_EQ(fault(talk(second)), said) << second;
  for (const json& none : {json(), json("x"), json::array(), json::object()}) {
    EXPECT_EQ(fault(with("messages", none)), "messages: expected an array with at least one message") << none;
  }
  EXPECT_EQ(fault(with("system", 7)), "system: expected a string or an array of blocks");
  EXPECT_EQ(fault(with("system", {{{"type", "text"}}})), "system[0].text: expected a string");
}

TEST(anthropic_request, every_field_of_a_wrong_type_is_named) {
  const std::vector<std::pair<const char*, std::vector<json>>> wrong{
      {"model", {1, json::object(), std::string(257, 'm')}},
      {"stream", {1, "true"}},
      {"max_tokens", {"5", 1.5, json::object(), 4294967296}},
      {"stop_sequences", {7, json::array({7}), json::array({""})}},
      {"temperature", {"0", json::object()}},
      {"top_p", {"0", true}},
      {"top_k", {"0", 1.5}},
      {"tools", {json{{"name", "f"}}, "x", 7}},
  };
  for (const auto& [name, values] : wrong) {
    for (const auto& value : values) {
      EXPECT_THAT(fault(with(name, value)), StartsWith(std::string(name) + ":")) << value;
    }
  }
  EXPECT_EQ(fault({{"messages", json::array({message("user", "x")})}}),
            "max_tokens: expected a whole number");
}

TEST(every_request, is_a_json_object) {
  for (const auto* body : {"null", "[]", "\"c4n4ry\"", "7", "{", "{\"c4n4ry\":1,\"c4n4ry\":2}", "{\"a\":NaN}",
                           "{\"a\":\"c4n4ry\xff\"}", "{\"a\":1e999}", "{\"c4n4ry\":}"}) {
    for (const auto& read : {parse_openai_chat(body), parse_openai_completion(body), parse_anthropic(body),
                             parse_ollama_chat(body, false), parse_ollama_generate(body, false)}) {
      ASSERT_FALSE(read.has_value()) << body;
      EXPECT_EQ(read.error().code, errc::bad_request) << body;
      EXPECT_THAT(read.error().message, Not(HasSubstr("c4n4ry"))) << body;
    }
  }
}

}  // namespace
}  // namespace pocketfleet
