#include "pocketfleet/app/settings.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "settings_helpers.hpp"

namespace pocketfleet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

TEST(settings_document, every_mistake_at_once) {
  EXPECT_THAT(
      mistakes(R"({"gateway":{"queue":-1,"polices":"x","cache":"sometimes","listen":"0.0.0.0:80"},
                           "phones":[{"port":0,"weight":0},7,{"host":"a","x":1},{"host":"A"}],
                           "fones":[]})"),
      ElementsAre(
          "F: fones: found an unknown key, expected a known one; did you mean \"phones\"?",
          HasSubstr("F: gateway.cache: found \"sometimes\" (a string), expected one of \"everywhere\""),
          HasSubstr("F: gateway.polices: found an unknown key, expected a known one; did you mean "
                    "\"policy\"?"),
          "F: gateway.queue: found -1, expected a whole number from 0 to 100000",
          HasSubstr("F: gateway.listen: found \"0.0.0.0:80\" (a string), expected a loopback"),
          HasSubstr("F: phones[0].port: "), HasSubstr("F: phones[0].weight: "),
          HasSubstr("F: phones[0].host: found nothing"), HasSubstr("F: phones[1]: found 7"),
          HasSubstr("F: phones[2].x: found an unknown key"), HasSubstr("F: phones[3]: found the address")));
}

TEST(settings_document, wrong_shapes) {
  const std::string expected = ", expected an array of phones, or an object with \"phones\" in it";
  EXPECT_EQ(mistake_in("5"), "F: found 5" + expected);
  EXPECT_EQ(mistake_in("null"), "F: found null" + expected);
  EXPECT_EQ(mistake_in("\"x\""), "F: found \"x\" (a string)" + expected);
  EXPECT_EQ(mistake_in("[]"), "F: phones: found [] (an array), expected an array with at least one phone");
  EXPECT_EQ(mistake_in("{}"), "F: phones: found nothing, expected an array with at least one phone");
  EXPECT_EQ(mistake_in(R"({"gateway":{}})"),
            "F: phones: found nothing, expected an array with at least one phone");
  EXPECT_EQ(mistake_in(R"({"phones":{}})"),
            "F: phones: found {} (an object), expected an array with at least one phone");
  EXPECT_EQ(mistake_in(R"({"gateway":[],"phones":[{"host":"a"}]})"),
            "F: gateway: found [] (an array), expected an object with settings");
  EXPECT_EQ(
      mistake_in(R"(["10.0.0.1"])"),
      "F: phones[0]: found \"10.0.0.1\" (a string), expected an object such as {\"host\": \"192.168.1.50\"}");
  EXPECT_EQ(mistake_in(R"({"policy":"least_loaded","phones":[{"host":"a"}]})"),
            "F: policy: found a setting of the gateway, expected it to stand inside \"gateway\"");
  EXPECT_EQ(mistake_in(R"({"$schema":"./phones.schema.json","phones":[{"host":"a"}]})"), "");
  EXPECT_THAT(mistake_in(R"({"$schema":1,"phones":[{"host":"a"}]})"), HasSubstr("F: [\"$schema\"]: found 1"));
}

TEST(settings_document, not_json) {
  EXPECT_EQ(mistake_in(""), "F: line 1, column 1: found an empty text, expected JSON");
  EXPECT_EQ(mistake_in("[\n {\"host\" \"a\"}]"),
            "F: line 2, column 10: found unexpected string literal, expected ':'");
  EXPECT_EQ(mistake_in("[{\"host\":\"a\"},\n{\"host\":\"b\""),
            "F: line 2, column 12: found unexpected end of input, expected '}'");
  EXPECT_EQ(mistake_in("hosts:\n  - a\n"), "F: line 1, column 1: found invalid literal, expected JSON");
  EXPECT_EQ(mistake_in(R"([{"host":"a","host":"b"}])"),
            "F: line 1, column 14: found a key that this object has already, expected each key once");
  EXPECT_EQ(mistake_in(std::string("[]\0", 3)), "F: line 1, column 3: found a NUL byte, expected JSON");
  EXPECT_THAT(mistake_in("[{\"host\":\"\xff\"}]"),
              HasSubstr("line 1, column 11: found invalid string: ill-formed UTF-8"));
  EXPECT_THAT(mistake_in("\xEF\xBB\xBF[]"), HasSubstr("found a byte order mark"));
  EXPECT_THAT(mistake_in(std::string(100'000, '[')), HasSubstr("column 65: found nesting that is too deep"));
  EXPECT_EQ(mistake_in(std::string((std::size_t{4} << 20U) + 1, ' ')),
            "F: found 4194305 bytes, expected at most 4194304 bytes (4 MiB)");
}

TEST(settings_document, a_hostile_file_is_bounded) {
  std::string text = "[0";
  for (int i = 0; i < 300'000; ++i) text += ",0";
  const auto lines = mistakes(text + "]");
  ASSERT_EQ(lines.size(), 1001U);
  EXPECT_EQ(lines.back(), "F: found 299001 more mistakes that are not listed, expected none");
}

TEST(settings_document, with_mistakes_there_is_nothing_to_serve) {
  EXPECT_TRUE(parse_configuration(R"([{"host":"a"},{"host":"b","weight":0}])").value.phones.empty());
}

TEST(settings_document, random_damage_never_throws) {
  const std::string text =
      R"({"gateway":{"listen":"[::1]:8000","queue_wait_s":1.5,"cache":"never","host_names":["a"]},
          "phones":[{"host":"10.0.0.1","weight":2,"name":"n","serial":"s","engine":"auto","model":"m"}]})";
  std::minstd_rand random(11);
  for (int i = 0; i < 10'000; ++i) {
    auto damaged = text;
    for (auto n = random() % 4 + 1; n > 0; --n) {
      const auto at = random() % damaged.size();
      switch (random() % 3) {
        case 0: damaged[at] = static_cast<char>(random() % 128); break;
        case 1: damaged.erase(at, random() % 4); break;
        default: damaged.insert(at, damaged.substr(random() % damaged.size(), random() % 12)); break;
      }
    }
    for (const auto& m : parse_configuration(damaged).mistakes) {
      EXPECT_FALSE(m.found.empty());
      EXPECT_FALSE(m.expected.empty());
    }
  }
}

class settings_file : public testing::Test {
 protected:
  settings_file() { std::filesystem::create_directory(folder_); }
  ~settings_file() override { std::filesystem::remove_all(folder_); }

  std::string write(const std::string& text) const {
    std::ofstream(path_, std::ios::binary) << text;
    return path_;
  }
  static std::string first_mistake(const std::string& file) {
    const auto loaded = load_configuration(file);
    return loaded.ok() ? "" : to_string(loaded.mistakes.front(), "F");
  }

  std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() / ("pocketfleet_settings_" + std::to_string(::getpid()));
  std::string path_ = folder_ / "phones.json";
};

TEST_F(settings_file, good) {
  EXPECT_EQ(load_configuration(write(R"([{"host":"a"}])")).value.phones.size(), 1U);
}

TEST_F(settings_file, files_that_cannot_be_read) {
  EXPECT_EQ(first_mistake(path_), "F: found No such file or directory, expected a file that can be read");
  EXPECT_EQ(first_mistake(folder_), "F: found a directory, expected a file");
  EXPECT_EQ(first_mistake(path_ + "/x"),
            "F: found No such file or directory, expected a file that can be read");
  EXPECT_EQ(first_mistake(""), "F: found No such file or directory, expected a file that can be read");
  EXPECT_EQ(first_mistake("/dev/zero"), "F: found a device or a pipe, expected a file");
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  EXPECT_EQ(first_mistake(path_), "F: found a device or a pipe, expected a file");
  std::filesystem::remove(path_);
  if (::geteuid() != 0) {
    ::chmod(write("[]").c_str(), 0);
    EXPECT_EQ(first_mistake(path_), "F: found Permission denied, expected a file that can be read");
  }
}

TEST_F(settings_file, a_file_that_is_too_large_is_not_read) {
  write("[");
  std::filesystem::resize_file(path_, std::uintmax_t{100} << 30U);  // sparse; reading it would take minutes
  EXPECT_EQ(first_mistake(path_), "F: found 107374182400 bytes, expected at most 4194304 bytes (4 MiB)");
}

TEST(settings_document, every_beginning_of_a_good_file_is_a_mistake_or_good) {
  const std::string text =
      R"({"gateway":{"listen":"127.0.0.1:8000"},"phones":[{"host":"10.0.0.1","weight":2}]})";
  for (std::size_t size = 0; size < text.size(); ++size) {
    EXPECT_THAT(mistake_in(text.substr(0, size)), StartsWith("F: line 1, column ")) << size;
  }
  EXPECT_EQ(mistake_in(text), "");
}

}  // namespace
}  // namespace pocketfleet
