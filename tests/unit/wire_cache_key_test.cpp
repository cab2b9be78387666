#include "pocketfleet/wire/cache_key.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "pocketfleet/wire/ask.hpp"

namespace pocketfleet {
namespace {

question read(const std::string& text) {
  auto got = parse_ask(text, ask_rules{.pass_load_options = true});
  EXPECT_TRUE(got.has_value()) << text << (got ? "" : got.error().message);
  return got ? got->what : question{};
}

cache_key key_of(const std::string& text) {
  return cache_key_of(read(text));
}

TEST(cache_key, the_same_question_has_the_same_key) {
  const std::string text = R"({"prompt":"hello","options":{"seed":1},"system":"s","format":"json"})";
  EXPECT_EQ(key_of(text), key_of(text));
}

TEST(cache_key, each_field_changed_alone_changes_the_key) {
  const std::vector<std::string> questions{
      R"({"prompt":"hello"})",
      R"({"prompt":"hello "})",
      R"({"prompt":"Hello"})",
      R"({"prompt":"hello","system":"s"})",
      R"({"prompt":"hello","system":"t"})",
      R"({"prompt":"hello","model":"qwen"})",
      R"({"prompt":"hello","model":"qwen:7b"})",
      R"({"prompt":"hello","options":{"temperature":0}})",
      R"({"prompt":"hello","options":{"temperature":0.5}})",
      R"({"prompt":"hello","options":{"top_p":0.5}})",
      R"({"prompt":"hello","options":{"seed":1}})",
      R"({"prompt":"hello","options":{"seed":2}})",
      R"({"prompt":"hello","options":{"num_predict":1}})",
      R"({"prompt":"hello","options":{"num_ctx":2048}})",
      R"({"prompt":"hello","options":{"stop":["a"]}})",
      R"({"prompt":"hello","options":{"stop":["a","b"]}})",
      R"({"prompt":"hello","options":{"stop":["b","a"]}})",
      R"({"prompt":"hello","format":"json"})",
      R"({"prompt":"hello","format":{}})",
      R"({"prompt":"hello","format":{"type":"object"}})",
      R"({"prompt":"hello","think":true})",
      R"({"prompt":"hello","think":false})",
      R"({"prompt":"hello","think":"low"})",
      R"({"prompt":"hello","images":["aGk="]})",
      R"({"prompt":"hello","images":["aG8="]})",
      R"({"prompt":"hello","images":["aGk=","aG8="]})",
      R"({"messages":[{"role":"assistant","content":"hello"}]})",
      R"({"messages":[{"role":"user","content":"hello"},{"role":"user","content":"hello"}]})",
      R"({"messages":[{"role":"user","content":"a"},{"role":"user","content":"b"}]})",
      R"({"messages":[{"role":"user","content":"b"},{"role":"user","content":"a"}]})",
  };
  std::set<cache_key> keys;
  for (const auto& q : questions) EXPECT_TRUE(keys.insert(key_of(q)).second) << q;
}

TEST(cache_key, the_order_of_keys_and_the_way_to_ask_change_nothing) {
  EXPECT_EQ(key_of(R"({"options":{"seed":1,"top_k":2},"prompt":"hello","model":"m"})"),
            key_of(R"({"model":"m","prompt":"hello","options":{"top_k":2,"seed":1}})"));
  EXPECT_EQ(key_of(R"({"messages":[{"role":"user","content":"hello"}]})"),
            key_of(R"({"messages":[{"content":"hello","role":"user"}]})"));
  EXPECT_EQ(key_of(R"({"prompt":"hello","format":{"a":{"x":1,"y":2},"b":3}})"),
            key_of(R"({"prompt":"hello","format":{"b":3,"a":{"y":2,"x":1}}})"));
  EXPECT_EQ(key_of(R"({"prompt":"hello","system":"s"})"),
            key_of(R"({"messages":[{"role":"system","content":"s"},{"role":"user","content":"hello"}]})"));
  EXPECT_EQ(key_of(R"({"prompt":"hello","options":{"stop":"x"}})"),
            key_of(R"({"prompt":"hello","options":{"stop":["x"]}})"));
  EXPECT_EQ(key_of(R"({"prompt":"\u0068ello"})"), key_of(R"({ "prompt" : "hello" })"));
}

TEST(cache_key, what_shapes_no_answer_changes_nothing) {
  const auto plain = key_of(R"({"prompt":"hello"})");
  EXPECT_EQ(key_of(R"({"prompt":"hello","keep_alive":"10m"})"), plain);
  EXPECT_EQ(key_of(R"({"prompt":"hello","keep_alive":0})"), plain);
  EXPECT_EQ(key_of(R"({"prompt":"hello","cache":true,"stream":false})"), plain);
  EXPECT_EQ(key_of(R"({"prompt":"hello","options":{},"format":null,"think":null,"system":""})"), plain);
}

TEST(cache_key, models_are_the_same_by_the_names_that_are_compared) {
  EXPECT_EQ(key_of(R"({"prompt":"x","model":"Qwen"})"), key_of(R"({"prompt":"x","model":"qwen:latest"})"));
}

TEST(cache_key, scopes_are_kept_apart) {
  const question q = read(R"({"prompt":"hello"})");
  EXPECT_NE(cache_key_of(q, "a"), cache_key_of(q, "b"));
  EXPECT_NE(cache_key_of(q, "a"), cache_key_of(q));
  EXPECT_EQ(cache_key_of(q, ""), cache_key_of(q));
}

TEST(cache_key, text_cannot_move_from_one_field_into_the_next) {
  // Each pair has the same text in all; only where a field ends differs.
  const auto key = [](std::string_view scope, const char* model, json messages, json format) {
    question q;
    q.model = model;
    q.messages = std::move(messages);
    q.format = std::move(format);
    return cache_key_of(q, scope);
  };
  EXPECT_NE(key("a", "", "x", nullptr), key("", "a", "x", nullptr));
  EXPECT_NE(key("1:a", "", "x", nullptr), key("1", ":a", "x", nullptr));
  EXPECT_NE(key("", "", "x y", nullptr), key("", "", "x", "y"));
  EXPECT_NE(key("", "", "x\" {} \"y", nullptr), key("", "", "x", "y"));
  EXPECT_NE(key("", "", "null", nullptr), key("", "", nullptr, "null"));
  EXPECT_NE(key("", "", "1", nullptr), key("", "", 1, nullptr)) << "a string is no number";
  EXPECT_NE(key("", "", "", nullptr), key("", "", nullptr, "")) << "an empty string is not nothing";
}

TEST(cache_key, a_key_is_not_shaped_by_the_questions_before_it) {
  const auto first = key_of(R"({"prompt":"one"})");
  for (int i = 0; i < 10; ++i)
    key_of(R"({"prompt":")" + std::string(static_cast<std::size_t>(i) * 1000 + 1, 'x') + R"("})");
  EXPECT_EQ(key_of(R"({"prompt":"one"})"), first);
}

TEST(is_deterministic, with_temperature_zero_or_a_seed) {
  EXPECT_TRUE(is_deterministic(read(R"({"prompt":"x","options":{"temperature":0}})")));
  EXPECT_TRUE(is_deterministic(read(R"({"prompt":"x","options":{"temperature":0.0}})")));
  EXPECT_TRUE(is_deterministic(read(R"({"prompt":"x","options":{"seed":0}})")));
  EXPECT_TRUE(is_deterministic(read(R"({"prompt":"x","options":{"seed":7,"temperature":1}})")));
  EXPECT_FALSE(is_deterministic(read(R"({"prompt":"x"})")));
  EXPECT_FALSE(is_deterministic(read(R"({"prompt":"x","options":{"temperature":0.1}})")));
  EXPECT_FALSE(is_deterministic(read(R"({"prompt":"x","options":{"seed":-1}})")))
      << "-1 asks for a random one";
  EXPECT_FALSE(is_deterministic(read(R"({"prompt":"x","options":{"top_k":1}})")));
}

}  // namespace
}  // namespace pocketfleet
