#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "pocketfleet/wire/answer_form.hpp"

namespace pocketfleet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

using maker = std::unique_ptr<answer_form> (*)(asked_how);

constexpr answer_notes notes{.phone = "kitchen", .total = nanoseconds{99}};

asked_how how(bool usage = false) {
  return {"asked", "77", "2026-11-20T13:00:00Z", 1795179600, usage};
}

answer silent() {
  answer a;
  a.model = "there";
  a.created_at = "2026-11-20T13:00:01Z";
  a.done_reason = "length";
  a.counts = {12, 2, nanoseconds{5}, nanoseconds{6}, nanoseconds{7}};
  return a;
}

answer counted() {
  answer a = silent();
  for (const auto* text : {" 1", " 2"}) a.append(piece_kind::content, text);
  return a;
}

constexpr auto begun_call =
    R"([{"index":0,"id":"c1","type":"function","function":{"name":"f","arguments":"{\"n\""}}])";
constexpr auto more_call = R"([{"index":0,"function":{"arguments":":3}"}}])";
constexpr auto next_call =
    R"([{"index":1,"id":"c2","type":"function","function":{"name":"g","arguments":"no object"}}])";

/// Reasoning, text and two calls.
answer calling() {
  answer a = silent();
  a.append(piece_kind::reasoning, "hm");
  a.append(piece_kind::content, "so");
  for (const auto* deltas : {begun_call, more_call, next_call}) a.append(piece_kind::tool_call, deltas);
  a.done_reason = "tool_calls";
  return a;
}

/// A part of a character has some, too, and the end.
answer with_logprobs() {
  answer a = silent();
  for (const auto* token : {"", " 1", "", " 2", ""}) {
    a.append(piece_kind::logprobs, std::string(R"({"content":[{"token":")") + token + "\"}]}");
    if (*token != '\0') a.append(piece_kind::content, token);
  }
  return a;
}

json tokens(const std::vector<std::string>& all) {
  json out = json::array();
  for (const auto& token : all) out.push_back({{"token", token}});
  return out;
}

/// OpenAI's, with 12 tokens in the prompt.
json usage_of(unsigned made) {
  return {{"prompt_tokens", 12}, {"completion_tokens", made}, {"total_tokens", 12 + made}};
}

json parsed(const std::string& text) {
  auto read = parse_json(text);
  EXPECT_TRUE(read.has_value()) << text;
  return read ? *read : json{};
}

json whole(const std::unique_ptr<answer_form>& form, const answer& a) {
  const answer* const one = &a;
  return parsed(form->whole({&one, 1}, notes));
}

/// A stream of one choice, as its bytes; each piece on its own.
std::string streamed(const std::unique_ptr<answer_form>& form, const answer& a) {
  std::string out;
  answer so_far = a;
  so_far.pieces.clear();
  std::size_t written = 0;
  for (const piece& one : a.pieces) {
    so_far.pieces.push_back(one);
    written = form->pieces(out, so_far, written, 0);
  }
  form->end_choice(out, a, 0, notes);
  const answer* const one = &a;
  form->end(out, {&one, 1}, notes);
  return out;
}

/// The data of each event: a single line, behind one with its name if they are `named`.
std::vector<json> events(const std::string& text, bool named = false) {
  EXPECT_TRUE(text.ends_with("\n\n"));
  std::vector<json> out;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = text.find("\n\n", at);
    const std::string event = text.substr(at, end - at);
    at = end + 2;
    const auto data = event.find("data: ");
    EXPECT_EQ(event.find('\n', data), std::string::npos) << event;
    const bool last = event == "data: [DONE]";
    out.push_back(last ? json("[DONE]") : parsed(event.substr(data + 6)));
    const std::string name = named ? "event: " + out.back()["type"].get<std::string>() + "\n" : "";
    EXPECT_EQ(event.substr(0, data), name);
  }
  return out;
}

std::vector<json> lines(const std::string& text) {
  EXPECT_TRUE(text.ends_with("\n"));
  std::vector<json> out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) out.push_back(parsed(line));
  return out;
}

std::vector<json> deltas(const std::vector<json>& chunks) {
  std::vector<json> out;
  for (const json& chunk : chunks)
    if (chunk != "[DONE]") out.push_back(chunk["choices"][0]["delta"]);
  return out;
}

// ---- OpenAI's

TEST(openai_chat_form, a_whole_answer) {
  EXPECT_EQ(whole(openai_chat_form(how()), counted()), R"({"id": "chatcmpl-77", "object": "chat.completion",
      "created": 1795179600, "model": "asked", "usage": {"prompt_tokens": 12, "completion_tokens": 2, "total_tokens": 14},
      "choices": [{"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": " 1 2"}}]})"_json);
  EXPECT_EQ(whole(openai_chat_form({.id = "7"}), counted())["model"], "there") << "nobody asked for one";
}

TEST(openai_chat_form, a_whole_answer_with_calls) {
  const json choice = whole(openai_chat_form(how()), calling())["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
  EXPECT_EQ(choice["message"],
            R"({"role": "assistant", "content": "so", "reasoning_content": "hm", "tool_calls": [
      {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"n\":3}"}},
      {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "no object"}}]})"_json);
  answer mute = silent();
  EXPECT_EQ(whole(openai_chat_form(how()), mute)["choices"][0]["message"]["content"], "");
  mute.append(piece_kind::tool_call, begun_call);
  EXPECT_TRUE(whole(openai_chat_form(how()), mute)["choices"][0]["message"]["content"].is_null());
}

TEST(openai_chat_form, calls_end_a_turn_only_if_it_is_at_its_end) {
  const auto finish = [](answer a, const char* reason) {
    a.done_reason = reason;
    return whole(openai_chat_form(how()), a)["choices"][0]["finish_reason"];
  };
  EXPECT_EQ(finish(calling(), "stop"), "tool_calls") << "Ollama's word";
  EXPECT_EQ(finish(calling(), "length"), "length");
  EXPECT_EQ(finish(counted(), ""), "stop");
}

TEST(openai_chat_form, a_stream) {
  const auto chunks = events(streamed(openai_chat_form(how()), counted()));
  ASSERT_EQ(chunks.size(), 5U);
  EXPECT_THAT(deltas(chunks),
              ElementsAre(json({{"role", "assistant"}, {"content", nullptr}}), json({{"content", " 1"}}),
                          json({{"content", " 2"}}), json::object()));
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(chunks[i]["id"], "chatcmpl-77");
    EXPECT_FALSE(chunks[i].contains("error") || chunks[i].contains("usage"));
    EXPECT_EQ(chunks[i]["choices"][0]["finish_reason"], i == 3 ? json("length") : json());
  }
  EXPECT_EQ(chunks[4], "[DONE]");
  const json counts = events(streamed(openai_chat_form(how(true)), counted()))[4];
  EXPECT_EQ(counts["choices"], json::array());
  EXPECT_EQ(counts["usage"], usage_of(2));
}

TEST(openai_chat_form, a_stream_of_calls_is_what_the_phone_sent) {
  const auto chunks = events(streamed(openai_chat_form(how()), calling()));
  EXPECT_THAT(deltas(chunks), ElementsAre(json({{"role", "assistant"}, {"content", nullptr}}),
                                          json({{"reasoning_content", "hm"}}), json({{"content", "so"}}),
                                          json({{"tool_calls", parsed(begun_call)}}),
                                          json({{"tool_calls", parsed(more_call)}}),
                                          json({{"tool_calls", parsed(next_call)}}), json::object()));
}

TEST(openai_chat_form, choices_stand_side_by_side) {
  const answer a = counted();
  answer b = counted();
  b.counts.answer_tokens = 5;
  b.more = {dialect::openai_chat, R"("timings":{"x":1})", R"({"prompt_tokens":1})"};
  const std::array<const answer*, 2> both{&a, &b};
  asked_how twice = how();
  twice.each = 2;
  const json all = parsed(openai_chat_form(twice)->whole(both, notes));
  EXPECT_EQ(all["choices"][1]["index"], 1);
  EXPECT_EQ(all["usage"], usage_of(7)) << "one prompt, two answers";
  EXPECT_EQ(parsed(openai_completion_form(how())->whole(both, notes))["usage"]["prompt_tokens"], 24)
      << "two prompts";
  EXPECT_FALSE(all.contains("timings")) << "of one of them";

  const auto form = openai_chat_form(how());
  std::string out;
  EXPECT_EQ(form->pieces(out, b, 0, 1), 2U);
  EXPECT_EQ(form->pieces(out, a, 0, 0), 2U);
  const std::string before = out;
  EXPECT_EQ(form->pieces(out, a, 2, 0), 2U);
  EXPECT_EQ(out, before) << "nothing is new";
  unsigned roles = 0;
  for (const json& chunk : events(out)) roles += chunk["choices"][0]["delta"].contains("role") ? 1U : 0U;
  EXPECT_EQ(roles, 2U) << "one each";
}

TEST(openai_chat_form, what_the_phone_adds_stands_in_the_last_object) {
  answer a = counted();
  a.more = {dialect::openai_chat, R"("timings":{"x":1})", R"({"prompt_tokens":3,"more":4})"};
  const json out = whole(openai_chat_form(how()), a);
  EXPECT_EQ(out["timings"], json({{"x", 1}}));
  EXPECT_EQ(out["usage"], json({{"prompt_tokens", 3}, {"more", 4}})) << "as the phone has it";
  auto chunks = events(streamed(openai_chat_form(how()), a));
  EXPECT_EQ(chunks[3]["timings"], json({{"x", 1}}));
  chunks = events(streamed(openai_chat_form(how(true)), a));
  EXPECT_FALSE(chunks[3].contains("timings"));
  EXPECT_EQ(chunks[4]["timings"], json({{"x", 1}}));
  a.more.of = dialect::ollama_chat;
  EXPECT_FALSE(whole(openai_chat_form(how()), a).contains("timings")) << "of another dialect";
}

TEST(openai_chat_form, logprobs_go_with_their_content) {
  const json out = whole(openai_chat_form(how()), with_logprobs());
  EXPECT_EQ(out["choices"][0]["logprobs"]["content"], tokens({"", " 1", "", " 2", ""}));
  const auto chunks = events(streamed(openai_chat_form(how()), with_logprobs()));
  ASSERT_EQ(chunks.size(), 5U);
  EXPECT_EQ(chunks[2]["choices"][0]["logprobs"]["content"], tokens({"", " 2"}));
  EXPECT_EQ(chunks[3]["choices"][0]["logprobs"]["content"], tokens({""}));
}

TEST(openai_completion_form, whole_and_streamed) {
  EXPECT_EQ(whole(openai_completion_form(how()), counted()), R"({"id": "cmpl-77", "object": "text_completion",
      "created": 1795179600, "model": "asked", "usage": {"prompt_tokens": 12, "completion_tokens": 2, "total_tokens": 14},
      "choices": [{"index": 0, "finish_reason": "length", "text": " 1 2", "logprobs": null}]})"_json);
  const auto chunks = events(streamed(openai_completion_form(how()), counted()));
  ASSERT_EQ(chunks.size(), 4U) << "no role";
  EXPECT_EQ(chunks[0]["choices"],
            R"([{"index": 0, "finish_reason": null, "text": " 1", "logprobs": null}])"_json);
  EXPECT_EQ(chunks[2]["choices"],
            R"([{"index": 0, "finish_reason": "length", "text": "", "logprobs": null}])"_json);
  EXPECT_EQ(chunks[3], "[DONE]");
}

// ---- Ollama's

TEST(ollama_form, a_whole_answer) {
  json expected =
      R"({"model": "asked", "created_at": "2026-11-20T13:00:01Z", "done": true, "done_reason": "length",
      "message": {"role": "assistant", "content": " 1 2"}, "total_duration": 99, "load_duration": 5,
      "prompt_eval_count": 12, "prompt_eval_duration": 6, "eval_count": 2, "eval_duration": 7})"_json;
  EXPECT_EQ(whole(ollama_chat_form(how()), counted()), expected);
  expected.erase("message");
  expected["response"] = " 1 2";
  EXPECT_EQ(whole(ollama_generate_form(how()), counted()), expected);
  EXPECT_EQ(whole(ollama_chat_form(how()), answer{}).size(), 6U) << "what is 0 is left out";
}

TEST(ollama_form, calls_come_whole_with_objects_for_arguments) {
  const json calls = R"([{"id": "c1", "function": {"index": 0, "name": "f", "arguments": {"n": 3}}},
      {"id": "c2", "function": {"index": 1, "name": "g", "arguments": {}}}])"_json;
  const json out = whole(ollama_chat_form(how()), calling());
  EXPECT_EQ(out["done_reason"], "stop") << "Ollama has no word for it";
  EXPECT_EQ(out["message"],
            json({{"role", "assistant"}, {"content", "so"}, {"thinking", "hm"}, {"tool_calls", calls}}));
  const auto all = lines(streamed(ollama_chat_form(how()), calling()));
  ASSERT_EQ(all.size(), 3U);
  EXPECT_EQ(all[0]["message"], json({{"role", "assistant"}, {"content", ""}, {"thinking", "hm"}}));
  EXPECT_EQ(all[2]["message"]["tool_calls"], calls);
}

TEST(ollama_form, a_stream) {
  for (const bool chat : {true, false}) {
    const auto all = lines(streamed(chat ? ollama_chat_form(how()) : ollama_generate_form(how()), counted()));
    ASSERT_EQ(all.size(), 3U);
    const auto said = [&](const json& line) { return chat ? line["message"]["content"] : line["response"]; };
    EXPECT_EQ(said(all[0]), " 1");
    EXPECT_EQ(said(all[1]), " 2");
    EXPECT_EQ(said(all[2]), "");
    EXPECT_FALSE(all[0].contains("error"));
    EXPECT_EQ(all[0]["done"], false);
    EXPECT_EQ(all[2]["eval_count"], 2);
  }
}

TEST(ollama_form, logprobs_are_a_bare_list) {
  for (const maker make : {ollama_chat_form, ollama_generate_form}) {
    EXPECT_EQ(whole(make(how()), with_logprobs())["logprobs"], tokens({"", " 1", "", " 2", ""}));
    const auto all = lines(streamed(make(how()), with_logprobs()));
    ASSERT_EQ(all.size(), 3U);
    EXPECT_EQ(all[0]["logprobs"], tokens({"", " 1"}));
    EXPECT_EQ(all[2]["logprobs"], tokens({""}));
  }
}

TEST(ollama_form, what_the_phone_adds_stands_in_the_last_line) {
  answer a = counted();
  a.more = {dialect::ollama_generate, R"("context":[1,2])", {}};
  EXPECT_EQ(lines(streamed(ollama_generate_form(how()), a))[2]["context"], json({1, 2}));
  EXPECT_FALSE(lines(streamed(ollama_chat_form(how()), a))[2].contains("context"));
}

// ---- Anthropic's

TEST(anthropic_form, a_whole_answer) {
  EXPECT_EQ(whole(anthropic_form(how()), counted()),
            R"({"id": "msg_77", "type": "message", "role": "assistant",
      "model": "asked", "content": [{"type": "text", "text": " 1 2"}], "stop_reason": "max_tokens",
      "stop_sequence": null, "usage": {"input_tokens": 12, "output_tokens": 2}})"_json);
  answer a = calling();
  a.more = {dialect::anthropic, R"("stop_reason":"stop_sequence","stop_sequence":"x")",
            R"({"input_tokens":1})"};
  const json out = whole(anthropic_form(how()), a);
  EXPECT_EQ(out["content"], R"([{"type": "thinking", "thinking": "hm", "signature": ""},
      {"type": "text", "text": "so"}, {"type": "tool_use", "id": "c1", "name": "f", "input": {"n": 3}},
      {"type": "tool_use", "id": "c2", "name": "g", "input": {}}])"_json);
  EXPECT_EQ(out["stop_sequence"], "x") << "as the phone gave it";
  EXPECT_EQ(out["usage"], json({{"input_tokens", 1}}));
}

TEST(anthropic_form, a_stream_is_a_message_of_blocks) {
  const auto all = events(streamed(anthropic_form(how()), calling()), true);
  std::string types;
  for (const json& event : all) {
    if (!event.contains("index")) continue;
    types += event["type"].get<std::string>().substr(14) + std::to_string(event["index"].get<int>()) + " ";
  }
  EXPECT_EQ(types, "start0 delta0 stop0 start1 delta1 stop1 start2 delta2 delta2 stop2 start3 delta3 stop3 ");
  ASSERT_EQ(all.size(), 16U);
  EXPECT_EQ(all[2]["delta"], json({{"type", "thinking_delta"}, {"thinking", "hm"}}));
  EXPECT_EQ(all[5]["delta"], json({{"type", "text_delta"}, {"text", "so"}}));
  EXPECT_EQ(all[7]["content_block"],
            json({{"type", "tool_use"}, {"id", "c1"}, {"name", "f"}, {"input", json::object()}}));
  EXPECT_EQ(all[9]["delta"], json({{"type", "input_json_delta"}, {"partial_json", ":3}"}}));
  EXPECT_EQ(all[14]["delta"]["stop_reason"], "tool_use");
}

TEST(anthropic_form, an_empty_answer_is_a_message_too) {
  answer a = silent();
  a.done_reason = "stop";
  const auto all = events(streamed(anthropic_form(how()), a), true);
  EXPECT_EQ(all.at(1)["delta"]["stop_reason"], "end_turn");
}

// ---- all of them

constexpr std::array<maker, 5> makers{openai_chat_form, openai_completion_form, ollama_chat_form,
                                      ollama_generate_form, anthropic_form};

TEST(every_form, escapes_what_would_end_a_line_somewhere) {
  answer a = counted();
  const std::string odd = "\n\n\r\n\u2028\u2029\u0085\t\"\\\x01";
  a.append(piece_kind::content, odd);
  for (const maker make : makers) {
    asked_how strange = how();
    strange.model = odd;
    const answer* const one = &a;
    const std::string body = make(strange)->whole({&one, 1}, notes);
    EXPECT_EQ(body.find('\n'), std::string::npos);
    for (const std::string& text : {body, streamed(make(strange), a)}) {
      for (const auto* end : {"\r", "\u2028", "\u2029", "\u0085"}) EXPECT_THAT(text, Not(HasSubstr(end)));
      EXPECT_THAT(text, HasSubstr("\\u2028"));
    }
  }
}

TEST(every_form, a_keepalive_is_no_part_of_the_answer) {
  const answer none;
  for (const maker make : makers) {
    std::string out;
    make(how())->keepalive(out, none);
    if (out.starts_with(": ") && out.ends_with("\n\n")) continue;
    const json line = lines(out).at(0);
    EXPECT_EQ(line["done"], false);
    EXPECT_EQ(line.contains("message") ? line["message"]["content"] : line["response"], "");
  }
}

TEST(every_form, tells_a_failure_in_its_own_words) {
  const error why(errc::phone_error, "the phone\n\"failed\"");
  std::vector<std::string> told;
  for (const maker make : makers) make(how())->failed(told.emplace_back(), why);
  EXPECT_EQ(events(told[0]).at(0)["error"]["message"], why.message);
  EXPECT_EQ(told[1], told[0]);
  EXPECT_EQ(lines(told[2]).at(0), json({{"error", why.message}}));
  EXPECT_EQ(told[3], told[2]);
  const json event = events(told[4], true).at(0);
  EXPECT_EQ(event["request_id"], "77");
}

}  // namespace
}  // namespace pocketfleet
