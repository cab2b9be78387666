#include <gmock/gmock.h>

#include "engines_helpers.hpp"

namespace pocketfleet::testing_engines {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const engine& ollama() {
  return engine_of(engine_kind::ollama);
}

decoded decode(std::string_view stream) {
  return testing_engines::decode(engine_kind::ollama, stream);
}

question hello() {
  question q;
  q.messages = json::array({{{"role", "user"}, {"content", "hello"}}});
  return q;
}

json body_of(const question& q, std::string_view model = "qwen2.5:1.5b") {
  const auto request = ollama().encode(q, model);
  EXPECT_EQ(request.method, "POST");
  EXPECT_EQ(request.target, "/api/chat");
  auto body = parse_json(request.body);
  EXPECT_TRUE(body.has_value()) << request.body;
  return body ? *body : json{};
}

// ---- what is sent

TEST(ollama_encode, asks_for_a_stream_and_says_no_more_than_it_must) {
  EXPECT_EQ(body_of(hello()),
            json({{"model", "qwen2.5:1.5b"}, {"messages", hello().messages}, {"stream", true}}));
}

TEST(ollama_encode, the_model_is_called_what_the_phone_calls_it) {
  question q = hello();
  q.model = "gemma";
  EXPECT_EQ(body_of(q, "gemma:2b")["model"], "gemma:2b");
}

TEST(ollama_encode, passes_on_options_format_think_and_keep_alive) {
  question q = hello();
  q.options = {{"num_predict", 5}, {"temperature", 0.5}, {"stop", {"a"}}, {"num_ctx", 2048}};
  q.format = {{"type", "object"}};
  q.think = "high";
  q.keep_alive = "10m";
  json body = body_of(q);
  EXPECT_EQ(body["options"], q.options);
  EXPECT_EQ(body["format"], q.format);
  EXPECT_EQ(body["think"], "high");
  EXPECT_EQ(body["keep_alive"], "10m");
  q.format = "json";
  q.think = false;
  q.keep_alive = 0;
  body = body_of(q);
  EXPECT_EQ(body["format"], "json");
  EXPECT_EQ(body["think"], false);
  EXPECT_EQ(body["keep_alive"], 0);
}

TEST(ollama_encode, passes_on_images_in_their_message) {
  question q = hello();
  q.messages[0]["images"] = {"aGk="};
  q.has_images = true;
  EXPECT_EQ(body_of(q)["messages"], q.messages);
}

TEST(ollama_encode, any_text_gives_good_json) {
  question q = hello();
  q.messages[0]["content"] = "\"\\\n\x01\u2028\xf0\x9f\x98\x80";
  EXPECT_EQ(body_of(q)["messages"], q.messages);
  q.messages[0]["content"] = "bad \xff";
  EXPECT_EQ(body_of(q, "m\"\n")["model"], "m\"\n");
}

TEST(ollama_encode, can_do_whatever_a_question_asks) {
  question q = hello();
  q.options = {{"num_ctx", 1}, {"mirostat", 1}};
  q.think = "max";
  q.keep_alive = -1;
  q.format = "json";
  q.has_images = true;
  EXPECT_EQ(ollama().cannot(q), std::nullopt);
}

TEST(ollama_warm_up, loads_without_a_prompt) {
  auto request = ollama().warm_up("m", nullptr);
  EXPECT_EQ(request.method, "POST");
  EXPECT_EQ(request.target, "/api/generate");
  EXPECT_EQ(json::parse(request.body), json({{"model", "m"}, {"stream", false}}));
  request = ollama().warm_up("m", "1h");
  EXPECT_EQ(json::parse(request.body)["keep_alive"], "1h");
}

// ---- what comes back

const std::string head =
    R"({"model":"qwen2.5:1.5b","created_at":"2026-11-20T13:00:00.123456789Z","message":)";

std::string say(const std::string& content) {
  return head + R"({"role":"assistant","content":")" + content + R"("},"done":false})" + "\n";
}

std::string end(const std::string& more = {}) {
  return head + R"({"role":"assistant","content":""},"done":true)" + more + "}\n";
}

const std::string metrics =
    R"(,"done_reason":"stop","total_duration":4883583458,"load_duration":1334875,"prompt_eval_count":26,)"
    R"("prompt_eval_duration":342546000,"eval_count":282,"eval_duration":4535599000)";

TEST(ollama_decoder, reads_a_recorded_answer_however_it_is_cut) {
  const auto got = decode_every_way(engine_kind::ollama, say(" Gr\xc3\xbc\xc3\x9f") +
                                                             say(" \\u003cb\\u003e \\ud83d\\ude00") +
                                                             say("\xf0\x9f\x98\x80\\n") + end(metrics));
  EXPECT_THAT(got.pieces, ElementsAre(" Gr\xc3\xbc\xc3\x9f", " <b> \xf0\x9f\x98\x80", "\xf0\x9f\x98\x80\n"));
  EXPECT_TRUE(got.done);
  EXPECT_EQ(got.reason, "stop");
  EXPECT_EQ(got.counts.prompt_tokens, 26U);
  EXPECT_EQ(got.counts.answer_tokens, 282U);
  EXPECT_EQ(got.counts.load_time, nanoseconds{1334875});
  EXPECT_EQ(got.counts.prompt_time, nanoseconds{342546000});
  EXPECT_EQ(got.counts.answer_time, nanoseconds{4535599000});
}

TEST(ollama_decoder, tells_reasoning_from_the_answer) {
  const auto got = decode_every_way(engine_kind::ollama,
                                    head +
                                        R"({"role":"assistant","content":"","thinking":"hm"},"done":false})"
                                        "\n" +
                                        head +
                                        R"({"role":"assistant","content":"so","thinking":"!"},"done":false})"
                                        "\n" +
                                        say("that") + end());
  EXPECT_THAT(got.pieces, ElementsAre("(hm)", "(!)", "so", "that"));
}

TEST(ollama_decoder, the_last_object_may_carry_text_and_lack_every_count) {
  const auto got = decode(say("a") + R"({"message":{"content":"b"},"done":true})"
                                     "\n");
  EXPECT_THAT(got.pieces, ElementsAre("a", "b"));
  EXPECT_TRUE(got.done);
  EXPECT_EQ(got.reason, "") << "an unknown end";
  EXPECT_EQ(got.counts.prompt_tokens, 0U);
  EXPECT_TRUE(decode(R"({"done":true,"done_reason":"load"})"
                     "\n")
                  .done)
      << "without a message";
}

TEST(ollama_decoder, null_content_and_empty_content_are_no_pieces) {
  const auto got = decode(head +
                          R"({"role":"assistant","content":null},"done":false})"
                          "\n" +
                          say("") + head +
                          R"({"role":"assistant"},"done":false})"
                          "\n" +
                          end());
  EXPECT_THAT(got.pieces, IsEmpty());
  EXPECT_TRUE(got.done);
}

TEST(ollama_decoder, takes_lines_with_crlf_blank_lines_and_spaces) {
  const auto got = decode_every_way(engine_kind::ollama,
                                    "\r\n\n {\"message\":{\"content\":\"a\"},\"done\":false} \r\n\n" + end());
  EXPECT_EQ(got.text(), "a");
  EXPECT_TRUE(got.done);
}

TEST(ollama_decoder, the_last_line_needs_no_line_end) {
  std::string stream = say("a") + end(metrics);
  stream.pop_back();
  const auto got = decode_every_way(engine_kind::ollama, stream);
  EXPECT_EQ(got.text(), "a");
  EXPECT_TRUE(got.done);
  EXPECT_EQ(got.counts.answer_tokens, 282U);
}

TEST(ollama_decoder, nothing_behind_the_end_counts) {
  const auto got = decode_every_way(engine_kind::ollama, say("a") + end() + say("b") + "rubbish");
  EXPECT_EQ(got.text(), "a");
  EXPECT_TRUE(got.done);
  EXPECT_EQ(got.failed, std::nullopt);
}

TEST(ollama_decoder, an_error_line_ends_the_answer) {
  const auto got = decode_every_way(
      engine_kind::ollama, say("a") + R"({"error":"an error was encountered while running the model: \"x\""})"
                                      "\n");
  EXPECT_EQ(got.text(), "a");
  EXPECT_EQ(got.code(), errc::phone_error);
  EXPECT_THAT(got.failed->message, HasSubstr("running the model: \"x\""));
  EXPECT_FALSE(got.done);
}

TEST(ollama_decoder, an_error_line_without_its_line_end_is_one_too) {
  EXPECT_EQ(decode(say("a") + R"({"error":"gone"})").code(), errc::phone_error);
}

TEST(ollama_decoder, an_option_of_a_wrong_type_is_the_requests_fault) {
  const auto got = decode(R"({"error":"option \"num_predict\" must be of type integer"})"
                          "\n");
  EXPECT_EQ(got.code(), errc::rejected);
  EXPECT_EQ(got.failed->status, 400);
}

TEST(ollama_decoder, a_clean_end_without_done_is_truncated) {
  for (const std::string& stream : {say("a"), say("a") + say("b"), say("")}) {
    const auto got = decode_every_way(engine_kind::ollama, stream);
    EXPECT_EQ(got.code(), errc::truncated) << stream;
    EXPECT_FALSE(got.done);
  }
}

TEST(ollama_decoder, an_end_before_anything_of_ollamas_is_a_bad_response) {
  for (const std::string& stream :
       {std::string{}, std::string("\n\n"), std::string("\r\n"), std::string("<html>")}) {
    EXPECT_EQ(decode_every_way(engine_kind::ollama, stream).code(), errc::bad_response) << stream;
  }
}

TEST(ollama_decoder, a_stream_cut_anywhere_is_never_whole) {
  const std::string stream = say("a") + say("b") + end(metrics);
  const std::size_t first_line = say("a").size() - 1;             // it needs no line end
  for (std::size_t size = 0; size + 2 < stream.size(); ++size) {  // without "}\n" of the last line, at least
    const auto got = decode(stream.substr(0, size));
    ASSERT_FALSE(got.done) << size;
    ASSERT_EQ(got.code(), size < first_line ? errc::bad_response : errc::truncated) << size;
  }
}

TEST(ollama_decoder, what_is_not_ollamas_is_a_bad_response) {
  for (const std::string line :
       {"<!DOCTYPE html>", "<html><body>Sign in</body></html>", "}{ this is no JSON \x01\xff", "null", "7",
        "[]", "\"x\"", "{}", "{\"done\":false}", "{\"message\":\"x\",", "data: {\"choices\":[]}",
        "{\"choices\":[{\"delta\":{}}]}"}) {
    const auto got = decode_every_way(engine_kind::ollama, say("a") + line + "\n" + say("b") + end());
    EXPECT_EQ(got.text(), "a") << line;
    EXPECT_EQ(got.code(), errc::bad_response) << line;
    EXPECT_EQ(decode(line + "\n").code(), errc::bad_response) << line;
    EXPECT_EQ(got.failed->message.find("Sign in"), std::string::npos) << "the phone's bytes are not repeated";
  }
}

TEST(ollama_decoder, bytes_that_are_not_utf8_are_a_bad_response_and_no_more) {
  for (const std::string bytes : {"\xff", "\xc3", "\xed\xa0\x80", "\xc0\xaf", "\xf8\x88\x80\x80\x80"}) {
    EXPECT_EQ(decode_every_way(engine_kind::ollama, say("a" + bytes) + end()).code(), errc::bad_response);
  }
}

TEST(ollama_decoder, fields_of_odd_types_do_not_count) {
  const auto got =
      decode(R"({"message":{"content":7,"thinking":[]},"done":"true"})"
             "\n"
             R"({"message":[],"done":false})"
             "\n"
             R"({"message":{"content":"a"},"done":true,"done_reason":7,"eval_count":-5,"load_duration":1.5,)"
             R"("prompt_eval_count":"9"})"
             "\n");
  EXPECT_EQ(got.text(), "a");
  EXPECT_TRUE(got.done);
  EXPECT_EQ(got.reason, "");
  EXPECT_EQ(got.counts.answer_tokens, 0U);
  EXPECT_EQ(got.counts.prompt_tokens, 0U);
}

TEST(ollama_decoder, a_line_without_end_is_a_bad_response) {
  const std::string portion(16 << 10U, 'x');
  std::vector<std::string_view> endless(65, portion);
  EXPECT_EQ(testing_engines::decode(engine_kind::ollama, endless).code(), errc::bad_response);
  EXPECT_EQ(decode(say("a") + "\"" + std::string(2 << 20U, 'x') + "\"\n" + end()).code(), errc::bad_response);
}

TEST(ollama_decoder, a_long_line_under_the_cap_is_read) {
  // As the last line of /api/generate, which repeats every token as a number.
  const std::string text(900'000, 'y');
  const auto got = decode(say(text) + say("z") + end());
  EXPECT_EQ(got.text().size(), 900'001U);
  EXPECT_TRUE(got.done);
}

TEST(ollama_decoder, deep_nesting_is_refused_or_read_but_never_crashes) {
  const std::string deep(100'000, '[');
  EXPECT_EQ(decode(R"({"message":)" + deep + "\n").code(), errc::bad_response);
}

TEST(ollama_decoder, answers_at_the_same_time_do_not_mix) {
  decoded first;
  decoded second;
  recorder a(first);
  recorder b(second);
  const auto one = ollama().decoder(question{});
  const auto two = ollama().decoder(question{});
  const std::string left = say("left") + end();
  const std::string right = say("right") + end(metrics);
  for (std::size_t at = 0; at < std::max(left.size(), right.size()); ++at) {
    if (at < left.size()) {
      ASSERT_TRUE(one->feed(std::string_view(left).substr(at, 1), a).has_value());
    }
    if (at < right.size()) {
      ASSERT_TRUE(two->feed(std::string_view(right).substr(at, 1), b).has_value());
    }
  }
  EXPECT_EQ(first.text(), "left");
  EXPECT_EQ(second.text(), "right");
  EXPECT_TRUE(one->done() && two->done());
  EXPECT_EQ(one->counts.answer_tokens, 0U);
  EXPECT_EQ(two->counts.answer_tokens, 282U);
}

}  // namespace
}  // namespace pocketfleet::testing_engines
