#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "pocketfleet/wire/ask.hpp"

namespace pocketfleet {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::UnorderedElementsAre;

answer some_answer() {
  answer a;
  a.model = "qwen2.5:1.5b";
  a.created_at = "2026-11-20T13:00:00.123456789Z";
  a.append(piece_kind::reasoning, "hm, ");
  a.append(piece_kind::reasoning, "well");
  a.append(piece_kind::content, "Gr\xc3\xbc\xc3\x9f ");
  a.append(piece_kind::content, "Gott\n");
  a.done_reason = "stop";
  a.counts = {12, 34, nanoseconds{5}, nanoseconds{6}, nanoseconds{7'000'000'000}};
  return a;
}

constexpr answer_notes notes{.phone = "kitchen",
                             .cached = false,
                             .attempts = 2,
                             .rescues = 1,
                             .queued = milliseconds{15},
                             .total = nanoseconds{99}};

std::vector<std::string> keys(const json& object) {
  std::vector<std::string> out;
  for (const auto& [key, value] : object.items()) out.push_back(key);
  return out;
}

json parsed(const std::string& text) {
  auto read = parse_json(text);
  EXPECT_TRUE(read.has_value()) << text;
  return read ? *read : json{};
}

std::vector<json> parsed_lines(const std::string& text) {
  EXPECT_TRUE(text.empty() || text.ends_with('\n')) << "each line is ended";
  std::vector<json> out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    EXPECT_FALSE(line.empty()) << "no blank lines";
    out.push_back(parsed(line));
  }
  return out;
}

TEST(answer, pieces_keep_their_text_and_kind) {
  const answer a = some_answer();
  ASSERT_EQ(a.pieces.size(), 4U);
  EXPECT_EQ(a.piece_text(0), "hm, ");
  EXPECT_EQ(a.piece_text(3), "Gott\n");
  EXPECT_EQ(a.joined(piece_kind::content), "Gr\xc3\xbc\xc3\x9f Gott\n");
  EXPECT_EQ(a.joined(piece_kind::reasoning), "hm, well");
  EXPECT_GT(a.size(), a.text.size());
}

TEST(render_answer, has_the_fields_of_ollamas_chat_and_ours) {
  const json out = parsed(render_answer(some_answer(), notes));
  EXPECT_THAT(keys(out),
              UnorderedElementsAre("model", "created_at", "message", "done", "done_reason", "total_duration",
                                   "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count",
                                   "eval_duration", "pocketfleet"));
  EXPECT_EQ(out["model"], "qwen2.5:1.5b");
  EXPECT_EQ(out["created_at"], "2026-11-20T13:00:00.123456789Z");
  EXPECT_EQ(out["message"],
            json({{"role", "assistant"}, {"content", "Gr\u00fc\u00df Gott\n"}, {"thinking", "hm, well"}}));
  EXPECT_EQ(out["done"], true);
  EXPECT_EQ(out["done_reason"], "stop");
  EXPECT_EQ(out["prompt_eval_count"], 12);
  EXPECT_EQ(out["eval_count"], 34);
  EXPECT_EQ(out["load_duration"], 5);
  EXPECT_EQ(out["prompt_eval_duration"], 6);
  EXPECT_EQ(out["eval_duration"], 7'000'000'000);
  EXPECT_EQ(out["total_duration"], 99);
  EXPECT_EQ(
      out["pocketfleet"],
      json({{"phone", "kitchen"}, {"cached", false}, {"attempts", 2}, {"rescues", 1}, {"queued_ms", 15}}));
}

TEST(render_answer, leaves_out_what_there_is_not) {
  answer a;
  a.append(piece_kind::content, "x");
  const json out = parsed(render_answer(a, notes));
  EXPECT_FALSE(out.contains("done_reason"));
  EXPECT_FALSE(out["message"].contains("thinking"));
  EXPECT_EQ(parsed(render_answer(answer{}, notes))["message"]["content"], "") << "an empty answer is one too";
}

TEST(render_answer, tells_a_cached_answer) {
  answer_notes cached = notes;
  cached.cached = true;
  cached.attempts = 0;
  const json out = parsed(render_answer(some_answer(), cached));
  EXPECT_EQ(out["pocketfleet"]["cached"], true);
  EXPECT_EQ(out["pocketfleet"]["attempts"], 0);
}

TEST(render_answer, is_one_line_whatever_the_text) {
  answer a = some_answer();
  a.append(piece_kind::content, "\n\n\r\n\u2028\u2029\u0085\t\"\\\x01");
  a.model = "m\n\"";
  a.done_reason = "s\n\"";
  answer_notes odd = notes;
  odd.phone = "p\n\"\u2028";
  for (const std::string& text : {render_answer(a, odd), render_error("e\n\u2028\"")}) {
    EXPECT_EQ(text.find_first_of("\r\n"), std::string::npos);
    EXPECT_THAT(text, Not(HasSubstr("\u2028")));
    EXPECT_THAT(text, Not(HasSubstr("\u2029")));
    EXPECT_THAT(text, Not(HasSubstr("\u0085")));
    EXPECT_THAT(text, HasSubstr("\\u2028"));
    parsed(text);
  }
  const json out = parsed(render_answer(a, odd));
  EXPECT_EQ(out["message"]["content"], a.joined(piece_kind::content));
  EXPECT_EQ(out["model"], "m\n\"");
  EXPECT_EQ(out["pocketfleet"]["phone"], "p\n\"\u2028");
}

TEST(render_pieces, gives_a_line_for_each_piece) {
  const answer a = some_answer();
  std::string text;
  EXPECT_EQ(render_pieces(text, a, 0), 4U);
  const auto lines = parsed_lines(text);
  ASSERT_EQ(lines.size(), 4U);
  for (const auto& line : lines) {
    EXPECT_THAT(keys(line), UnorderedElementsAre("model", "created_at", "message", "done"));
    EXPECT_EQ(line["done"], false);
    EXPECT_EQ(line["message"]["role"], "assistant");
  }
  EXPECT_EQ(lines[0]["message"]["thinking"], "hm, ");
  EXPECT_EQ(lines[0]["message"]["content"], "");
  EXPECT_EQ(lines[2]["message"]["content"], "Gr\u00fc\u00df ");
  EXPECT_FALSE(lines[2]["message"].contains("thinking"));
}

TEST(render_pieces, goes_on_where_it_stopped_and_appends) {
  answer a = some_answer();
  std::string text = "before";
  EXPECT_EQ(render_pieces(text, a, 4), 4U);
  EXPECT_EQ(text, "before") << "nothing new, nothing written";
  a.append(piece_kind::content, "new");
  EXPECT_EQ(render_pieces(text, a, 4), 5U);
  ASSERT_TRUE(text.starts_with("before"));
  const auto lines = parsed_lines(text.substr(6));
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0]["message"]["content"], "new");
}

TEST(render_pieces, pieces_put_together_are_the_whole_answer) {
  const answer a = some_answer();
  std::string text;
  for (std::size_t at = 0; at < a.pieces.size();) at = render_pieces(text, a, at);
  render_end(text, a, notes);
  std::string content;
  std::string thinking;
  for (const auto& line : parsed_lines(text)) {
    content += line["message"]["content"].get<std::string>();
    thinking += line["message"].value("thinking", "");
  }
  const json whole = parsed(render_answer(a, notes));
  EXPECT_EQ(content, whole["message"]["content"]);
  EXPECT_EQ(thinking, whole["message"]["thinking"]);
}

TEST(render_end, is_the_whole_answers_line_without_the_text) {
  std::string text;
  render_end(text, some_answer(), notes);
  const auto lines = parsed_lines(text);
  ASSERT_EQ(lines.size(), 1U);
  json whole = parsed(render_answer(some_answer(), notes));
  whole["message"] = json{{"role", "assistant"}, {"content", ""}};
  EXPECT_EQ(lines[0], whole);
}

TEST(render_error, is_an_object_with_a_string) {
  EXPECT_EQ(render_error("no \"phone\""), R"({"error":"no \"phone\""})");
}

TEST(render_answer, large_numbers_stay_whole) {
  answer a;
  a.counts = {18446744073709551615U >> 1U, 4'000'000'000U, nanoseconds{0}, nanoseconds{0},
              nanoseconds::max()};
  const json out = parsed(render_answer(a, notes));
  EXPECT_EQ(out["prompt_eval_count"], 9223372036854775807);
  EXPECT_EQ(out["eval_count"], 4'000'000'000U);
  EXPECT_EQ(out["eval_duration"], 9223372036854775807);
}

}  // namespace
}  // namespace pocketfleet
