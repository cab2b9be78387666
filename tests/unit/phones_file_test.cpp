// phones.json written back: what stays as it was, and what does not.
#include "pocketfleet/app/phones_file.hpp"

#include <gmock/gmock.h>

#include "settings_helpers.hpp"

namespace pocketfleet {
namespace {

using testing::HasSubstr;

class phones_file_test : public testing::Test {
 protected:
  void read(std::string given) {
    text = std::move(given);
    all.take_file(good(text).phones);
  }
  void add(const std::string& entry) {
    auto made = parse_new_phone(entry, "/x/phones.json", {});
    ASSERT_TRUE(made) << made.error().message;
    ASSERT_TRUE(all.add(std::move(*made), {}));
  }
  std::string written() {
    auto out = with_changes(text, all.entries());
    EXPECT_TRUE(out) << out.error().message;
    return out ? *out : std::string{};
  }

  std::string text;
  roster all;
};

TEST_F(phones_file_test, what_is_not_changed_is_the_same_text) {
  read("[ {\"host\" :\"10.0.0.1\",\"weight\":2e0 }\n]");
  EXPECT_EQ(written(), text);
}

TEST_F(phones_file_test, a_plain_array_stays_one) {
  read(R"([{"port":11434,"host":"10.0.0.1"},{"host":"10.0.0.2","weight":2}])");
  all.change("10.0.0.1:11434", {.weight = 3});
  all.change("10.0.0.2:11434", {.max_concurrency = 2});
  EXPECT_EQ(written(), R"([
  {"port": 11434, "host": "10.0.0.1", "weight": 3},
  {"host": "10.0.0.2", "weight": 2, "max_concurrency": 2}
]
)");
}

TEST_F(phones_file_test, settings_and_the_order_of_keys_stay) {
  read(R"({"$schema":"./x.json","phones":[{"weight":1,"host":"10.0.0.1","name":"b"},
          {"name":"a","host":"10.0.0.2"}],"gateway":{"queue":7,"listen":"127.0.0.1:8000","attempts":2}})");
  all.change("b", {.weight = 4});
  all.remove("a");
  add(R"({"host":"10.0.0.3","aliases":{"zz":"q","aa":"r"},"weight":2.0,"name":"c"})");
  all.change("c", {.max_concurrency = 5});
  EXPECT_EQ(written(), R"({
  "$schema": "./x.json",
  "phones": [
    {"weight": 4, "host": "10.0.0.1", "name": "b"},
    {"host": "10.0.0.3", "aliases": {"zz": "q", "aa": "r"}, "weight": 2.0, "name": "c", "max_concurrency": 5}
  ],
  "gateway": {
    "queue": 7,
    "listen": "127.0.0.1:8000",
    "attempts": 2
  }
}
)");
}

TEST_F(phones_file_test, what_is_written_reads_as_the_fleet) {
  read(R"([{"host":"fe80::1","name":"a/b #1","model":"qwen2.5:1.5b"},{"host":"pixel.lan","weight":9}])");
  all.change("a/b #1", {.weight = 1000, .max_concurrency = 64});
  add(R"({"host":"10.0.0.3","id":"pf-1","token_sha256":")" + std::string(64, 'a') + R"("})");
  EXPECT_EQ(good(written()).phones, all.phones());
}

TEST_F(phones_file_test, a_long_entry_is_spread) {
  read(R"([{"host":"10.0.0.1","model":")" + std::string(120, 'm') + R"("}])");
  all.change("10.0.0.1:11434", {.weight = 3});
  EXPECT_THAT(written(), HasSubstr("[\n  {\n    \"host\": \"10.0.0.1\",\n"));
  EXPECT_THAT(written(), HasSubstr("\n    \"weight\": 3\n  }\n]\n"));
}

TEST_F(phones_file_test, a_file_without_a_phone_is_refused) {
  read(R"([{"host":"10.0.0.1"}])");
  all.remove("10.0.0.1:11434");
  const auto out = with_changes(text, all.entries());
  ASSERT_FALSE(out);
  EXPECT_EQ(out.error().code, errc::conflict);
  EXPECT_THAT(out.error().message, HasSubstr("at least one phone"));
}

TEST_F(phones_file_test, another_file_is_refused) {
  read(R"([{"host":"10.0.0.1"}])");
  for (const char* other : {R"([])", R"([{"host":"10.0.0.1"},{"host":"10.0.0.2"}])", "[", "3", R"([1])"}) {
    const auto out = with_changes(other, all.entries());
    ASSERT_FALSE(out) << other;
    EXPECT_EQ(out.error().code, errc::conflict);
  }
}

// ---- what the API takes

std::string refused(const std::string& entry) {
  const auto made = parse_new_phone(entry, "/x/phones.json", {});
  EXPECT_FALSE(made) << entry;
  return made ? "" : made.error().message;
}

TEST(new_phone, is_read_by_the_rules_of_the_file) {
  const auto made = parse_new_phone(R"({"host":"10.0.0.1","port":8080,"engine":"llama-server"})", "f", "key");
  ASSERT_TRUE(made);
  EXPECT_EQ(made->config.name, "10.0.0.1:8080");
  EXPECT_EQ(made->config.api_key, "key");
  EXPECT_EQ(
      refused(R"({"host":"10.0.0.1","weight":0,"wieght":1})"),
      "weight: found 0, expected a whole number from 1 to 1000; wieght: found an unknown key, expected a "
      "known one; did you mean \"weight\"?");
  EXPECT_THAT(refused("{}"), HasSubstr("host: found nothing"));
  EXPECT_THAT(refused("[]"), HasSubstr("expected an object such as"));
  EXPECT_THAT(refused(R"({"host":"10.0.0.1","token_sha256":")" + std::string(64, 'a') + "\"}"),
              HasSubstr("token_sha256: found no id"));
  EXPECT_THAT(refused("{"), HasSubstr("invalid JSON at line 1"));
}

TEST(new_phone, takes_no_key_from_outside_the_folder) {
  for (const char* path : {"/etc/shadow", "../key", "keys/../../key"}) {
    EXPECT_THAT(refused(R"({"host":"10.0.0.1","api_key_file":")" + std::string(path) + "\"}"),
                HasSubstr("a file in the folder of phones.json"));
  }
  EXPECT_THAT(refused(R"({"host":"10.0.0.1","api_key_file":"none"})"), HasSubstr("api_key_file: found"));
}

TEST(phone_change, is_weight_and_permits) {
  const auto both = parse_phone_change(R"({"weight":3,"max_concurrency":2})");
  ASSERT_TRUE(both);
  EXPECT_EQ(both->weight, 3U);
  EXPECT_EQ(both->max_concurrency, 2U);
  EXPECT_FALSE(parse_phone_change(R"({"weight":3})")->max_concurrency);
  EXPECT_EQ(parse_phone_change(R"({"weight":1001})").error().message,
            "weight: found 1001, expected a whole number from 1 to 1000");
  EXPECT_THAT(parse_phone_change(R"({"name":"x"})").error().message, HasSubstr("name: found an unknown key"));
  for (const char* nothing : {"{}", "[]", "3", ""}) EXPECT_FALSE(parse_phone_change(nothing)) << nothing;
}

}  // namespace
}  // namespace pocketfleet
