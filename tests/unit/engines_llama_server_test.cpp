#include <gmock/gmock.h>

#include "engines_helpers.hpp"

namespace pocketfleet::testing_engines {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const engine& llama() {
  return engine_of(engine_kind::llama_server);
}

decoded decode(std::string_view stream) {
  return testing_engines::decode(engine_kind::llama_server, stream);
}

question hello() {
  question q;
  q.messages = json::array({{{"role", "user"}, {"content", "hello"}}});
  return q;
}

json body_of(const question& q, std::string_view model = "phone") {
  const auto request = llama().encode(q, model);
  EXPECT_EQ(request.method, "POST");
  EXPECT_EQ(request.target, "/v1/chat/completions");
  auto body = parse_json(request.body);
  EXPECT_TRUE(body.has_value()) << request.body;
  return body ? *body : json{};
}

// ---- what is sent

TEST(llama_server_encode, asks_for_a_stream_with_usage_and_progress) {
  EXPECT_EQ(body_of(hello()), json({{"model", "phone"},
                                    {"messages", hello().messages},
                                    {"stream", true},
                                    {"stream_options", {{"include_usage", true}}},
                                    {"return_progress", true}}));
}

TEST(llama_server_encode, the_model_is_called_what_the_phone_calls_it) {
  question q = hello();
  q.model = "gemma";
  EXPECT_EQ(body_of(q, "gemma-3-1b.gguf")["model"], "gemma-3-1b.gguf");
}

TEST(llama_server_encode, options_get_the_names_it_knows) {
  question q = hello();
  q.options = {{"num_predict", 5},
               {"num_keep", 2},
               {"seed", 7},
               {"stop", {"a", "b"}},
               {"temperature", 0.5},
               {"top_k", 40},
               {"top_p", 0.9},
               {"min_p", 0.1},
               {"typical_p", 1.0},
               {"repeat_last_n", 64},
               {"repeat_penalty", 1.1},
               {"presence_penalty", 0.1},
               {"frequency_penalty", 0.2}};
  EXPECT_EQ(llama().cannot(q), std::nullopt);
  const json body = body_of(q);
  EXPECT_FALSE(body.contains("options"));
  EXPECT_FALSE(body.contains("num_predict"));
  EXPECT_EQ(body["max_tokens"], 5);
  EXPECT_EQ(body["n_keep"], 2);
  EXPECT_EQ(body["stop"], json::array({"a", "b"}));
  for (const auto* same : {"seed", "temperature", "top_k", "top_p", "min_p", "typical_p", "repeat_last_n",
                           "repeat_penalty", "presence_penalty", "frequency_penalty"}) {
    EXPECT_EQ(body[same], q.options[same]) << same;
  }
}

TEST(llama_server_encode, format_becomes_response_format) {
  question q = hello();
  q.format = "json";
  EXPECT_EQ(body_of(q)["response_format"], json({{"type", "json_object"}}));
  q.format = {{"type", "object"}, {"required", {"a"}}};
  const json body = body_of(q);
  EXPECT_EQ(body["response_format"]["type"], "json_schema");
  EXPECT_EQ(body["response_format"]["json_schema"]["schema"], q.format);
  EXPECT_FALSE(body.contains("format"));
}

TEST(llama_server_encode, think_becomes_an_argument_of_the_template) {
  question q = hello();
  for (const bool think : {true, false}) {
    q.think = think;
    EXPECT_EQ(body_of(q)["chat_template_kwargs"], json({{"enable_thinking", think}}));
  }
}

TEST(llama_server_encode, images_become_parts_with_data_uris) {
  question q = hello();
  q.messages = json::array({{{"role", "system"}, {"content", "s"}},
                            {{"role", "user"},
                             {"content", "what?"},
                             {"images", {"iVBORw0KGgo=", "/9j/4AAQ", "UklGRg==", "R0lGODlh"}}},
                            {{"role", "user"}, {"content", ""}, {"images", {"iVBORw0KGgo="}}}});
  q.has_images = q.rich = true;
  const json sent = body_of(q)["messages"];
  EXPECT_EQ(sent[0], q.messages[0]) << "a message without images stays as it is";
  const auto part = [](const std::string& url) {
    return json{{"type", "image_url"}, {"image_url", {{"url", url}}}};
  };
  EXPECT_EQ(sent[1], json({{"role", "user"},
                           {"content",
                            {{{"type", "text"}, {"text", "what?"}},
                             part("data:image/png;base64,iVBORw0KGgo="),
                             part("data:image/jpeg;base64,/9j/4AAQ"),
                             part("data:image/webp;base64,UklGRg=="),
                             part("data:image/gif;base64,R0lGODlh")}}}));
  EXPECT_EQ(sent[2]["content"], json::array({part("data:image/png;base64,iVBORw0KGgo=")}))
      << "no empty text part";
}

TEST(llama_server_encode, any_text_gives_good_json) {
  question q = hello();
  q.messages[0]["content"] = "\"\\\n\x01\u2028\xf0\x9f\x98\x80";
  EXPECT_EQ(body_of(q, "m\"\n")["messages"], q.messages);
}

TEST(llama_server_cannot, names_the_field_it_has_not) {
  question q = hello();
  EXPECT_EQ(llama().cannot(q), std::nullopt);
  for (const json& unload : {json(0), json("0"), json("0s"), json("-0m")}) {
    q.keep_alive = unload;
    EXPECT_THAT(llama().cannot(q).value_or(""), HasSubstr("keep_alive")) << unload;
  }
  for (const json& longer : {json(300), json("10m"), json(-1), json("1h0m")}) {
    q.keep_alive = longer;
    EXPECT_EQ(llama().cannot(q), std::nullopt) << "it keeps its model longer than that: " << longer;
  }
  q = hello();
  q.think = "high";
  EXPECT_THAT(llama().cannot(q).value_or(""), HasSubstr("think"));
  for (const auto* name : {"num_ctx", "num_gpu", "num_thread", "use_mmap", "penalize_newline"}) {
    q = hello();
    q.options = {{name, 1}};
    EXPECT_THAT(llama().cannot(q).value_or(""), HasSubstr("options." + std::string(name)));
  }
  q = hello();
  q.think = true;
  q.format = "json";
  q.has_images = true;
  q.options = {{"seed", 1}};
  EXPECT_EQ(llama().cannot(q), std::nullopt);
}

TEST(llama_server_warm_up, asks_for_nothing) {
  const auto request = llama().warm_up("m", "10m");
  EXPECT_EQ(request.method, "POST");
  EXPECT_EQ(request.target, "/completion");
  EXPECT_EQ(json::parse(request.body)["n_predict"], 0);
}

// ---- what comes back

std::string event(const std::string& data) {
  return "data: " + data + "\n\n";
}
std::string chunk(const std::string& delta, const std::string& finish = "null",
                  const std::string& more = {}) {
  return event(
      R"({"choices":[{"finish_reason":)" + finish + R"(,"index":0,"delta":)" + delta +
      R"(}],"created":1795179600,"id":"chatcmpl-x","model":"phone","system_fingerprint":"b11669-Debian",)" +
      R"("object":"chat.completion.chunk")" + more + "}");
}
const std::string first = chunk(R"({"role":"assistant","content":null})");
std::string say(const std::string& text) {
  return chunk(R"({"content":")" + text + R"("})");
}
const std::string stopped = chunk("{}", R"("stop")");
const std::string timings =
    R"(,"timings":{"cache_n":6,"prompt_n":20,"prompt_ms":123.456,"prompt_per_second":162.0,"predicted_n":9,"predicted_ms":1000.5})";
const std::string counted = event(
    R"({"choices":[],"created":1795179600,"id":"chatcmpl-x","model":"phone","object":"chat.completion.chunk",)"
    R"("usage":{"completion_tokens":10,"prompt_tokens":27,"total_tokens":37,"prompt_tokens_details":{"cached_tokens":6}})" +
    timings + "}");
const std::string done = event("[DONE]");

TEST(llama_server_decoder, reads_a_recorded_answer_however_it_is_cut) {
  const auto got =
      decode_every_way(engine_kind::llama_server, first + say(" 1") + say(" Gr\xc3\xbc\xc3\x9f\\n") +
                                                      say("\\ud83d\\ude00") + stopped + counted + done);
  EXPECT_THAT(got.pieces, ElementsAre(" 1", " Gr\xc3\xbc\xc3\x9f\n", "\xf0\x9f\x98\x80"));
  EXPECT_TRUE(got.done);
  EXPECT_EQ(got.reason, "stop");
  EXPECT_EQ(got.counts.prompt_tokens, 27U) << "usage counts the cached ones too";
  EXPECT_EQ(got.counts.answer_tokens, 10U);
  EXPECT_EQ(got.counts.prompt_time, nanoseconds{123'456'000});
  EXPECT_EQ(got.counts.answer_time, nanoseconds{1'000'500'000});
  EXPECT_EQ(got.counts.load_time, nanoseconds{0});
  EXPECT_EQ(got.counts.cached_tokens, 6U);
}

TEST(llama_server_decoder, timings_serve_where_there_is_no_usage) {
  const auto got = decode(first + say("a") + chunk("{}", R"("length")", timings) + done);
  EXPECT_TRUE(got.done);
  EXPECT_EQ(got.reason, "length");
  EXPECT_EQ(got.counts.prompt_tokens, 26U) << "cached and new";
  EXPECT_EQ(got.counts.answer_tokens, 9U);
  EXPECT_EQ(got.counts.cached_tokens, 6U);
}

TEST(llama_server_decoder, what_was_cached_is_known_of_every_build) {
  const auto cached = [](const std::string& usage, const std::string& times) {
    return decode(first + say("a") +
                  chunk("{}", R"("stop")", R"(,"usage":{)" + usage + R"(},"timings":{)" + times + "}") + done)
        .counts.cached_tokens;
  };
  const std::string prompt = R"("completion_tokens":3,"prompt_tokens":40)";
  EXPECT_EQ(cached(prompt + R"(,"prompt_tokens_details":{"cached_tokens":30})", R"("prompt_ms":1)"), 30U);
  EXPECT_EQ(cached(prompt, R"("prompt_n":8,"prompt_ms":1)"), 32U) << "older ones say what they have read";
  EXPECT_EQ(cached(prompt, R"("prompt_n":40,"cache_n":0)"), 0U);
  EXPECT_EQ(cached(prompt, R"("prompt_ms":1)"), 0U) << "not known";
  EXPECT_EQ(cached(prompt + R"(,"prompt_tokens_details":{"cached_tokens":99})", ""), 40U) << "bounded";
  EXPECT_EQ(cached(prompt + R"(,"prompt_tokens_details":7)", R"("prompt_n":-3,"cache_n":"x")"), 0U);
}

TEST(llama_server_decoder, usage_in_the_finish_chunk_counts_as_in_older_builds) {
  const auto got = decode(
      first + say("a") +
      chunk("{}", R"("stop")", R"(,"usage":{"completion_tokens":3,"prompt_tokens":4,"total_tokens":7})") +
      done);
  EXPECT_EQ(got.counts.prompt_tokens, 4U);
  EXPECT_EQ(got.counts.answer_tokens, 3U);
}

TEST(llama_server_decoder, tells_reasoning_from_the_answer) {
  const auto got = decode_every_way(
      engine_kind::llama_server, first + chunk(R"({"reasoning_content":"hm"})") +
                                     chunk(R"({"reasoning_content":"!","content":"so"})") + stopped + done);
  EXPECT_THAT(got.pieces, ElementsAre("(hm)", "(!)", "so"));
}

TEST(llama_server_decoder, null_and_empty_content_are_no_pieces) {
  const auto got = decode(first + say("") + chunk(R"({"content":null,"reasoning_content":null})") +
                          chunk("{}") + stopped + done);
  EXPECT_THAT(got.pieces, IsEmpty());
  EXPECT_TRUE(got.done);
}

TEST(llama_server_decoder, progress_is_told_and_is_no_text) {
  const auto got = decode_every_way(
      engine_kind::llama_server,
      chunk(R"({"role":"assistant","content":null})", "null",
            R"(,"prompt_progress":{"total":900,"cache":0,"processed":512,"time_ms":900})") +
          chunk(R"({"role":"assistant","content":null})", "null",
                R"(,"prompt_progress":{"total":900,"cache":0,"processed":900,"time_ms":1700})") +
          say("a") + stopped + done);
  EXPECT_EQ(got.progress, 2U);
  EXPECT_THAT(got.pieces, ElementsAre("a"));
}

TEST(llama_server_decoder, pings_and_other_fields_are_passed_over) {
  const auto got = decode_every_way(
      engine_kind::llama_server,
      ":\n\n" + first + ": ping\n\nevent: message\nid: 7\nretry: 1\n" + say("a") + ":\n\n" + stopped + done);
  EXPECT_EQ(got.text(), "a");
  EXPECT_TRUE(got.done);
}

TEST(llama_server_decoder, takes_crlf) {
  std::string stream = first + say("a") + stopped + done;
  for (std::size_t at = 0; (at = stream.find('\n', at)) != std::string::npos; at += 2)
    stream.insert(at, "\r");
  const auto got = decode_every_way(engine_kind::llama_server, stream);
  EXPECT_EQ(got.text(), "a");
  EXPECT_TRUE(got.done);
}

TEST(llama_server_decoder, done_without_a_finish_reason_is_truncated) {
  const auto got = decode_every_way(engine_kind::llama_server, first + say("a") + done);
  EXPECT_EQ(got.code(), errc::truncated);
  EXPECT_FALSE(got.done);
}

TEST(llama_server_decoder, a_clean_end_without_done_is_truncated) {
  for (const std::string& stream : {first, first + say("a"), first + say("a") + stopped}) {
    EXPECT_EQ(decode_every_way(engine_kind::llama_server, stream).code(), errc::truncated) << stream;
  }
}

TEST(llama_server_decoder, the_end_needs_no_line_end_behind_it) {
  for (const auto* last : {"data: [DONE]\n", "data: [DONE]"}) {
    const auto got = decode_every_way(engine_kind::llama_server, first + say("a") + stopped + last);
    EXPECT_TRUE(got.done) << testing::PrintToString(last);
    EXPECT_EQ(got.failed, std::nullopt) << testing::PrintToString(last);
  }
}

TEST(llama_server_decoder, a_stream_cut_anywhere_is_never_whole) {
  const std::string stream = first + say("a") + stopped + counted + done;
  for (std::size_t size = 0; size + 3 < stream.size(); ++size) {
    const auto got = decode(stream.substr(0, size));
    ASSERT_FALSE(got.done) << size;
    ASSERT_EQ(got.code(), size < first.size() - 2 ? errc::bad_response : errc::truncated) << size;
  }
}

TEST(llama_server_decoder, nothing_behind_the_end_counts) {
  const auto got = decode_every_way(engine_kind::llama_server,
                                    first + say("a") + stopped + done + say("b") + event("rubbish"));
  EXPECT_EQ(got.text(), "a");
  EXPECT_TRUE(got.done);
}

TEST(llama_server_decoder, an_error_event_ends_the_answer) {
  const auto got = decode_every_way(
      engine_kind::llama_server,
      first + say("a") +
          event(
              R"({"error":{"code":500,"message":"Context size has been exceeded.","type":"server_error"}})"));
  EXPECT_EQ(got.text(), "a");
  EXPECT_EQ(got.code(), errc::phone_error);
  EXPECT_THAT(got.failed->message, HasSubstr("Context size"));
}

TEST(llama_server_decoder, an_error_event_that_blames_the_request_is_rejected) {
  const auto got =
      decode(event(R"({"error":{"code":400,"message":"too long","type":"exceed_context_size_error"}})"));
  EXPECT_EQ(got.code(), errc::rejected);
  EXPECT_EQ(got.failed->status, 400);
  EXPECT_EQ(got.failed->message, "too long");
}

TEST(llama_server_decoder, an_error_event_of_an_odd_form_is_the_phones_fault) {
  for (const auto* data : {R"({"error":"text"})", R"({"error":{}})",
                           R"({"error":{"code":"400","message":7}})", R"({"error":7})"}) {
    EXPECT_EQ(decode(first + event(data)).code(), errc::phone_error) << data;
  }
}

TEST(llama_server_decoder, what_is_not_openais_is_a_bad_response) {
  for (const std::string data :
       {"}{ this is no JSON \x01\xff", "<html>Sign in</html>", "null", "7", "[]", "{}", "\"x\"",
        R"({"message":{"content":"a"},"done":true})", R"({"content":"a","stop":false})"}) {
    const auto got = decode_every_way(engine_kind::llama_server,
                                      first + say("a") + event(data) + say("b") + stopped + done);
    EXPECT_EQ(got.text(), "a") << data;
    EXPECT_EQ(got.code(), errc::bad_response) << data;
    EXPECT_EQ(got.failed->message.find("Sign in"), std::string::npos);
  }
}

TEST(llama_server_decoder, a_page_without_events_is_a_bad_response) {
  for (const std::string page : {"<!DOCTYPE html>\n<html><body>Sign in</body></html>\n\n", "", ":\n\n"}) {
    const auto got = decode(page);
    EXPECT_FALSE(got.done);
    EXPECT_EQ(got.code(), errc::bad_response) << page;
  }
}

TEST(llama_server_decoder, bytes_that_are_not_utf8_are_a_bad_response_and_no_more) {
  for (const std::string bytes : {"\xff", "\xc3", "\xed\xa0\x80"}) {
    EXPECT_EQ(decode_every_way(engine_kind::llama_server, say("a" + bytes) + stopped + done).code(),
              errc::bad_response);
  }
}

TEST(llama_server_decoder, fields_of_odd_types_do_not_count) {
  const auto got = decode(
      event(
          R"({"choices":[{"delta":{"content":7,"reasoning_content":{}},"finish_reason":3}],"usage":7,"timings":[]})") +
      event(R"({"choices":[7]})") + event(R"({"choices":[{"delta":null}]})") + say("a") +
      chunk(
          "{}", R"("stop")",
          R"(,"usage":{"prompt_tokens":-4},"timings":{"prompt_ms":-1,"predicted_ms":1e300,"predicted_n":1.5})") +
      done);
  EXPECT_EQ(got.text(), "a");
  EXPECT_TRUE(got.done);
  EXPECT_EQ(got.counts.prompt_tokens, 0U);
  EXPECT_EQ(got.counts.prompt_time, nanoseconds{0});
  EXPECT_EQ(got.counts.answer_time, nanoseconds{0});
}

TEST(llama_server_decoder, an_event_without_end_is_a_bad_response) {
  const std::string portion(16 << 10U, 'x');
  EXPECT_EQ(
      testing_engines::decode(engine_kind::llama_server, std::vector<std::string_view>(65, portion)).code(),
      errc::bad_response);
  std::string many_lines = "data: " + std::string(1000, 'x') + "\n";
  EXPECT_EQ(
      testing_engines::decode(engine_kind::llama_server, std::vector<std::string_view>(1100, many_lines))
          .code(),
      errc::bad_response);
  EXPECT_EQ(decode(first + event("\"" + std::string(2 << 20U, 'x') + "\"") + stopped + done).code(),
            errc::bad_response);
}

}  // namespace
}  // namespace pocketfleet::testing_engines
