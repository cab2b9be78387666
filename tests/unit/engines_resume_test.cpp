// Going on with a begun answer, on both engines.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engines_helpers.hpp"
#include "pocketfleet/engines/codec.hpp"

namespace pocketfleet {
namespace {

question asked() {
  question q;
  q.messages = json::array({{{"role", "user"}, {"content", "count"}}});
  q.options = {{"num_predict", 20}, {"temperature", 0}, {"stop", json::array({" 15"})}};
  return q;
}

const begun_answer begun{" 1 2 3", 3, 0};

TEST(resume_llama_server, asks_for_the_prompt_counts_and_goes_on_behind_the_text) {
  const question q = asked();
  const auto how = engine_of(engine_kind::llama_server).resume(q, "tiny", begun);
  auto next = how->next();
  ASSERT_TRUE(next);
  EXPECT_EQ(next->target, "/apply-template");
  EXPECT_EQ(json::parse(next->body)["messages"], q.messages);
  ASSERT_TRUE(how->heard(R"({"prompt":"<user>count<assistant>"})"));
  next = how->next();
  ASSERT_TRUE(next);
  EXPECT_EQ(next->target, "/tokenize");
  EXPECT_EQ(json::parse(next->body)["content"], "<user>count<assistant>");
  ASSERT_TRUE(how->heard(R"({"tokens":[1,2,3,4]})"));
  next = how->next();
  ASSERT_TRUE(next);
  EXPECT_EQ(json::parse(next->body)["content"], "<user>count<assistant> 1 2 3");
  ASSERT_TRUE(how->heard(R"({"tokens":[1,2,3,4,5,6,7]})"));
  EXPECT_FALSE(how->next());
  EXPECT_EQ(how->tokens_before(), 3U);
  const auto request = how->request();
  ASSERT_TRUE(request);
  EXPECT_EQ(request->target, "/completion");
  const json body = json::parse(request->body);
  EXPECT_EQ(body["prompt"], "<user>count<assistant> 1 2 3");
  EXPECT_EQ(body["n_predict"], 17) << "what is left of the budget";
  EXPECT_EQ(body["stop"], json::array({" 15"}));
  EXPECT_EQ(body["temperature"], 0);
  EXPECT_EQ(body["stream"], true);
}

TEST(resume_llama_server, reasoning_that_is_over_does_not_begin_again) {
  const question q = asked();
  const begun_answer reasoned{" 1", 1, 4};
  const auto how = engine_of(engine_kind::llama_server).resume(q, "tiny", reasoned);
  EXPECT_EQ(json::parse(how->next()->body)["chat_template_kwargs"]["enable_thinking"], false);
  ASSERT_TRUE(how->heard(R"({"prompt":"p"})"));
  ASSERT_TRUE(how->heard(R"({"tokens":[1]})"));
  ASSERT_TRUE(how->heard(R"({"tokens":[1,2]})"));
  EXPECT_EQ(json::parse(how->request()->body)["n_predict"], 15) << "of 20, 4 went into the reasoning";
}

TEST(resume_llama_server, nothing_is_asked_for_when_all_tokens_are_there) {
  question q = asked();
  q.options["num_predict"] = 3;
  const auto how = engine_of(engine_kind::llama_server).resume(q, "tiny", begun);
  ASSERT_TRUE(how->heard(R"({"prompt":"p"})"));
  ASSERT_TRUE(how->heard(R"({"tokens":[1]})"));
  ASSERT_TRUE(how->heard(R"({"tokens":[1,2,3,4]})"));
  EXPECT_FALSE(how->request());
}

TEST(resume_llama_server, what_is_not_an_answer_to_the_question_ends_it) {
  const question q = asked();
  for (const char* body : {"", "{}", "[]", R"({"prompt":7})", R"({"error":{"message":"x"}})"}) {
    const auto how = engine_of(engine_kind::llama_server).resume(q, "tiny", begun);
    const auto read = how->heard(body);
    ASSERT_FALSE(read) << body;
    EXPECT_EQ(read.error().code, errc::unsupported);
  }
}

TEST(resume_ollama, asks_for_the_prompt_and_goes_on_raw) {
  const question q = asked();
  const auto how = engine_of(engine_kind::ollama).resume(q, "qwen2.5:1.5b", begun);
  auto next = how->next();
  ASSERT_TRUE(next);
  EXPECT_EQ(next->target, "/api/chat");
  const json probe = json::parse(next->body);
  EXPECT_EQ(probe["_debug_render_only"], true);
  EXPECT_EQ(probe["options"]["num_predict"], 1) << "a release that does not know the field answers";
  EXPECT_EQ(probe["model"], "qwen2.5:1.5b");
  ASSERT_TRUE(how->heard(R"({"model":"m","_debug_info":{"rendered_template":"<user>count<assistant>"}})"));
  EXPECT_FALSE(how->next());
  const auto request = how->request();
  ASSERT_TRUE(request);
  EXPECT_EQ(request->target, "/api/generate");
  const json body = json::parse(request->body);
  EXPECT_EQ(body["raw"], true);
  EXPECT_EQ(body["prompt"], "<user>count<assistant> 1 2 3");
  EXPECT_EQ(body["options"]["num_predict"], 17);
}

TEST(resume_ollama, a_release_or_a_form_that_cannot_go_on_says_so) {
  const question q = asked();
  for (const char* body :
       {R"({"message":{"content":" 1"},"done":true})", "{}", "",
        R"({"_debug_info":{"rendered_template":"<|start|>user<|message|>x<|start|>assistant"}})"}) {
    const auto how = engine_of(engine_kind::ollama).resume(q, "m", begun);
    const auto read = how->heard(body);
    ASSERT_FALSE(read) << body;
    EXPECT_EQ(read.error().code, errc::unsupported);
  }
}

TEST(resume, not_where_a_grammar_or_an_image_shapes_the_answer) {
  for (const auto kind : {engine_kind::ollama, engine_kind::llama_server}) {
    question q = asked();
    EXPECT_TRUE(engine_of(kind).can_resume(q));
    q.format = "json";
    EXPECT_FALSE(engine_of(kind).can_resume(q));
    q.format = json();
    q.has_images = true;
    EXPECT_FALSE(engine_of(kind).can_resume(q));
  }
}

}  // namespace
}  // namespace pocketfleet
