#include "pocketfleet/service/embeddings_refusals.hpp"

#include <gtest/gtest.h>

namespace pocketfleet {
namespace {

std::shared_ptr<const phone_target> phone(std::uint32_t id, std::vector<served_model> models) {
  auto p = std::make_shared<phone_target>();
  p->id = phone_id{id};
  p->models = std::move(models);
  return p;
}

const time_point start{};

TEST(embeddings_refusals, are_known_for_a_minute_by_phone_and_model) {
  embeddings_refusals all;
  const std::vector fleet{phone(1, {"m", "n"}), phone(2, {"m"})};
  all.remember(*fleet[0], "m", start);
  EXPECT_EQ(all.among(fleet, "m", start + seconds{59}), std::vector{phone_id{1}});
  EXPECT_TRUE(all.among(fleet, "n", start).empty());
  EXPECT_TRUE(all.among(fleet, "m", start + seconds{60}).empty());
}

TEST(embeddings_refusals, end_when_the_models_change) {
  embeddings_refusals all;
  all.remember(*phone(1, {"m"}), "m", start);
  const std::vector changed{phone(1, {{"m", "another file"}})};
  EXPECT_TRUE(all.among(changed, "m", start).empty());
}

TEST(embeddings_refusals, end_when_it_has_made_some) {
  embeddings_refusals all;
  const std::vector fleet{phone(1, {"m"})};
  all.remember(*fleet[0], "m", start);
  all.forget(phone_id{1}, "m");
  EXPECT_TRUE(all.among(fleet, "m", start).empty());
}

TEST(embeddings_refusals, of_one_phone_are_kept_once) {
  embeddings_refusals all;
  const std::vector fleet{phone(1, {"m"})};
  all.remember(*fleet[0], "m", start);
  all.remember(*fleet[0], "m", start + seconds{30});
  EXPECT_EQ(all.among(fleet, "m", start + seconds{80}), std::vector{phone_id{1}});
}

}  // namespace
}  // namespace pocketfleet
