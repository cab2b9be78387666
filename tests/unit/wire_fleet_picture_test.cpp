#include "pocketfleet/wire/fleet_picture.hpp"

#include <gtest/gtest.h>

namespace pocketfleet {
namespace {

fleet_picture picture(std::vector<json> phones, json gateway = json::object()) {
  return {"2026-11-20T13:00:00Z", std::move(gateway), std::move(phones)};
}

/// The data of one event; checks that it is well-formed.
json data_of(const std::string& text, std::string_view name) {
  const std::string head = "event: " + std::string(name) + "\ndata: ";
  EXPECT_TRUE(text.starts_with(head)) << text;
  EXPECT_TRUE(text.ends_with("\n\n")) << text;
  const std::string data = text.substr(head.size(), text.size() - head.size() - 2);
  EXPECT_EQ(data.find('\n'), std::string::npos) << "a line end would begin another field";
  return json::parse(data);
}

TEST(fleet_picture, a_whole_one_has_everything_and_the_histories_that_there_are) {
  const auto now = picture({{{"name", "b"}, {"inflight", 1}}, {{"name", "a"}}}, {{"waiting", 0}});
  const json all = data_of(render_fleet(now, {{"b", {1, 2}}, {"gone", {3}}}), "fleet");
  EXPECT_EQ(all["at"], "2026-11-20T13:00:00Z");
  EXPECT_EQ(all["gateway"], json({{"waiting", 0}}));
  EXPECT_EQ(all["phones"], json::parse(R"([{"name":"b","inflight":1,"tokens":[1,2]},{"name":"a"}])"));
}

TEST(fleet_picture, a_change_has_only_what_differs) {
  const auto before =
      picture({{{"name", "a"}, {"inflight", 0}, {"healthy", true}}, {{"name", "b"}, {"inflight", 0}}},
              {{"waiting", 0}, {"requests", 7}});
  const auto now =
      picture({{{"name", "a"}, {"inflight", 1}, {"healthy", true}}, {{"name", "b"}, {"inflight", 0}}},
              {{"waiting", 0}, {"requests", 8}});
  const json change = data_of(render_change(before, now), "change");
  EXPECT_EQ(change, json::parse(R"({"at":"2026-11-20T13:00:00Z","gateway":{"requests":8},
                                    "phones":[{"name":"a","inflight":1}]})"));
}

TEST(fleet_picture, what_becomes_unknown_is_said_as_null) {
  const auto before = picture({{{"name", "a"}, {"battery", 80}}});
  const auto now = picture({{{"name", "a"}, {"battery", nullptr}}});
  EXPECT_EQ(data_of(render_change(before, now), "change")["phones"],
            json::parse(R"([{"name":"a","battery":null}])"));
}

TEST(fleet_picture, a_new_phone_comes_whole_and_one_that_is_gone_by_name) {
  const auto before = picture({{{"name", "old"}, {"inflight", 0}}, {{"name", "same"}}});
  const auto now = picture({{{"name", "same"}}, {{"name", "new"}, {"inflight", 0}}});
  const json change = data_of(render_change(before, now), "change");
  EXPECT_EQ(change["phones"], json::parse(R"([{"name":"new","inflight":0}])"));
  EXPECT_EQ(change["gone"], json::parse(R"(["old"])"));
  EXPECT_FALSE(change.contains("gateway"));
}

TEST(fleet_picture, nothing_new_is_a_comment) {
  const auto same = picture({{{"name", "a"}}}, {{"waiting", 0}});
  const std::string text = render_change(same, same);
  EXPECT_TRUE(text.starts_with(":")) << text;
  EXPECT_TRUE(text.ends_with("\n\n"));
}

TEST(fleet_picture, a_name_with_line_ends_stays_one_line) {
  const auto now = picture({{{"name", "a\nevent: fleet\r\n"}}});
  EXPECT_EQ(data_of(render_fleet(now, {}), "fleet")["phones"][0]["name"], "a\nevent: fleet\r\n");
}

}  // namespace
}  // namespace pocketfleet
