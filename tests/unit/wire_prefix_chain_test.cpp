#include "pocketfleet/wire/prefix_chain.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "pocketfleet/wire/ask.hpp"
#include "pocketfleet/wire/dialects.hpp"

namespace pocketfleet {
namespace {

constexpr std::size_t most = 64;

question chat(json messages, const std::string& model = "m") {
  question q;
  q.model = model;
  q.messages = std::move(messages);
  return q;
}

json said(const std::string& role, const std::string& content) {
  return {{"role", role}, {"content", content}};
}

question raw(const std::string& prompt) {
  question q;
  q.raw = true;
  q.prompt = prompt;
  return q;
}

std::size_t common(const prefix_chain& a, const prefix_chain& b) {
  const auto n = static_cast<std::ptrdiff_t>(std::min(a.size(), b.size()));
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.begin() + n, b.begin()).first - a.begin());
}

std::uint32_t common_bytes(const question& a, const question& b) {
  const prefix_chain x = prefix_of(a);
  const std::size_t n = common(x, prefix_of(b));
  return n == 0 ? 0 : x[n - 1].bytes;
}

std::string noise(std::size_t bytes, unsigned seed) {
  std::minstd_rand random(seed);
  std::string out(bytes, ' ');
  for (char& c : out) c = static_cast<char>('a' + random() % 26);
  return out;
}

question openai(const json& body) {
  auto got = parse_openai_chat(dump_json(body));
  EXPECT_TRUE(got.has_value()) << (got ? "" : got.error().message);
  return got ? got->choices.front() : question{};
}

question anthropic(const json& body) {
  auto got = parse_anthropic(dump_json(body));
  EXPECT_TRUE(got.has_value()) << (got ? "" : got.error().message);
  return got ? got->choices.front() : question{};
}

TEST(prefix_chain, a_mark_stands_behind_each_message) {
  const auto marks = prefix_of(chat({said("system", "be brief"), said("user", "hello")}));
  ASSERT_EQ(marks.size(), 2U);
  EXPECT_EQ(marks[0].bytes, 6U + 8U);
  EXPECT_EQ(marks[1].bytes, 14U + 4U + 5U);
  EXPECT_TRUE(prefix_of(raw("")).empty());
}

TEST(prefix_chain, the_next_turn_shares_all_that_was_said) {
  json messages{said("system", noise(5000, 1)), said("user", "first")};
  const auto before = prefix_of(chat(messages));
  messages.push_back(said("assistant", noise(3000, 2)));
  messages.push_back(said("user", "second"));
  const auto after = prefix_of(chat(messages));
  EXPECT_EQ(common(before, after), before.size());
  EXPECT_GT(after.size(), before.size());
}

TEST(prefix_chain, what_comes_before_the_messages_keeps_prompts_apart) {
  const json messages{said("user", noise(3000, 1))};
  const question plain = chat(messages);
  question tools = plain;
  tools.tools = json::array({{{"type", "function"}}});
  question format = plain;
  format.format = "json";
  question level = plain;
  level.think = "high";
  for (const question& other : {tools, format, level, chat(messages, "other")})
    EXPECT_EQ(common_bytes(plain, other), 0U);
  question quiet = plain;
  quiet.think = false;
  EXPECT_EQ(prefix_of(plain), prefix_of(quiet)) << "templates say so at the end";
  EXPECT_EQ(prefix_of(plain), prefix_of(chat(messages, "M:latest"))) << "the same model";
}

TEST(prefix_chain, sampling_changes_nothing) {
  question warm = chat({said("user", "hello")});
  warm.options = {{"temperature", 1}, {"num_predict", 5}};
  EXPECT_EQ(prefix_of(warm), prefix_of(chat({said("user", "hello")})));
}

TEST(prefix_chain, text_does_not_run_from_one_message_into_the_next) {
  EXPECT_EQ(common_bytes(chat({said("user", "ab"), said("user", "c")}),
                         chat({said("user", "a"), said("user", "bc")})),
            0U);
  EXPECT_EQ(common_bytes(chat({said("usera", "b")}), chat({said("user", "ab")})), 0U);
}

TEST(prefix_chain, a_document_with_another_question_behind_it_is_mostly_shared) {
  const std::string document = noise(20'000, 3);
  const auto shared = common_bytes(chat({said("user", document + "what?")}),
                                   chat({said("user", document + "and who was it that said so?")}));
  EXPECT_GT(shared, 17'500U);
  EXPECT_LE(shared, 20'004U);
}

TEST(prefix_chain, raw_prompts_that_grow_keep_their_marks) {
  const std::string text = noise(100'000, 4);
  for (const std::size_t size : {1024U, 5000U, 40'000U, 90'000U}) {
    const auto shared = common_bytes(raw(text.substr(0, size)), raw(text));
    EXPECT_GE(shared + std::max<std::size_t>(1024, size / 8 + 1), size) << size;
    EXPECT_LE(shared, size);
  }
  EXPECT_EQ(common_bytes(raw(text), chat({said("user", text)})), 0U);
}

TEST(prefix_chain, prompts_of_tokens_are_told_apart) {
  const auto tokens = [](const std::string& list) {
    auto got = parse_openai_completion(R"({"prompt":[)" + list + "]}");
    EXPECT_TRUE(got.has_value());
    return got ? got->choices.front() : question{};
  };
  EXPECT_EQ(prefix_of(tokens("1,2,3")), prefix_of(tokens("1,2,3")));
  EXPECT_NE(prefix_of(tokens("1,2,3")), prefix_of(tokens("1,2,4")));
}

TEST(prefix_chain, images_count_a_flat_amount_and_tell_prompts_apart) {
  const auto with = [](const std::string& image) {
    json message = said("user", "look");
    message["images"] = {image};
    return prefix_of(chat({message}));
  };
  EXPECT_NE(with(noise(50'000, 1)).back().hash, with(noise(50'000, 2)).back().hash);
  EXPECT_LT(with(noise(50'000, 1)).back().bytes, 2000U);
}

TEST(prefix_chain, anthropics_blocks_count_and_the_mark_for_its_cache_does_not) {
  const auto turn = [](json content) {
    return anthropic({{"max_tokens", 5},
                      {"system", json::array({{{"type", "text"}, {"text", "s"}}})},
                      {"messages", json::array({{{"role", "user"}, {"content", std::move(content)}}})}});
  };
  const json text{{"type", "text"}, {"text", "hello"}};
  json marked = text;
  marked["cache_control"] = {{"type", "ephemeral"}};
  const json result{{"type", "tool_result"}, {"tool_use_id", "1"}, {"content", "42"}};
  json other = result;
  other["content"] = "43";
  EXPECT_EQ(prefix_of(turn({text})), prefix_of(turn({marked})));
  EXPECT_EQ(prefix_of(turn({text})), prefix_of(turn("hello")));
  EXPECT_NE(prefix_of(turn({text, result})).back(), prefix_of(turn({text, other})).back());
  EXPECT_EQ(common(prefix_of(turn({text, result})), prefix_of(turn({text, other}))), 1U) << "the system's";
}

TEST(prefix_chain, what_has_no_neutral_form_is_part_of_it) {
  const auto named = [](const std::string& name) {
    return openai({{"messages", json::array({{{"role", "user"}, {"content", "hi"}, {"name", name}}})}});
  };
  EXPECT_NE(prefix_of(named("ann")), prefix_of(named("bob")));
}

TEST(prefix_chain, the_same_conversation_in_two_dialects_has_the_same_marks) {
  const json messages = json::array({said("system", "s"), said("user", "hello")});
  auto ours = parse_ask(dump_json({{"messages", messages}}), ask_rules{});
  ASSERT_TRUE(ours.has_value());
  EXPECT_EQ(prefix_of(ours->what), prefix_of(openai({{"messages", messages}})));
}

answer spoken(std::initializer_list<std::pair<piece_kind, const char*>> pieces) {
  answer a;
  for (const auto& [kind, text] : pieces) a.append(kind, text);
  return a;
}

prefix_chain with_answer(const question& q, const answer& said) {
  prompt_end end;
  const prefix_chain prompt = prefix_of(q, &end);
  return prefix_with(prompt, end, said);
}

TEST(prefix_with_answer, is_what_the_next_turn_begins_with) {
  json messages{said("system", "be brief"), said("user", "hello")};
  const auto had =
      with_answer(chat(messages), spoken({{piece_kind::content, "he"}, {piece_kind::content, "y"}}));
  messages.push_back(said("assistant", "hey"));
  EXPECT_EQ(had, prefix_of(chat(messages)));
  messages.push_back(said("user", "and now?"));
  EXPECT_EQ(common(had, prefix_of(chat(messages))), 3U);
  EXPECT_EQ(had.back().bytes, 8U + 6U + 4U + 5U + 9U + 3U);
}

TEST(prefix_with_answer, whichever_dialect_goes_on) {
  const json first{{"role", "user"}, {"content", "hello"}};
  const json block{{"type", "text"}, {"text", "hey"}};
  const json more{{"role", "user"}, {"content", "and now?"}};
  const answer hey = spoken({{piece_kind::content, "hey"}});
  const json in_parts{{"role", "assistant"}, {"content", json::array({block})}};
  const auto had = with_answer(openai({{"messages", json::array({first})}}), hey);
  EXPECT_EQ(common(had, prefix_of(openai({{"messages", json::array({first, in_parts, more})}}))), had.size());
  const auto of_claude = with_answer(anthropic({{"max_tokens", 5}, {"messages", json::array({first})}}), hey);
  const auto next =
      prefix_of(anthropic({{"max_tokens", 5}, {"messages", json::array({first, in_parts, more})}}));
  EXPECT_EQ(common(of_claude, next), of_claude.size());
  EXPECT_GT(of_claude.size(), 1U);
}

TEST(prefix_with_answer, the_probabilities_beside_it_are_no_text) {
  const auto plain = spoken({{piece_kind::content, "hey"}});
  const auto beside = spoken({{piece_kind::logprobs, "{}"}, {piece_kind::content, "hey"}});
  const question q = chat({said("user", "hello")});
  EXPECT_EQ(with_answer(q, plain), with_answer(q, beside));
}

TEST(prefix_with_answer, nothing_where_the_next_turn_shows_something_else) {
  const question q = chat({said("user", "hello")});
  EXPECT_TRUE(with_answer(q, spoken({{piece_kind::reasoning, "hm"}, {piece_kind::content, "hey"}})).empty());
  EXPECT_TRUE(with_answer(q, spoken({{piece_kind::content, "hey"}, {piece_kind::tool_call, "[]"}})).empty());
  EXPECT_TRUE(with_answer(q, {}).empty());
  EXPECT_TRUE(with_answer(raw("hello"), spoken({{piece_kind::content, "hey"}})).empty());
}

TEST(name_hash, of_nothing_only_is_0) {
  EXPECT_EQ(name_hash(""), 0U);
  EXPECT_EQ(name_hash("", 7), 0U);
  EXPECT_NE(name_hash("a"), 0U);
  EXPECT_EQ(name_hash("a"), name_hash("a"));
  EXPECT_NE(name_hash("a"), name_hash("b"));
  EXPECT_NE(name_hash("a", 1), name_hash("a", 2));
}

/// Conversations at random: what is asked of a chain holds however they grow.
class conversations : public testing::TestWithParam<unsigned> {
 protected:
  std::size_t up_to(std::size_t n) { return random_() % n; }
  json message() {
    const std::size_t sizes[] = {3, 40, 300, 3000, 30'000};
    const std::size_t size = 1 + up_to(sizes[up_to(std::size(sizes))]);
    return said(up_to(2) == 0 ? "user" : "assistant", noise(size, static_cast<unsigned>(random_())));
  }

  std::minstd_rand random_{GetParam()};
};

TEST_P(conversations, chains_are_bounded_and_rise_and_grow_at_their_end) {
  json messages{message()};
  auto before = prefix_of(chat(messages));
  for (int turn = 0; turn < 200; ++turn) {
    messages.push_back(message());
    const auto after = prefix_of(chat(messages));
    ASSERT_LE(after.size(), most);
    for (std::size_t i = 1; i < after.size(); ++i) ASSERT_LT(after[i - 1].bytes, after[i].bytes);
    const std::size_t same = common(before, after);
    if (before.size() <= 32) {
      ASSERT_EQ(same, before.size()) << "turn " << turn;
    } else {
      ASSERT_GE(same + 1, before.size()) << "all but its end: turn " << turn;
    }
    if (before.size() < 58) {
      ASSERT_GE(after[same - 1].bytes, before.back().bytes - before.back().bytes / 8 - 1);
    }
    before = after;
  }
}

TEST_P(conversations, an_answer_makes_the_marks_that_the_next_turn_has) {
  json messages;
  for (int turn = 0; turn < 100; ++turn) {
    messages.push_back(message());
    json next = message();
    next["role"] = "assistant";
    const answer its = [&] {
      answer a;
      a.append(piece_kind::content, next["content"].get<std::string>());
      return a;
    }();
    const auto had = with_answer(chat(messages), its);
    messages.push_back(next);
    ASSERT_EQ(had, prefix_of(chat(messages))) << "turn " << turn;
  }
}

TEST_P(conversations, a_character_changed_anywhere_ends_what_is_shared_there) {
  for (int round = 0; round < 20; ++round) {
    json messages;
    for (std::size_t n = 1 + up_to(8); n > 0; --n) messages.push_back(message());
    json other = messages;
    const std::size_t where = up_to(messages.size());
    auto& text = other[where]["content"].get_ref<std::string&>();
    const std::size_t at = up_to(text.size());
    text[at] = text[at] == 'x' ? 'y' : 'x';

    std::size_t begins = 0;
    for (std::size_t i = 0; i < where; ++i)
      begins += messages[i]["role"].get_ref<const std::string&>().size() +
                messages[i]["content"].get_ref<const std::string&>().size();
    const std::size_t differs = begins + other[where]["role"].get_ref<const std::string&>().size() + at;
    const bool changed = messages != other;
    const auto shared = common_bytes(chat(messages), chat(other));
    ASSERT_TRUE(changed);
    ASSERT_LE(shared, differs);
    ASSERT_GE(shared + std::max<std::size_t>(1024, differs / 4 + 1), differs);
  }
}

INSTANTIATE_TEST_SUITE_P(seeds, conversations, testing::Range(1U, 9U));

}  // namespace
}  // namespace pocketfleet
