#include "pocketfleet/app/settings.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "settings_helpers.hpp"

namespace pocketfleet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

TEST(settings_phones, the_plain_array_form) {
  const auto read =
      good(R"([{"host":"192.168.1.50","port":11434,"model":"qwen2.5:1.5b","weight":2,"max_concurrency":1}])");
  ASSERT_EQ(read.phones.size(), 1U);
  const phone_config expected{.name = "192.168.1.50:11434",
                              .host = "192.168.1.50",
                              .port = 11434,
                              .model = "qwen2.5:1.5b",
                              .weight = 2,
                              .max_concurrency = 1,
                              .engine = engine_kind::unknown,
                              .serial = ""};
  EXPECT_EQ(read.phones[0], expected);
  EXPECT_EQ(read.gateway.listener.port, 8000);
}

TEST(settings_phones, defaults_and_every_key) {
  const auto phones = good(R"([
    {"host":"a"},
    {"host":"Pixel-7.lan","port":8080,"model":"m","weight":1000,"max_concurrency":64,
     "serial":"192.168.1.9:5555","name":"Sam's phone","engine":"llama-server"},
    {"host":"[FD00::0:50]","engine":"ollama"}, {"host":"fd00::51","engine":"auto","weight":2.0}])")
                          .phones;
  ASSERT_EQ(phones.size(), 4U);
  const phone_config plain{.name = "a:11434", .host = "a", .model = "", .serial = ""};
  EXPECT_EQ(phones[0], plain);
  EXPECT_EQ(phones[1].name, "Sam's phone");
  EXPECT_EQ(phones[1].host, "Pixel-7.lan");
  EXPECT_EQ(phones[1].port, 8080);
  EXPECT_EQ(phones[1].weight, 1000U);
  EXPECT_EQ(phones[1].max_concurrency, 64U);
  EXPECT_EQ(phones[1].serial, "192.168.1.9:5555");
  EXPECT_EQ(phones[1].engine, engine_kind::llama_server);
  EXPECT_EQ(phones[2].host, "fd00::50");
  EXPECT_EQ(phones[2].name, "[fd00::50]:11434");
  EXPECT_EQ(phones[2].engine, engine_kind::ollama);
  EXPECT_EQ(phones[3].engine, engine_kind::unknown);
  EXPECT_EQ(phones[3].weight, 2U);
}

TEST(settings_phones, numbers_have_ranges) {
  EXPECT_EQ(in_phone(R"("weight":0)"),
            "F: phones[0].weight: found 0, expected a whole number from 1 to 1000");
  EXPECT_EQ(in_phone(R"("weight":1001)"),
            "F: phones[0].weight: found 1001, expected a whole number from 1 to 1000");
  EXPECT_EQ(in_phone(R"("max_concurrency":-1)"),
            "F: phones[0].max_concurrency: found -1, expected a whole number from 1 to 64");
  EXPECT_EQ(in_phone(R"("port":0)"), "F: phones[0].port: found 0, expected a whole number from 1 to 65535");
  EXPECT_EQ(in_phone(R"("port":70000)"),
            "F: phones[0].port: found 70000, expected a whole number from 1 to 65535");
  EXPECT_EQ(in_phone(R"("weight":1.5)"),
            "F: phones[0].weight: found 1.5, expected a whole number from 1 to 1000");
  EXPECT_EQ(in_phone(R"("weight":"abc")"),
            "F: phones[0].weight: found \"abc\" (a string), expected a whole number from 1 to 1000");
  EXPECT_THAT(in_phone(R"("weight":"2")"), HasSubstr("found \"2\" (a string)"));
  for (const auto* v :
       {"1e300", "-1e300", "18446744073709551615", "-0", "true", "null", "[]", "{}", "[1]", "0.5"}) {
    EXPECT_THAT(in_phone("\"weight\":" + std::string(v)), StartsWith("F: phones[0].weight: found ")) << v;
  }
}

TEST(settings_phones, what_is_found_is_named_short_and_harmless) {
  EXPECT_THAT(in_phone(R"("port":{"a":1})"), HasSubstr("found {...} (an object)"));
  EXPECT_THAT(in_phone(R"("port":[])"), HasSubstr("found [] (an array)"));
  EXPECT_THAT(in_phone(R"("port":null)"), HasSubstr("found null"));
  EXPECT_THAT(in_phone(R"("port":false)"), HasSubstr("found false"));
  EXPECT_THAT(in_phone(R"("port":"\u001b[2J\u009b\n")"), HasSubstr(R"("\u001b[2J\u009b\n" (a string))"));
  const auto line = in_phone("\"port\":\"" + std::string(100'000, 'x') + "\"");
  EXPECT_THAT(line, HasSubstr("xxx...\" (a string)"));
  EXPECT_LT(line.size(), 200U);
  std::string umlauts;
  for (int i = 0; i < 100; ++i) umlauts += "ü";
  EXPECT_THAT(in_phone("\"port\":\"" + umlauts + "\""), HasSubstr("ü...\" (a string)"));
  EXPECT_LT(in_phone("\"" + std::string(100'000, 'k') + "\":1").size(), 300U);
}

TEST(settings_phones, hosts_that_are_good) {
  for (const auto* host : {"localhost", "a", "a-b.c_d.example", "10.0.0.1", "::1", "[::1]", "fe80::1",
                           "xn--bcher-kva.de", "4g-router", "255.255.255.255", "1.2.3.4.example"}) {
    EXPECT_EQ(in_host(host), "") << host;
  }
  EXPECT_EQ(in_host(std::string(63, 'a')), "");
}

TEST(settings_phones, hosts_that_are_not) {
  EXPECT_EQ(in_host(""),
            "F: phones[0].host: found \"\" (a string), expected a host name or an IP address, as "
            "\"192.168.1.50\"");
  EXPECT_THAT(in_host("http://10.0.0.1"), HasSubstr("without a scheme such as \"http://\""));
  EXPECT_THAT(in_host("10.0.0.1:8080"), HasSubstr("with the port beside it as \"port\": 8080"));
  EXPECT_THAT(in_host("pixel:11434"), HasSubstr("with the port beside it as \"port\": 11434"));
  EXPECT_THAT(in_host("[::1]:80"), HasSubstr("with the port beside it as \"port\": 80"));
  EXPECT_THAT(in_host("sam@10.0.0.1"), HasSubstr("without a user"));
  EXPECT_THAT(in_host("http://sam:secret@10.0.0.1"), Not(HasSubstr("secret"))) << "it would stand in the log";
  EXPECT_THAT(in_host("10.0.0.1/api"), HasSubstr("without a path"));
  EXPECT_THAT(in_host("10.0.0.1?x"), HasSubstr("without a path"));
  EXPECT_THAT(in_host("my phone"), HasSubstr("without spaces"));
  EXPECT_THAT(in_host("phone\r\nX: y"), HasSubstr("without spaces"));
  EXPECT_THAT(in_host(std::string("a\0b", 3)), HasSubstr("without spaces"));
  EXPECT_THAT(in_host("192.168.1.500"), HasSubstr("four numbers from 0 to 255"));
  EXPECT_THAT(in_host("192.168.1"), HasSubstr("four numbers"));
  EXPECT_THAT(in_host("192.168.001.050"), HasSubstr("four numbers"));
  EXPECT_THAT(in_host("0.0.0.0"), HasSubstr("any address"));
  EXPECT_THAT(in_host("::"), HasSubstr("any address"));
  EXPECT_THAT(in_host("[::]"), HasSubstr("any address"));
  for (const auto* host : {"[::1", "::1]", "[]", "[10.0.0.1]", "[::1]x", "[::1]:", "fe80::1%wlan0", "1:2:3",
                           "a..b", ".a", "a.", "-a", "a-", "büro", "a,b", "a:b", ":", "*"}) {
    EXPECT_THAT(in_host(host), StartsWith("F: phones[0].host: found ")) << host;
  }
  EXPECT_NE(in_host(std::string(64, 'a')), "");
  EXPECT_NE(in_host(std::string(254, 'a')), "");
  EXPECT_THAT(mistake_in(R"([{"host":5}])"), StartsWith("F: phones[0].host: found 5, expected a host name"));
  EXPECT_THAT(mistake_in(R"([{}])"), StartsWith("F: phones[0].host: found nothing, expected a host name"));
}

TEST(settings_phones, names_models_serials_and_engines) {
  for (const auto* name : {R"("")", R"("a\"b")", R"("a\\b")", R"("a\nb")", R"(" a")", R"("ü")", "7"}) {
    EXPECT_THAT(in_phone(std::string("\"name\":") + name), StartsWith("F: phones[0].name: found ")) << name;
  }
  EXPECT_EQ(in_phone("\"name\":\"" + std::string(64, 'n') + "\""), "");
  EXPECT_THAT(in_phone("\"name\":\"" + std::string(65, 'n') + "\""), HasSubstr("1 to 64 printable ASCII"));
  EXPECT_THAT(in_phone(R"("model":"")"), HasSubstr("F: phones[0].model: found \"\""));
  EXPECT_THAT(in_phone(R"("model":["a"])"), HasSubstr("found [...] (an array)"));
  EXPECT_THAT(in_phone(R"("serial":"; rm -rf /")"), HasSubstr("adb devices"));
  EXPECT_THAT(in_phone(R"("serial":"-e")"), HasSubstr("adb devices"));
  EXPECT_EQ(in_phone(R"("engine":"vllm")"),
            "F: phones[0].engine: found \"vllm\" (a string), expected one of "
            "\"ollama\", \"llama-server\" or \"auto\"");
  EXPECT_THAT(in_phone(R"("engine":null)"), HasSubstr("found null, expected one of"));
}

TEST(settings_phones, aliases) {
  const auto phones =
      good(R"([{"host":"a","model":"small","aliases":{"small":"qwen2.5:1.5b","big one":"qwen2.5:1.5b",
    "phi":"phi"}},{"host":"b","aliases":{}}])")
          .phones;
  EXPECT_THAT(phones[0].aliases,
              ElementsAre(model_alias{"big one", "qwen2.5:1.5b"}, model_alias{"phi", "phi"},
                          model_alias{"small", "qwen2.5:1.5b"}));
  EXPECT_THAT(phones[1].aliases, ElementsAre());
}

TEST(settings_phones, aliases_that_are_none) {
  const std::string shape = R"(expected an object of at most 64 names, as {"small": "qwen2.5:1.5b"})";
  EXPECT_EQ(in_phone(R"("aliases":["a"])"), "F: phones[0].aliases: found [...] (an array), " + shape);
  EXPECT_EQ(in_phone(R"("aliases":"a")"), "F: phones[0].aliases: found \"a\" (a string), " + shape);
  EXPECT_EQ(in_phone(R"("aliases":{"a":7})"),
            "F: phones[0].aliases.a: found 7, expected the model's name as the phone spells it, as "
            "\"qwen2.5:1.5b\", at most 256 characters");
  EXPECT_THAT(in_phone(R"("aliases":{"a":""})"), StartsWith("F: phones[0].aliases.a: found \"\" (a string)"));
  EXPECT_THAT(in_phone(R"("aliases":{"a":{"b":"c"}})"), StartsWith("F: phones[0].aliases.a: found {...}"));
  EXPECT_THAT(in_phone(R"("aliases":{"a b\n":"c"})"), StartsWith(R"(F: phones[0].aliases["a b\n"]: found )"));
  EXPECT_THAT(in_phone(R"("aliases":{"":"c"})"), StartsWith(R"(F: phones[0].aliases[""]: found )"));
  EXPECT_THAT(in_phone("\"aliases\":{\"" + std::string(257, 'a') + "\":\"c\"}"),
              HasSubstr("1 to 256 printable ASCII"));
  EXPECT_EQ(in_phone("\"aliases\":{\"" + std::string(256, 'a') + "\":\"" + std::string(256, 'c') + "\"}"),
            "");
  EXPECT_EQ(
      in_phone(R"("aliases":{"Small":"c","small:latest":"d"})"),
      "F: phones[0].aliases[\"small:latest\"]: found the name \"small:latest\" (a string), expected a name "
      "of its own; phones[0].aliases.Small is the same");
  std::string many;
  for (int i = 0; i < 64; ++i) many += (i == 0 ? "\"" : ",\"") + std::to_string(i) + R"(":"m")";
  EXPECT_EQ(in_phone("\"aliases\":{" + many + "}"), "");
  EXPECT_THAT(in_phone("\"aliases\":{" + many + R"(,"x":"m"})"), HasSubstr("at most 64 names"));
}

TEST(settings_phones, addresses_and_names_are_unique) {
  EXPECT_EQ(
      mistake_in(R"([{"host":"Pixel"},{"host":"b"},{"host":"pixel","port":11434}])"),
      "F: phones[2]: found the address pixel:11434, expected an address of its own; phones[0] has this one");
  EXPECT_EQ(
      mistake_in(R"([{"host":"[::1]"},{"host":"0:0::0:1"}])"),
      "F: phones[1]: found the address [::1]:11434, expected an address of its own; phones[0] has this one");
  EXPECT_EQ(mistake_in(R"([{"host":"a"},{"host":"a","port":11435}])"), "");
  EXPECT_EQ(mistake_in(R"([{"host":"a","name":"n"},{"host":"b","name":"n"}])"),
            "F: phones[1].name: found \"n\" (a string), expected a name of its own; phones[0] has this one");
  EXPECT_THAT(mistake_in(R"([{"host":"a"},{"host":"b","name":"a:11434"}])"),
              HasSubstr("phones[0] has this one"));
  EXPECT_THAT(mistakes(R"([{"host":"a","name":"n"},{"host":"a","name":"n"}])"),
              ElementsAre(HasSubstr("phones[1]: "), HasSubstr("phones[1].name: ")));
}

TEST(settings_phones, a_group) {
  const auto c = good(R"([{"host":"10.0.0.1","name":"big","group":{"status":"http://127.0.0.1:50100/",
      "stand_in":"small","members":[{"name":"a","host":"10.0.0.2"},{"host":"10.0.0.3","port":50053,"id":"pf-a",
      "token_sha256":")" +
                      std::string(64, '0') + R"("}]}}])");
  const auto& group = c.phones.at(0).group;
  EXPECT_EQ(group.members,
            (std::vector<group_member>{{"a", "10.0.0.2", 50052, {}, {}},
                                       {"10.0.0.3:50053", "10.0.0.3", 50053, "pf-a", std::string(64, '0')}}));
  EXPECT_EQ(group.status_host, "127.0.0.1");
  EXPECT_EQ(group.status_port, 50100);
  EXPECT_EQ(group.stand_in, "small");
  EXPECT_EQ(c.phones[0].max_concurrency, 1U);
  EXPECT_EQ(c.phones[0].engine, engine_kind::llama_server);
}

TEST(settings_phones, groups_that_are_none) {
  EXPECT_THAT(in_phone(R"("group":{})"), HasSubstr("phones[0].group.members: found nothing"));
  EXPECT_THAT(in_phone(R"("group":{"members":[]})"), HasSubstr("phones[0].group.members: found []"));
  EXPECT_THAT(in_phone(R"("group":{"members":[{"port":1}]})"), HasSubstr("phones[0].group.members[0].host"));
  EXPECT_THAT(in_phone(R"("group":{"members":[{"host":"a"}],"status":"https://a"})"),
              HasSubstr("phones[0].group.status"));
  EXPECT_THAT(in_phone(R"("engine":"ollama","group":{"members":[{"host":"a"}]})"),
              HasSubstr("phones[0].engine: found \"ollama\""));
}

TEST(settings_phones, a_members_id_is_its_own) {
  EXPECT_THAT(in_phone(R"("group":{"members":[{"host":"a","id":"p f"}]})"),
              HasSubstr("phones[0].group.members[0].id: found"));
  EXPECT_THAT(
      in_phone(R"("group":{"members":[{"host":"a","token_sha256":")" + std::string(64, '0') + "\"}]}"),
      HasSubstr("phones[0].group.members[0].token_sha256: found no id"));
  EXPECT_EQ(in_phone(R"("id":"pf-a","group":{"members":[{"host":"a","id":"pf-a"}]})"),
            "F: phones[0].group.members[0].id: found \"pf-a\" (a string), expected an id of its own");
  EXPECT_EQ(in_phone(R"("group":{"members":[{"host":"a","id":"pf-a"},{"host":"b","id":"pf-a"}]})"),
            "F: phones[0].group.members[1].id: found \"pf-a\" (a string), expected an id of its own");
  EXPECT_EQ(
      mistake_in(R"([{"host":"a","id":"pf-a"},
                           {"host":"b","group":{"members":[{"host":"c","id":"pf-a"}]}}])"),
      "F: phones[1].group.members[0].id: found \"pf-a\" (a string), expected an id of its own; phones[0] has "
      "this one");
}

TEST(settings_phones, a_member_is_in_one_group_or_alone) {
  EXPECT_EQ(
      mistake_in(
          R"([{"host":"a"},{"host":"b","group":{"members":[{"host":"c"},{"host":"A","port":11434}]}}])"),
      "F: phones[1].group.members[1]: found the address a:11434, expected one that is in this group only; "
      "phones[0] has it");
  EXPECT_EQ(
      mistake_in(R"([{"host":"a","group":{"members":[{"host":"c"}]}},
                           {"host":"b","group":{"members":[{"host":"c"}]}}])"),
      "F: phones[1].group.members[0]: found the address c:50052, expected one that is in this group only; "
      "phones[0].group.members[0] has it");
  EXPECT_EQ(
      in_phone(R"("name":"n","group":{"members":[{"host":"b"},{"name":"c","host":"B"}]})"),
      "F: phones[0].group.members[1]: found the address B:50052, expected one of its own; members[0] has it");
  EXPECT_EQ(in_phone(R"("group":{"members":[{"host":"10.0.0.1","port":11434}]})"),
            "F: phones[0].group.members[0]: found the address 10.0.0.1:11434, expected one of its own; the "
            "group's master has it");
}

TEST(settings_phones, unknown_keys_get_the_nearest_known_one) {
  EXPECT_EQ(in_phone(R"("wieght":2)"),
            "F: phones[0].wieght: found an unknown key, expected a known one; did you mean \"weight\"?");
  EXPECT_THAT(in_phone(R"("maxConcurrency":2)"), HasSubstr("did you mean \"max_concurrency\"?"));
  EXPECT_THAT(in_phone(R"("Port":2)"), HasSubstr("did you mean \"port\"?"));
  EXPECT_EQ(in_phone(R"("colour":"red")"),
            "F: phones[0].colour: found an unknown key, expected one of \"aliases\", \"api_key_file\", "
            "\"engine\", \"group\", "
            "\"host\", \"id\", "
            "\"max_concurrency\", \"model\", \"name\", \"port\", \"serial\", \"tls\", \"token_sha256\" or "
            "\"weight\"");
  EXPECT_THAT(in_phone("\"a b\\n\":1"), HasSubstr(R"(F: phones[0]["a b\n"]: found an unknown key)"));
}

}  // namespace
}  // namespace pocketfleet
