#include "pocketfleet/wire/ask.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pocketfleet {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr ask_rules whole{};
constexpr ask_rules streamed{.stream_route = true};
constexpr ask_rules passing{.pass_load_options = true};

question asked(const json& body, const ask_rules& rules = whole) {
  auto read = read_ask(body, rules);
  EXPECT_TRUE(read.has_value()) << body << ": " << (read ? "" : read.error().message);
  return read ? read->what : question{};
}

/// The message of the refusal; empty if it is taken.
std::string fault(const json& body, const ask_rules& rules = whole) {
  const auto read = read_ask(body, rules);
  if (read) return "";
  EXPECT_EQ(read.error().code, errc::bad_request);
  return read.error().message;
}

json with(const char* name, const json& value) {
  json body{{"prompt", "hello"}};
  body[name] = value;
  return body;
}

json with_option(const char* name, const json& value) {
  return with("options", json{{name, value}});
}

json message(const char* role, const char* content) {
  return {{"role", role}, {"content", content}};
}

// ---- the conversation

TEST(ask, a_prompt_is_the_users_message) {
  const auto q = asked({{"prompt", "hello"}});
  EXPECT_EQ(q.messages, json::array({message("user", "hello")}));
  EXPECT_EQ(q.model, "");
  EXPECT_EQ(q.options, json::object());
  EXPECT_TRUE(q.format.is_null());
  EXPECT_TRUE(q.think.is_null());
  EXPECT_TRUE(q.keep_alive.is_null());
  EXPECT_FALSE(q.has_images);
}

TEST(ask, a_system_text_comes_first) {
  EXPECT_EQ(asked({{"prompt", "hello"}, {"system", "be brief"}}).messages,
            json::array({message("system", "be brief"), message("user", "hello")}));
  EXPECT_EQ(asked({{"messages", json::array({message("user", "hello")})}, {"system", "be brief"}}).messages,
            json::array({message("system", "be brief"), message("user", "hello")}));
  EXPECT_EQ(asked(with("system", "")).messages.size(), 1U) << "an empty one is none";
}

TEST(ask, messages_are_taken_as_they_are) {
  const json talk = json::array(
      {message("system", "s"), message("user", "u"), message("assistant", "a"), message("user", "")});
  EXPECT_EQ(asked({{"messages", talk}}).messages, talk);
}

TEST(ask, either_prompt_or_messages) {
  const json talk = json::array({message("user", "u")});
  EXPECT_THAT(fault(json::object()), HasSubstr("either \"prompt\" or \"messages\""));
  EXPECT_THAT(fault({{"prompt", "x"}, {"messages", talk}}), HasSubstr("either"));
  EXPECT_THAT(fault({{"prompt", nullptr}}), HasSubstr("either"));
  EXPECT_EQ(fault({{"prompt", nullptr}, {"messages", talk}}), "") << "null is as good as absent";
}

TEST(ask, a_prompt_is_a_string_that_is_not_empty) {
  for (const json& wrong : {json(""), json(1), json(true), json::array({"x"}), json::object()}) {
    EXPECT_THAT(fault({{"prompt", wrong}}), HasSubstr("prompt")) << wrong;
  }
}

TEST(ask, a_mistake_in_a_message_is_told_with_its_place) {
  const auto of = [](const json& second) {
    return fault({{"messages", json::array({message("user", "u"), second})}});
  };
  EXPECT_THAT(of("text"), HasSubstr("messages[1]"));
  EXPECT_THAT(of({{"content", "x"}}), HasSubstr("messages[1].role"));
  EXPECT_THAT(of(message("tool", "x")), HasSubstr("messages[1].role"));
  EXPECT_THAT(of({{"role", 1}, {"content", "x"}}), HasSubstr("messages[1].role"));
  EXPECT_THAT(of({{"role", "user"}}), HasSubstr("messages[1].content"));
  EXPECT_THAT(of({{"role", "user"}, {"content", nullptr}}), HasSubstr("messages[1].content"));
  EXPECT_THAT(of({{"role", "user"}, {"content", json::array()}}), HasSubstr("messages[1].content"));
  EXPECT_THAT(of({{"role", "user"}, {"content", "x"}, {"image", 1}}),
              AllOf(HasSubstr("messages[1]"), HasSubstr("did you mean \"images\"")));
  EXPECT_THAT(fault({{"messages", json::array()}}), HasSubstr("messages"));
  EXPECT_THAT(fault({{"messages", "x"}}), HasSubstr("messages"));
}

TEST(ask, a_system_text_beside_a_system_message_is_refused) {
  EXPECT_THAT(fault({{"messages", json::array({message("system", "s")})}, {"system", "t"}}),
              HasSubstr("system"));
  EXPECT_THAT(fault(with("system", 1)), HasSubstr("system: expected a string"));
}

TEST(ask, images_belong_to_the_prompt_or_to_a_message) {
  auto q = asked({{"prompt", "what is this?"}, {"images", json::array({"aGk="})}, {"system", "s"}});
  EXPECT_TRUE(q.has_images);
  EXPECT_EQ(q.messages[1]["images"], json::array({"aGk="}));
  EXPECT_FALSE(q.messages[0].contains("images"));
  json m = message("user", "u");
  m["images"] = json::array({"aGk=", "aG8="});
  q = asked({{"messages", json::array({m})}});
  EXPECT_TRUE(q.has_images);
  EXPECT_EQ(q.messages[0]["images"].size(), 2U);
  EXPECT_THAT(fault({{"messages", json::array({message("user", "u")})}, {"images", json::array({"aGk="})}}),
              HasSubstr("belong into the message"));
  for (const json& wrong : {json("aGk="), json::array(), json::array({1}), json::array({""}),
                            json::array({"data:image/png;base64,aGk="})}) {
    EXPECT_THAT(fault(with("images", wrong)), HasSubstr("images")) << wrong;
    m["images"] = wrong;
    EXPECT_THAT(fault({{"messages", json::array({m})}}), HasSubstr("messages[0].images")) << wrong;
  }
}

// ---- the other fields

TEST(ask, every_field_is_read) {
  const json body{{"prompt", "p"},   {"model", "Qwen"},     {"options", {{"seed", 7}}}, {"format", "json"},
                  {"think", "high"}, {"keep_alive", "10m"}, {"cache", false},           {"stream", false}};
  const auto read = read_ask(body, whole);
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_EQ(read->what.model, "Qwen") << "as the client wrote it";
  EXPECT_EQ(read->what.options, json({{"seed", 7}}));
  EXPECT_EQ(read->what.format, "json");
  EXPECT_EQ(read->what.think, "high");
  EXPECT_EQ(read->what.keep_alive, "10m");
  EXPECT_FALSE(read->use_cache);
}

TEST(ask, null_is_as_good_as_absent) {
  for (const auto* name :
       {"system", "model", "options", "images", "format", "think", "keep_alive", "cache", "stream"}) {
    EXPECT_EQ(fault(with(name, nullptr)), "") << name;
  }
  EXPECT_TRUE(read_ask(with("cache", nullptr), whole)->use_cache);
  EXPECT_EQ(asked(with_option("seed", nullptr)).options, json::object());
}

TEST(ask, every_field_of_a_wrong_type_is_named) {
  const json object = json::object();
  const std::vector<std::pair<const char*, std::vector<json>>> wrong{
      {"model", {1, true, object, std::string(257, 'm')}},
      {"options", {1, "x", json::array(), true}},
      {"format", {1, true, "xml", json::array()}},
      {"think", {1, 0, "yes", "LOW", object}},
      {"keep_alive", {"", "300", "m", "-", "10 m", "10x", "m10", "10m5", true, object}},
      {"cache", {0, 1, "false", object}},
      {"stream", {0, 1, "false", object}},
  };
  for (const auto& [name, values] : wrong) {
    for (const auto& value : values) {
      EXPECT_THAT(fault(with(name, value)), testing::StartsWith(std::string(name) + ":")) << value;
    }
  }
}

TEST(ask, every_right_form_is_taken) {
  for (const json& value : {json(0), json(-1), json(2.5), json("10m"), json("-1m"), json("1h30m"),
                            json("1.5h"), json("500ms"), json("10us"), json("10ns"), json("3s")}) {
    EXPECT_EQ(asked(with("keep_alive", value)).keep_alive, value) << value;
  }
  for (const json& value :
       {json(true), json(false), json("low"), json("medium"), json("high"), json("max")}) {
    EXPECT_EQ(asked(with("think", value)).think, value) << value;
  }
  for (const json& value : {json("json"), json::object(), json{{"type", "object"}}}) {
    EXPECT_EQ(asked(with("format", value)).format, value) << value;
  }
  EXPECT_TRUE(asked(with("format", "")).format.is_null());
}

TEST(ask, stream_agrees_with_the_route) {
  EXPECT_EQ(fault(with("stream", false), whole), "");
  EXPECT_THAT(fault(with("stream", true), whole), HasSubstr("/ask_stream"));
  EXPECT_EQ(fault(with("stream", true), streamed), "");
  EXPECT_THAT(fault(with("stream", false), streamed), HasSubstr("use /ask"));
}

TEST(ask, an_unknown_field_is_told_with_the_nearest_known_one) {
  EXPECT_THAT(fault(with("sytem", "x")), AllOf(HasSubstr("\"sytem\""), HasSubstr("did you mean \"system\"")));
  EXPECT_THAT(fault(with("keepalive", 1)), HasSubstr("did you mean \"keep_alive\""));
  EXPECT_THAT(fault(with("temperature_of_the_room", 1)), Not(HasSubstr("did you mean")));
  EXPECT_THAT(fault({{"promt", "x"}}), HasSubstr("did you mean \"prompt\""));
}

TEST(ask, a_field_name_that_is_long_or_odd_is_not_repeated) {
  const std::string canary = "c4n4ry";
  for (const std::string& name : {canary + std::string(40, 'x'), canary + "\n", canary + " ", canary + "\"",
                                  canary + "\\", canary + "\x7f", canary + "\xc3\xa4"}) {
    EXPECT_THAT(fault(with(name.c_str(), 1)), AllOf(HasSubstr("unknown field"), Not(HasSubstr(canary))));
  }
}

TEST(ask, a_body_is_a_json_object) {
  for (const auto* text : {"", "null", "[]", "\"prompt\"", "7", "{", "{\"prompt\":\"a\",\"prompt\":\"b\"}"}) {
    const auto read = parse_ask(text, whole);
    ASSERT_FALSE(read.has_value()) << text;
    EXPECT_EQ(read.error().code, errc::bad_request) << text;
  }
  EXPECT_TRUE(parse_ask(R"({"prompt":"hello"})", whole).has_value());
}

// ---- options

TEST(ask, options_of_the_right_type_are_taken) {
  const json options{{"num_predict", -1},
                     {"num_keep", 4},
                     {"seed", 4294967295},
                     {"temperature", 0},
                     {"top_k", 40},
                     {"top_p", 0.9},
                     {"min_p", 0.05},
                     {"typical_p", 1},
                     {"tfs_z", 1.0},
                     {"repeat_last_n", 64},
                     {"repeat_penalty", 1.1},
                     {"presence_penalty", -2},
                     {"frequency_penalty", 0},
                     {"mirostat", 0},
                     {"mirostat_tau", 5.0},
                     {"mirostat_eta", 0.1},
                     {"penalize_newline", true},
                     {"stop", json::array({"a", "b"})}};
  EXPECT_EQ(asked(with("options", options)).options, options);
}

TEST(ask, a_single_stop_string_becomes_a_list) {
  EXPECT_EQ(asked(with_option("stop", "END")).options, json({{"stop", json::array({"END"})}}));
}

TEST(ask, options_of_a_wrong_type_are_named) {
  for (const json& wrong : {json("128"), json(1.5), json(true), json::array(), json(-2), json(4294967296)}) {
    EXPECT_THAT(fault(with_option("num_predict", wrong)),
                HasSubstr("options.num_predict: expected a whole number"))
        << wrong;
  }
  for (const json& wrong : {json("0.5"), json(false), json::array()}) {
    EXPECT_THAT(fault(with_option("temperature", wrong)), HasSubstr("options.temperature: expected a number"))
        << wrong;
  }
  EXPECT_THAT(fault(with_option("penalize_newline", 1)), HasSubstr("expected true or false"));
  const json many(17, "x");
  for (const json& wrong : {json(1), json(""), json::array({1}), json::array({""}), many}) {
    EXPECT_THAT(fault(with_option("stop", wrong)), HasSubstr("options.stop")) << wrong;
  }
}

TEST(ask, whole_numbers_beyond_64_bits_with_sign_are_out_of_range) {
  for (const std::uint64_t value : {18446744073709551615U, 18446744073709551614U, 9223372036854775808U}) {
    EXPECT_THAT(fault(with_option("num_predict", value)), HasSubstr("options.num_predict")) << value;
  }
}

TEST(ask, an_unknown_option_is_told_with_the_nearest_known_one) {
  EXPECT_THAT(fault(with_option("temprature", 1)),
              AllOf(HasSubstr("unknown option \"temprature\""), HasSubstr("did you mean \"temperature\"")));
}

TEST(ask, options_that_reload_the_model_are_refused_unless_they_are_to_pass) {
  for (const auto* name :
       {"num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "draft_num_predict"}) {
    EXPECT_THAT(fault(with_option(name, 1)), HasSubstr("load its model anew")) << name;
    EXPECT_EQ(asked(with_option(name, 1), passing).options, json({{name, 1}}));
    EXPECT_THAT(fault(with_option(name, "1"), passing), HasSubstr("expected a whole number")) << name;
  }
  for (const auto* name : {"use_mmap", "use_mlock"}) {
    EXPECT_THAT(fault(with_option(name, true)), HasSubstr("load its model anew")) << name;
    EXPECT_EQ(fault(with_option(name, true), passing), "") << name;
  }
  EXPECT_EQ(fault(with_option("num_ctx", nullptr)), "") << "null asks for nothing";
}

// ---- batches

std::vector<result<ask_request>> batch(const json& body, std::size_t most = 8) {
  auto read = parse_batch(body.dump(), most, whole);
  EXPECT_TRUE(read.has_value()) << (read ? "" : read.error().message);
  return read ? *read : std::vector<result<ask_request>>{};
}

std::string batch_fault(const json& body, std::size_t most = 8) {
  const auto read = parse_batch(body.dump(), most, whole);
  return read ? "" : read.error().message;
}

TEST(ask_batch, prompts_share_what_stands_beside_them) {
  const auto items = batch({{"prompts", {"a", "b"}},
                            {"system", "s"},
                            {"model", "m"},
                            {"options", {{"seed", 1}}},
                            {"cache", false}});
  ASSERT_EQ(items.size(), 2U);
  for (const auto& item : items) {
    ASSERT_TRUE(item.has_value());
    EXPECT_EQ(item->what.messages[0], message("system", "s"));
    EXPECT_EQ(item->what.model, "m");
    EXPECT_EQ(item->what.options, json({{"seed", 1}}));
    EXPECT_FALSE(item->use_cache);
  }
  EXPECT_EQ(items[1]->what.messages[1], message("user", "b"));
}

TEST(ask_batch, a_request_may_say_otherwise_for_itself) {
  const auto items = batch(
      {{"requests", {{{"prompt", "a"}}, {{"prompt", "b"}, {"model", "own"}, {"options", {{"top_k", 2}}}}}},
       {"model", "shared"},
       {"options", {{"seed", 1}}}});
  ASSERT_EQ(items.size(), 2U);
  EXPECT_EQ(items[0]->what.model, "shared");
  EXPECT_EQ(items[1]->what.model, "own");
  EXPECT_EQ(items[1]->what.options, json({{"top_k", 2}})) << "its own options replace the shared ones";
}

TEST(ask_batch, each_item_fails_on_its_own) {
  const auto items =
      batch({{"requests", {{{"prompt", "a"}}, 7, {{"promt", "b"}}, {{"prompt", ""}}, {{"prompt", "c"}}}}});
  ASSERT_EQ(items.size(), 5U);
  EXPECT_TRUE(items[0].has_value());
  EXPECT_EQ(items[1].error().code, errc::bad_request);
  EXPECT_THAT(items[2].error().message, HasSubstr("did you mean \"prompt\""));
  EXPECT_THAT(items[3].error().message, HasSubstr("prompt"));
  EXPECT_TRUE(items[4].has_value());
  const auto prompts = batch({{"prompts", {"a", 1, nullptr, "d"}}});
  ASSERT_EQ(prompts.size(), 4U);
  EXPECT_TRUE(prompts[0].has_value() && !prompts[1].has_value() && !prompts[2].has_value() &&
              prompts[3].has_value());
}

TEST(ask_batch, the_form_itself_is_checked) {
  EXPECT_THAT(batch_fault(json::object()), HasSubstr("either \"requests\" or \"prompts\""));
  EXPECT_THAT(batch_fault({{"prompts", {"a"}}, {"requests", json::array()}}), HasSubstr("either"));
  EXPECT_THAT(batch_fault({{"prompts", json::array()}}), HasSubstr("prompts: expected an array of 1 to 8"));
  EXPECT_THAT(batch_fault({{"requests", "a"}}), HasSubstr("requests: expected an array"));
  EXPECT_THAT(batch_fault({{"prompts", {"a", "b", "c"}}}, 2), HasSubstr("1 to 2"));
  EXPECT_THAT(batch_fault({{"prompts", {"a"}}, {"sistem", "s"}}), HasSubstr("did you mean \"system\""));
  EXPECT_THAT(batch_fault({{"prompts", {"a"}}, {"prompt", "s"}}), HasSubstr("unknown field \"prompt\""));
  EXPECT_NE(batch_fault(json::array()), "");
}

}  // namespace
}  // namespace pocketfleet
