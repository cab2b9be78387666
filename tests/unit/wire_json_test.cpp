#include "pocketfleet/wire/json.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "pocketfleet/wire/json_fault.hpp"

namespace pocketfleet {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string fault(std::string_view text) {
  json value;
  const auto found = read_json(text, value);
  if (!found) return "";
  EXPECT_TRUE(value.is_null());
  return std::to_string(found->line) + ":" + std::to_string(found->column) + " " + found->what +
         (found->expected.empty() ? "" : ", expected " + found->expected);
}

std::string nested(std::size_t depth, char open, char close) {
  const std::string inner = open == '{' ? "{\"a\":" : "[";
  std::string text;
  for (std::size_t i = 0; i < depth; ++i) text += inner;
  if (open == '{') text += "1";
  return text.append(depth, close);
}

TEST(parse_json, reads_every_kind_of_value) {
  const auto read =
      parse_json(R"( {"s":"aü\u00e9\ud83d\ude00\u0000","i":-5,"u":18446744073709551615,"f":1.5e3,
                                   "t":true,"n":null,"a":[1,[2],{}],"o":{"k":"v"}} )");
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_EQ(read->at("s").get<std::string>(), std::string("aüé😀\0", 10));
  EXPECT_EQ(read->at("i"), -5);
  EXPECT_EQ(read->at("u"), 18446744073709551615U);
  EXPECT_EQ(read->at("f"), 1500.0);
  EXPECT_EQ(dump_json(read->at("a")), "[1,[2],{}]");
  EXPECT_TRUE(read->at("n").is_null());
}

TEST(parse_json, agrees_with_the_library_on_good_text) {
  for (const auto* text :
       {"null", "true", "0", "-0", "-0.0", "1E2", "\"\"", "[]", "{}", "[[],[[]]]",
        R"([{"a":[{"b":{}}],"c":[]},{"a":0}])", R"({"":{"":[""]}})", " \t\r\n[ 1 , 2 ]\n"}) {
    const auto read = parse_json(text);
    ASSERT_TRUE(read.has_value()) << text << read.error().message;
    EXPECT_EQ(*read, json::parse(text)) << text;
  }
}

TEST(parse_json, says_what_is_wrong_and_where) {
  EXPECT_EQ(fault(""), "1:1 an empty text");
  EXPECT_EQ(fault(std::string_view{}), "1:1 an empty text");
  EXPECT_EQ(fault("  "), "1:3 unexpected end of input, expected '[', '{', or a literal");
  EXPECT_EQ(fault("[1,\n 2"), "2:3 unexpected end of input, expected ']'");
  EXPECT_EQ(fault("[1,\n2,]"), "2:3 unexpected ']', expected '[', '{', or a literal");
  EXPECT_EQ(fault("{\"key\" \"value\"}"), "1:8 unexpected string literal, expected ':'");
  EXPECT_EQ(fault("{\"key\" \"a\\\\\\\"b\"}"), "1:8 unexpected string literal, expected ':'");
  EXPECT_EQ(fault("{1:2}"), "1:2 unexpected number literal, expected string literal");
  EXPECT_EQ(fault("[1] 23"), "1:5 unexpected number literal, expected end of input");
  EXPECT_EQ(fault("{}{}"), "1:3 unexpected '{', expected end of input");
  EXPECT_EQ(fault("{} x"), "1:4 invalid literal");
  EXPECT_THAT(fault("{\"a\":1,\"a\":2}"), HasSubstr("1:8 a key that this object has already"));
  EXPECT_THAT(fault("[\"äöü\", nope]"), HasSubstr("1:10 invalid literal"));  // columns are characters
  EXPECT_THAT(fault("{'a':1}"), HasSubstr("1:2 invalid literal"));
  EXPECT_THAT(fault("// comment\n1"), HasSubstr("1:1 invalid literal"));
  EXPECT_THAT(fault("[\"open"), HasSubstr("missing closing quote"));
  EXPECT_THAT(fault("\"a\nb\""), HasSubstr("1:3 invalid string: control character U+000A"));
  EXPECT_THAT(fault("\"\\x\""), HasSubstr("1:3 invalid string"));
}

TEST(parse_json, refuses_what_is_not_a_number_of_ours) {
  for (const auto* text : {"NaN", "Infinity", "-Infinity", "+1", "01", "1.", ".5", "0x10", "1e", "--1"}) {
    EXPECT_NE(fault(text), "") << text;
  }
  EXPECT_EQ(fault("[1, 1e999]"), "1:5 a number that is too large");
  EXPECT_EQ(fault("-1e999"), "1:1 a number that is too large");
  EXPECT_EQ(fault("[" + std::string(400, '9') + "]"), "1:2 a number that is too large");
  EXPECT_EQ(fault("[0,\n123456789012345678901234567890 ]"), "2:1 a number that is too large");
  EXPECT_EQ(fault("18446744073709551616"), "1:1 a number that is too large");
  EXPECT_EQ(fault("-9223372036854775809"), "1:1 a number that is too large");
  EXPECT_EQ(fault("[1e-999]"), "1:2 a number that is too small");
  EXPECT_EQ(fault("0e-999"), "");
  EXPECT_EQ(fault("0.0"), "");
}

TEST(parse_json, refuses_bad_unicode) {
  for (const std::string_view bytes :
       {"\xff", "\xc0\xaf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\x80", "\xc3", "\xe2\x82"}) {
    EXPECT_THAT(fault("\"" + std::string(bytes) + "\""), HasSubstr("UTF-8")) << testing::PrintToString(bytes);
    EXPECT_NE(fault("{\"" + std::string(bytes) + "\":1}"), "");
    EXPECT_NE(fault(bytes), "");
  }
  for (const auto* text :
       {R"("\ud800")", R"("\udc00")", R"("\ud800\ud800")", R"("\ud800x")", R"("\uZZZZ")"}) {
    EXPECT_THAT(fault(text), HasSubstr("invalid string")) << text;
  }
  EXPECT_EQ(fault("\xEF\xBB\xBF{}"), "1:1 a byte order mark, expected UTF-8 without one");
}

TEST(parse_json, refuses_nul_bytes_wherever_they_are) {
  EXPECT_EQ(fault(std::string("{}\0", 3)), "1:3 a NUL byte");
  EXPECT_EQ(fault(std::string("{}\0garbage", 10)), "1:3 a NUL byte");
  EXPECT_EQ(fault(std::string("\0", 1)), "1:1 a NUL byte");
  EXPECT_EQ(fault(std::string("[\n\"\0\"]", 6)), "2:2 a NUL byte");
}

TEST(parse_json, keys_may_come_again_in_another_object) {
  EXPECT_EQ(fault(R"([{"a":1},{"a":{"a":[{"a":2}]}}])"), "");
  EXPECT_EQ(fault(R"({"a":{"b":1,"b":2}})"),
            "1:13 a key that this object has already, expected each key once");
  EXPECT_EQ(fault(R"({"a":1,"\u0061":2})"), "1:8 a key that this object has already, expected each key once");
}

TEST(parse_json, depth_has_a_limit) {
  for (const auto& [open, close] : {std::pair{'[', ']'}, std::pair{'{', '}'}}) {
    EXPECT_EQ(fault(nested(max_json_depth, open, close)), "");
    const auto at = open == '[' ? 65 : 64 * 5 + 1;
    EXPECT_EQ(fault(nested(max_json_depth + 1, open, close)),
              "1:" + std::to_string(at) + " nesting that is too deep, expected at most 64 levels");
  }
}

TEST(parse_json, hostile_depth_is_refused_where_it_begins) {
  const std::string brackets(5'000'000, '[');
  std::string objects;
  for (int i = 0; i < 1'000'000; ++i) objects += "{\"a\":";
  EXPECT_EQ(fault(brackets), "1:65 nesting that is too deep, expected at most 64 levels");
  EXPECT_THAT(fault(objects), HasSubstr("too deep"));
}

TEST(parse_json, never_repeats_the_text) {
  const std::string canary = "c4n4ry";
  for (const auto& text :
       {"[" + canary, "\"" + canary, "{\"" + canary + "\":1,\"" + canary + "\":2}", "\"" + canary + "\\q\"",
        "\"" + canary + "\xff\"", "\"; last read: " + canary + "\n\"", "\" - " + canary + "\n",
        "{\"a\" \"" + canary + "\"}", "[1e999" + canary + "]", "[1] \"" + canary + "\""}) {
    const auto read = parse_json(text);
    ASSERT_FALSE(read.has_value()) << text;
    EXPECT_EQ(read.error().code, errc::bad_request);
    EXPECT_THAT(read.error().message, HasSubstr("invalid JSON at line 1, column "));
    EXPECT_THAT(read.error().message, Not(HasSubstr(canary))) << text;
    EXPECT_LT(read.error().message.size(), 200U);
  }
}

TEST(parse_json, random_damage_never_throws) {
  const std::string good =
      R"({"model":"qwen","messages":[{"role":"user","content":"hé\u00e9\n"}],"n":[1,-2.5e3,true]})";
  std::minstd_rand random(7);
  for (int i = 0; i < 20'000; ++i) {
    auto text = good;
    for (auto n = random() % 3 + 1; n > 0; --n) {
      const auto at = random() % text.size();
      switch (random() % 3) {
        case 0: text[at] = static_cast<char>(random()); break;
        case 1: text.erase(at, random() % 5); break;
        default: text.insert(at, 1, static_cast<char>(random())); break;
      }
      if (text.empty()) text = " ";
    }
    const auto read = parse_json(text);
    const auto theirs = json::parse(text, nullptr, false);
    if (read.has_value()) {
      EXPECT_EQ(*read, theirs);
    }
  }
}

TEST(dump_json, replaces_what_is_not_utf8) {
  EXPECT_EQ(dump_json(json{{"a", "x\xffy"}}), "{\"a\":\"x\xEF\xBF\xBDy\"}");
  EXPECT_EQ(dump_json(json::array()), "[]");
}

std::string as_json(std::string_view text) {
  std::string out = ">";
  append_json_string(out, text);
  return out.substr(1);
}

TEST(append_json_string, escapes) {
  EXPECT_EQ(as_json(""), R"("")");
  EXPECT_EQ(as_json("plain ASCII ~"), R"("plain ASCII ~")");
  EXPECT_EQ(as_json("a\"b\\c/d"), R"("a\"b\\c/d")");
  EXPECT_EQ(as_json("\b\f\n\r\t"), R"("\b\f\n\r\t")");
  EXPECT_EQ(as_json(std::string("\0\x01\x1f\x7f", 4)), R"("\u0000\u0001\u001f\u007f")");
  EXPECT_EQ(as_json("\u0080\u0085\u009f\u00a0"), "\"\\u0080\\u0085\\u009f\u00a0\"");
  EXPECT_EQ(as_json("a\u2027\u2028\u2029\u202a"), "\"a\u2027\\u2028\\u2029\u202a\"");
  EXPECT_EQ(as_json("grüße 日本 😀"), "\"grüße 日本 😀\"");
}

TEST(append_json_string, replaces_what_is_not_utf8) {
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(as_json("a\xff"), "\"a" + r + "\"");
  EXPECT_EQ(as_json("\x80z"), "\"" + r + "z\"");
  EXPECT_EQ(as_json("\xc0\xaf"), "\"" + r + r + "\"");                  // overlong
  EXPECT_EQ(as_json("\xed\xa0\x80"), "\"" + r + r + r + "\"");          // surrogate
  EXPECT_EQ(as_json("\xf4\x90\x80\x80"), "\"" + r + r + r + r + "\"");  // beyond U+10FFFF
  EXPECT_EQ(as_json("\xe2\x82"), "\"" + r + "\"");                      // cut off
  EXPECT_EQ(as_json("\xf0\x9f\x98\"x"), "\"" + r + "\\\"x\"");          // the quote is not swallowed
  EXPECT_EQ(as_json("\xf4\x8f\xbf\xbf"), "\"\xf4\x8f\xbf\xbf\"");
}

TEST(append_json_string, any_bytes_make_a_string_that_reads_back) {
  std::minstd_rand random(3);
  for (int i = 0; i < 5'000; ++i) {
    std::string bytes(random() % 40, ' ');
    for (auto& c : bytes) c = static_cast<char>(random() % 4 == 0 ? random() % 128 : 0x80 + random() % 128);
    const auto text = as_json(bytes);
    const auto read = parse_json(text);
    ASSERT_TRUE(read.has_value()) << read.error().message;
    // The library replaces by the same rule.
    EXPECT_EQ(*read, json::parse(dump_json(json(bytes))));
  }
}

}  // namespace
}  // namespace pocketfleet
