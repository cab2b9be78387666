#include "pocketfleet/wire/lines.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace pocketfleet {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using portions = std::vector<std::string>;

template <class Reader>
void drain(Reader& reader, std::vector<std::string>& into) {
  std::string_view text;
  while (reader.next(text)) into.emplace_back(text);
}

std::vector<std::string> lines_of(const portions& in, std::string* rest = nullptr) {
  line_splitter splitter;
  std::vector<std::string> out;
  for (const auto& bytes : in) {
    splitter.feed(bytes);
    drain(splitter, out);
  }
  EXPECT_FALSE(splitter.overflow());
  if (rest != nullptr) *rest = splitter.rest();
  return out;
}

std::vector<std::string> events_of(const portions& in) {
  sse_reader reader;
  std::vector<std::string> out;
  for (const auto& bytes : in) {
    reader.feed(bytes);
    drain(reader, out);
  }
  EXPECT_FALSE(reader.overflow());
  return out;
}

portions bytewise(const std::string& text) {
  portions out;
  for (const char c : text) out.emplace_back(1, c);
  return out;
}

/// Calls check(portions) for the whole text, each cut into two, into three, and byte by byte.
template <class Check>
void for_each_split(const std::string& text, Check check) {
  check(portions{text});
  check(bytewise(text));
  for (std::size_t a = 0; a <= text.size(); ++a) {
    check(portions{text.substr(0, a), text.substr(a)});
    for (std::size_t b = a; b <= text.size(); ++b) {
      check(portions{text.substr(0, a), text.substr(a, b - a), text.substr(b)});
    }
  }
}

TEST(line_splitter, cuts_at_line_feeds_wherever_the_bytes_are_cut) {
  for_each_split("one\ntwo\n\nthree\r\n\r\nf\xc3\xbcr\nrest", [](const portions& in) {
    std::string rest;
    ASSERT_THAT(lines_of(in, &rest), ElementsAre("one", "two", "", "three", "", "f\xc3\xbcr"));
    ASSERT_EQ(rest, "rest");
  });
}

TEST(line_splitter, only_the_last_carriage_return_belongs_to_the_line_end) {
  for_each_split("a\rb\r\r\n\r\n",
                 [](const portions& in) { ASSERT_THAT(lines_of(in), ElementsAre("a\rb\r", "")); });
}

TEST(line_splitter, has_no_lines_in_nothing) {
  std::string rest = "x";
  EXPECT_THAT(lines_of({}, &rest), IsEmpty());
  EXPECT_EQ(rest, "");
  EXPECT_THAT(lines_of({"", "", ""}, &rest), IsEmpty());
  EXPECT_EQ(rest, "");
}

TEST(line_splitter, nothing_is_left_behind_a_line_end) {
  for_each_split("whole\n", [](const portions& in) {
    std::string rest;
    ASSERT_THAT(lines_of(in, &rest), ElementsAre("whole"));
    ASSERT_EQ(rest, "");
  });
}

TEST(line_splitter, a_line_that_lies_whole_in_the_bytes_is_not_copied) {
  const std::string bytes = "one\ntwo\n";
  line_splitter splitter;
  splitter.feed(bytes);
  std::string_view line;
  ASSERT_TRUE(splitter.next(line));
  EXPECT_EQ(line.data(), bytes.data());
  ASSERT_TRUE(splitter.next(line));
  EXPECT_EQ(line.data(), bytes.data() + 4);
}

TEST(line_splitter, passes_any_byte_on) {
  std::string all;
  for (int c = 0; c < 256; ++c) {
    if (c != '\n') all += static_cast<char>(c);
  }
  EXPECT_THAT(lines_of({all + "\n"}), ElementsAre(all));
  EXPECT_THAT(lines_of(bytewise(all + "\n")), ElementsAre(all));
}

TEST(line_splitter, a_line_as_long_as_the_cap_passes_and_one_byte_more_does_not) {
  for (const std::size_t size : {std::size_t{10}, std::size_t{11}}) {
    for (const bool end : {true, false}) {
      for (const bool cut : {true, false}) {
        const std::string text = std::string(size, 'x') + (end ? "\n" : "");
        line_splitter splitter(10);
        std::vector<std::string> out;
        for (const auto& bytes : cut ? bytewise(text) : portions{text}) {
          splitter.feed(bytes);
          drain(splitter, out);
        }
        EXPECT_EQ(splitter.overflow(), size == 11) << size << end << cut;
        EXPECT_EQ(out.size(), size == 10 && end ? 1U : 0U) << size << end << cut;
      }
    }
  }
}

TEST(line_splitter, reads_on_after_no_overflow_only) {
  line_splitter splitter(4);
  std::string_view line;
  splitter.feed("ok\ntoo long\nok\n");
  ASSERT_TRUE(splitter.next(line));
  EXPECT_FALSE(splitter.next(line));
  EXPECT_TRUE(splitter.overflow());
  splitter.feed("\nok\n");
  EXPECT_FALSE(splitter.next(line)) << "where the next line begins is not known";
  EXPECT_TRUE(splitter.overflow());
}

TEST(line_splitter, many_short_lines_are_no_long_line) {
  line_splitter splitter(8);
  std::vector<std::string> out;
  for (int i = 0; i < 1000; ++i) {
    splitter.feed("1234\n12");
    drain(splitter, out);
    splitter.feed("34\n");
    drain(splitter, out);
  }
  EXPECT_EQ(out.size(), 2000U);
  EXPECT_FALSE(splitter.overflow());
}

TEST(line_splitter, random_bytes_cut_at_random_give_the_same_lines) {
  std::minstd_rand random(5);
  for (int round = 0; round < 2'000; ++round) {
    std::string text;
    for (auto n = random() % 60; n > 0; --n) text += "ab\r\n"[random() % 4];
    portions cut;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t n = random() % 7;
      cut.push_back(text.substr(at, n));
      at += n;
    }
    std::string rest_whole;
    std::string rest_cut;
    ASSERT_EQ(lines_of({text}, &rest_whole), lines_of(cut, &rest_cut)) << testing::PrintToString(text);
    ASSERT_EQ(rest_whole, rest_cut);
  }
}

// ---- server-sent events

TEST(sse_reader, gives_the_data_of_each_event_wherever_the_bytes_are_cut) {
  for_each_split("data: {\"a\":1}\n\ndata:two\r\n\r\ndata: [DONE]\n\n", [](const portions& in) {
    ASSERT_THAT(events_of(in), ElementsAre("{\"a\":1}", "two", "[DONE]"));
  });
}

TEST(sse_reader, passes_over_comments_and_other_fields) {
  const std::string text =
      ":\n\n: ping\n\nevent: error\nid: 7\nretry: 10\ndata: x\n\nevent: lonely\n\ndatax: no\n\n";
  EXPECT_THAT(events_of({text}), ElementsAre("x"));
  EXPECT_THAT(events_of(bytewise(text)), ElementsAre("x"));
}

TEST(sse_reader, joins_several_lines_of_data) {
  EXPECT_THAT(events_of({"data: a\n: between\ndata: b\ndata\ndata:\n\n"}), ElementsAre("a\nb\n"));
}

TEST(sse_reader, takes_one_space_off_and_no_more) {
  EXPECT_THAT(events_of({"data:  two\n\ndata:none\n\ndata: \n\n"}), ElementsAre(" two", "none", ""));
}

TEST(sse_reader, an_event_that_is_not_ended_is_not_given) {
  EXPECT_THAT(events_of({"data: x"}), IsEmpty());
  EXPECT_THAT(events_of({"data: x\n"}), IsEmpty());
}

TEST(sse_reader, an_event_over_the_cap_overflows_in_one_line_or_many) {
  sse_reader one;
  const std::string portion(64 << 10U, 'x');
  std::string_view data;
  one.feed("data: ");
  EXPECT_FALSE(one.next(data));
  for (int i = 0; i < 17; ++i) {
    one.feed(portion);
    EXPECT_FALSE(one.next(data));
  }
  EXPECT_TRUE(one.overflow());

  sse_reader many;
  const std::string line = "data: " + portion + "\n";
  for (int i = 0; i < 17; ++i) {
    many.feed(line);
    EXPECT_FALSE(many.next(data));
  }
  EXPECT_TRUE(many.overflow());
}

}  // namespace
}  // namespace pocketfleet
