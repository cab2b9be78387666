#include "pocketfleet/wire/heartbeat.hpp"

#include <gtest/gtest.h>

namespace pocketfleet {
namespace {

TEST(heartbeat, reads_all_that_a_phone_says) {
  const auto h = parse_heartbeat(
      R"({"id":"pf-1","boot_id":"x","seq":7,"name":"Pixel 8","interval_s":20,"uptime_s":5.5,)"
      R"("engine":{"kind":"llama-server","version":null,"port":8080,"up":true,"models":["m"]},"tunnel_port":20001,)"
      R"("battery":{"temperature_c":33.2,"level":81,"charging":false,"current_ua":-120000},)"
      R"("memory":{"total_kb":8000000,"available_kb":1},"wifi":{"rssi_dbm":-61,"link_mbps":433}})");
  ASSERT_TRUE(h) << h.error().message;
  EXPECT_EQ(h->id, "pf-1");
  EXPECT_EQ(h->name, "Pixel-8");
  EXPECT_EQ(h->interval, seconds{20});
  EXPECT_EQ(h->engine, engine_kind::llama_server);
  EXPECT_EQ(h->port, 8080);
  EXPECT_TRUE(h->engine_up);
  EXPECT_EQ(h->tunnel_port, 20001);
  EXPECT_EQ(h->reads.temperature_c, 33.2);
  EXPECT_EQ(h->reads.charging, false);
  EXPECT_EQ(h->reads.current_ua, -120000);
  EXPECT_EQ(h->reads.memory_available_kb, 1U);
  EXPECT_EQ(h->reads.wifi_rssi_dbm, -61);
}

TEST(heartbeat, null_and_absent_are_unknown) {
  for (const auto* text :
       {R"({"id":"a"})", R"({"id":"a","name":null,"battery":null,"engine":{"port":null}})"}) {
    const auto h = parse_heartbeat(text);
    ASSERT_TRUE(h) << text;
    EXPECT_EQ(h->port, 0);
    EXPECT_FALSE(h->tunnel_port);
    EXPECT_FALSE(h->reads.temperature_c);
    EXPECT_FALSE(h->reads.charging);
    EXPECT_EQ(h->interval, seconds{10});
  }
}

TEST(heartbeat, the_first_mistake_is_told_with_its_path) {
  const auto why = [](std::string_view text) {
    const auto h = parse_heartbeat(text);
    return h ? std::string{} : h.error().message;
  };
  EXPECT_EQ(why(R"({})"), "id: expected 1 to 64 letters, digits, '.', '_' or '-'");
  EXPECT_EQ(why(R"({"id":"a","battery":{"temperature_c":"hot"}})"),
            "battery.temperature_c: expected a number from -60 to 150, or null");
  EXPECT_EQ(why(R"({"id":"a","engine":7})"), "engine: expected an object or null");
}

TEST(heartbeat, names_are_made_fit_for_a_label) {
  const auto h = parse_heartbeat("{\"id\":\"a\",\"name\":\"my \\\"phone\\\"\\n\xc3\xa4\"}");
  ASSERT_TRUE(h);
  EXPECT_EQ(h->name, "my--phone----");
}

}  // namespace
}  // namespace pocketfleet
