#include "pocketfleet/app/settings.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "pocketfleet/app/listen_address.hpp"
#include "pocketfleet/app/settings_json.hpp"
#include "pocketfleet/core/policy.hpp"
#include "settings_helpers.hpp"

namespace pocketfleet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

TEST(settings_gateway, every_setting_is_read) {
  const auto g = good_gateway(
      R"("listen":"[::1]:9000","host_names":["fleet.lan","[::1]"],"dashboard":false,"policy":"least_loaded",
      "cache":"never","cache_entries":0,"cache_bytes":5,"cache_entry_bytes":6,"cache_ttl_s":7,
      "queue":0,"queue_wait_s":0.25,"connect_timeout_s":1.5,"first_token_timeout_s":2,"loading_timeout_s":3,
      "token_timeout_s":4,"request_timeout_s":5,"attempts":1,"retry_share":0.5,"retry_floor":0,
      "breaker_failures":2,"breaker_connect_failures":1,"breaker_open_s":2,"breaker_max_open_s":9,
      "breaker_jitter":0,"breaker_successes":4,"slow_start_s":0,
      "probe_interval_s":0.5,"probe_timeout_s":0.3,"probe_jitter":0.1,"probe_fall":1,"probe_rise":5,
      "probe_inventory_every":2,"connections":10,"header_timeout_s":1.25,"body_timeout_s":2.5,
      "idle_timeout_s":3.5,"write_stall_s":4.5,"header_bytes":2048,"header_fields":50,"target_bytes":128,
      "body_bytes":4096,"all_bodies_bytes":8192,"batch_items":3,"answer_bytes":2000,"load_options":"pass",
      "phone_idle_llama_server_s":0,"phone_idle_ollama_s":1,"phone_idle_connections":0,"phone_buffer_bytes":16384,
      "workers":64,"drain_s":0,"log_level":"debug","log_format":"json")");
  EXPECT_EQ(g.listener.address, "::1");
  EXPECT_EQ(g.listener.port, 9000);
  EXPECT_THAT(g.listener.host_names, ElementsAre("fleet.lan", "::1"));
  EXPECT_FALSE(g.dashboard);
  EXPECT_EQ(g.policy, "least_loaded");
  EXPECT_EQ(g.service.caching, cache_mode::never);
  EXPECT_EQ(g.service.cache.entries, 0U);
  EXPECT_EQ(g.service.cache.bytes, 5U);
  EXPECT_EQ(g.service.cache.entry_bytes, 6U);
  EXPECT_EQ(g.service.cache.ttl, seconds(7));
  EXPECT_EQ(g.dispatch.queue_capacity, 0U);
  EXPECT_EQ(g.service.times.queue, milliseconds(250));
  EXPECT_EQ(g.service.times.connect, milliseconds(1500));
  EXPECT_EQ(g.links.connect_time, milliseconds(1500));
  EXPECT_EQ(g.service.times.first_token, seconds(2));
  EXPECT_EQ(g.service.times.first_token_loading, seconds(3));
  EXPECT_EQ(g.service.times.between_tokens, seconds(4));
  EXPECT_EQ(g.service.times.request, seconds(5));
  EXPECT_EQ(g.service.attempts, 1U);
  EXPECT_EQ(g.dispatch.retry_share, 0.5);
  EXPECT_EQ(g.dispatch.retry_floor, 0U);
  EXPECT_EQ(g.dispatch.breaker.failures, 2U);
  EXPECT_EQ(g.dispatch.breaker.connect_failures, 1U);
  EXPECT_EQ(g.dispatch.breaker.open_time, seconds(2));
  EXPECT_EQ(g.dispatch.breaker.max_open_time, seconds(9));
  EXPECT_EQ(g.dispatch.breaker.jitter, 0);
  EXPECT_EQ(g.dispatch.breaker.successes_to_close, 4U);
  EXPECT_EQ(g.dispatch.breaker.slow_start, seconds(0));
  EXPECT_EQ(g.service.probe.interval, milliseconds(500));
  EXPECT_EQ(g.dispatch.probe_interval, seconds(1));
  EXPECT_EQ(g.service.probe.timeout, milliseconds(300));
  EXPECT_EQ(g.service.probe.jitter, 0.1);
  EXPECT_EQ(g.service.probe.fall, 1U);
  EXPECT_EQ(g.service.probe.rise, 5U);
  EXPECT_EQ(g.service.probe.inventory_every, 2U);
  EXPECT_EQ(g.listener.connections, 10U);
  EXPECT_EQ(g.listener.header_time, milliseconds(1250));
  EXPECT_EQ(g.listener.body_time, milliseconds(2500));
  EXPECT_EQ(g.listener.idle_time, milliseconds(3500));
  EXPECT_EQ(g.listener.write_stall, milliseconds(4500));
  EXPECT_EQ(g.listener.header_bytes, 2048U);
  EXPECT_EQ(g.listener.header_fields, 50U);
  EXPECT_EQ(g.listener.target_bytes, 128U);
  EXPECT_EQ(g.listener.body_bytes, 4096U);
  EXPECT_EQ(g.listener.all_bodies_bytes, 8192U);
  EXPECT_EQ(g.service.batch_items, 3U);
  EXPECT_EQ(g.service.answer_bytes, 2000U);
  EXPECT_TRUE(g.service.pass_load_options);
  EXPECT_EQ(g.links.idle_llama_server, seconds(0));
  EXPECT_EQ(g.links.idle_ollama, seconds(1));
  EXPECT_EQ(g.links.idle_per_phone, 0U);
  EXPECT_EQ(g.links.buffer_bytes, 16384U);
  EXPECT_EQ(g.workers, 64U);
  EXPECT_EQ(g.drain, seconds(0));
  EXPECT_EQ(g.log_level, "debug");
  EXPECT_EQ(g.log, log_format::objects);
}

TEST(settings_gateway, times_are_seconds) {
  EXPECT_EQ(in_gateway(R"("queue_wait_s":0)"),
            "F: gateway.queue_wait_s: found 0, expected a number of seconds from 0.01 to 3600");
  EXPECT_EQ(in_gateway(R"("breaker_open_s":0.5)"),
            "F: gateway.breaker_open_s: found 0.5, expected a whole number of seconds from 1 to 3600");
  for (const auto* v : {"\"30s\"", "-1", "1e300", "null", "[]", "3601"}) {
    EXPECT_THAT(in_gateway("\"queue_wait_s\":" + std::string(v)),
                StartsWith("F: gateway.queue_wait_s: found "))
        << v;
  }
}

TEST(settings_gateway, words_shares_and_flags) {
  EXPECT_EQ(in_gateway(R"("policy":"random")"),
            "F: gateway.policy: found \"random\" (a string), expected one of \"weighted_round_robin\", "
            "\"least_loaded\" or \"adaptive\"");
  for (const auto name : policy_names())
    EXPECT_EQ(good_gateway("\"policy\":\"" + std::string(name) + "\"").policy, name);
  EXPECT_THAT(in_gateway(R"("cache":true)"), HasSubstr("found true, expected one of \"everywhere\""));
  EXPECT_THAT(in_gateway(R"("log_level":"verbose")"), HasSubstr("\"trace\", \"debug\", \"info\""));
  EXPECT_THAT(in_gateway(R"("retry_share":1.5)"), HasSubstr("expected a number from 0 to 1"));
  EXPECT_THAT(in_gateway(R"("retry_share":-0.1)"), HasSubstr("expected a number from 0 to 1"));
  EXPECT_THAT(in_gateway(R"("retry_share":"all")"), HasSubstr("expected a number from 0 to 1"));
  EXPECT_THAT(in_gateway(R"("allow_unauthenticated_lan":"yes")"), HasSubstr("expected true or false"));
  EXPECT_THAT(in_gateway(R"("workers":65)"), HasSubstr("from 1 to 64"));
  EXPECT_THAT(in_gateway(R"("host_names":"a")"), HasSubstr("an array of at most 64 host names"));
  EXPECT_THAT(in_gateway(R"("host_names":["ok","http://x",5])"),
              testing::AllOf(HasSubstr("gateway.host_names[1]: found \"http://x\""),
                             HasSubstr("host_names[2]: found 5")));
}

TEST(settings_gateway, origins_are_a_browsers) {
  EXPECT_EQ(in_gateway(R"("origins":["https://app.example","http://192.168.1.7:3000","tauri://localhost"])"),
            "");
  for (const char* wrong : {"*", "app.example", "https://app.example/", "HTTPS://APP.EXAMPLE", "https://",
                            "null", "https://a b", "https://a,https://b"}) {
    EXPECT_THAT(in_gateway(R"("origins":[")" + std::string(wrong) + "\"]"), HasSubstr("gateway.origins[0]"))
        << wrong;
  }
  EXPECT_THAT(in_gateway(R"("origins":"https://a")"), HasSubstr("an array of at most 64 origins"));
}

TEST(settings_gateway, a_lan_address_needs_a_word) {
  const std::string expected =
      "expected a loopback address such as \"127.0.0.1:8000\", or \"api_keys_file\" or "
      "\"allow_unauthenticated_lan\": true beside it";
  for (const auto* address : {"0.0.0.0:80", "[::]:80", "192.168.1.2:8000", "[::ffff:127.0.0.1]:1"}) {
    const auto listen = "\"listen\":\"" + std::string(address) + "\"";
    EXPECT_THAT(in_gateway(listen), HasSubstr(expected)) << address;
    EXPECT_THAT(in_gateway(listen + R"(,"allow_unauthenticated_lan":false)"), HasSubstr(expected));
    EXPECT_EQ(in_gateway(listen + R"(,"allow_unauthenticated_lan":true)"), "");
    EXPECT_EQ(in_gateway(listen + R"(,"api_keys_file":"keys.json")"), "");
  }
  for (const auto* address : {"127.0.0.1:0", "127.9.9.9:8000", "[::1]:8000", "localhost:8000"}) {
    EXPECT_EQ(in_gateway("\"listen\":\"" + std::string(address) + "\""), "") << address;
  }
  EXPECT_THAT(in_gateway(R"("listen":8000)"), HasSubstr("found 8000, expected an IP address and a port"));
}

TEST(settings_gateway, settings_that_depend_on_each_other) {
  EXPECT_EQ(in_gateway(R"("breaker_open_s":60,"breaker_max_open_s":59)"),
            "F: gateway.breaker_max_open_s: found 59, expected at least breaker_open_s, which is 60");
  EXPECT_THAT(in_gateway(R"("breaker_max_open_s":29)"), HasSubstr("which is 30"));
  EXPECT_EQ(good_gateway(R"("breaker_open_s":600)").dispatch.breaker.max_open_time, seconds(600));
  EXPECT_EQ(in_gateway(R"("body_bytes":8192,"all_bodies_bytes":4096)"),
            "F: gateway.all_bodies_bytes: found 4096, expected at least body_bytes, which is 8192");
  EXPECT_EQ(good_gateway(R"("all_bodies_bytes":4096)").listener.body_bytes, 4096U);
}

TEST(listen_address, forms) {
  const auto v4 = parse_listen_address("127.0.0.1:8000");
  ASSERT_TRUE(v4);
  EXPECT_EQ(v4->address, "127.0.0.1");
  EXPECT_EQ(v4->port, 8000);
  const auto v6 = parse_listen_address("[::1]:0");
  ASSERT_TRUE(v6);
  EXPECT_EQ(v6->address, "::1");
  EXPECT_EQ(to_string(*v6), "[::1]:0");
  EXPECT_EQ(to_string(*parse_listen_address("localhost:80")), "127.0.0.1:80");
  for (const auto* text : {"",
                           ":",
                           "8000",
                           ":8000",
                           "127.0.0.1",
                           "127.0.0.1:",
                           "127.0.0.1:65536",
                           "127.0.0.1:-1",
                           "127.0.0.1:+1",
                           "127.0.0.1:8000 ",
                           " 127.0.0.1:8000",
                           "127.0.0.1:0x50",
                           "::1:8000",
                           "::1",
                           "[::1]",
                           "[::1]8000",
                           "[127.0.0.1]:80",
                           "fleet.lan:80",
                           "*:80",
                           "http://127.0.0.1:80",
                           "127.0.0.1:000080",
                           "127.0.0.01:80",
                           "[]:80",
                           "[:80"}) {
    EXPECT_FALSE(parse_listen_address(text)) << text;
  }
}

/// The schema that editors use says the same defaults as the program.
TEST(settings_schema, has_every_setting_with_its_default) {
  const auto folder = std::filesystem::path(POCKETFLEET_SOURCE_DIR) / "config";
  std::ifstream in(folder / "phones.schema.json");
  std::stringstream text;
  text << in.rdbuf();
  const auto schema = parse_json(text.str());
  ASSERT_TRUE(schema.has_value()) << schema.error().message;
  const auto& described = schema->at("definitions").at("gateway").at("properties");
  json defaults = json::object();
  for (const auto& [key, about] : described.items()) defaults[key] = about.at("default");
  EXPECT_EQ(defaults, settings_to_json(gateway_settings{}));

  // And what it says is taken back as it is.
  const auto again = good(json{{"gateway", defaults}, {"phones", {{{"host", "a"}}}}}.dump());
  EXPECT_EQ(settings_to_json(again.gateway), defaults);
}

}  // namespace
}  // namespace pocketfleet
