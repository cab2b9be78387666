#include <gtest/gtest.h>

#include "pocketfleet/core/shard_planner.hpp"

namespace pocketfleet {
namespace {

constexpr std::uint64_t mb = 1'000'000;

// ---- what the guides do

plan_device phone(const char* name, double ram_gb, double free_gb, double gb_s) {
  plan_device d;
  d.name = name;
  d.ram_bytes = static_cast<std::uint64_t>(ram_gb * 1e9);
  d.free_bytes = static_cast<std::uint64_t>(free_gb * 1e9);
  d.bytes_s = gb_s * 1e9;
  d.link = {0.005, 50e6 / 8, 50e6 / 8};
  return d;
}

model_shape seven_billion(const char* quantization) {  // Qwen2.5-7B
  return shape_of({.name = "7b",
                   .layers = 28,
                   .n_embd = 3584,
                   .n_ff = 18944,
                   .n_head = 28,
                   .n_head_kv = 4,
                   .n_vocab = 152'064,
                   .context = 32768},
                  *find_quantization(quantization));
}

const std::vector<std::uint64_t> batches{512, 256, 128, 64};

TEST(plan_fleet, half_a_billion_needs_no_second_phone) {
  const auto model = shape_of({.name = "0.5b",
                               .layers = 24,
                               .n_embd = 896,
                               .n_ff = 4864,
                               .n_head = 14,
                               .n_head_kv = 2,
                               .n_vocab = 151'936,
                               .context = 32768,
                               .tied = true},
                              *find_quantization("Q4_K_M"));
  const std::vector<plan_device> two{phone("a", 8, 3.5, 20), phone("b", 6, 2.5, 9)};
  const auto plan = plan_fleet(model, two, {}, batches);
  ASSERT_TRUE(plan.best);
  EXPECT_TRUE(plan.best->layout.workers.empty()) << "one phone does it alone";
  EXPECT_EQ(plan.best->layout.master, 0U) << "the faster one";
  EXPECT_EQ(plan.why[1], left_out::not_needed);
  // And a split would be slower than either.
  const auto split = best_split(model, two, {});
  ASSERT_TRUE(split.best);
  EXPECT_GT(split.best->token_s, plan.best->token_s);
  EXPECT_EQ(replay_split(24, {81}, 99), std::vector<int>(25, 0))
      << "a share of 19 % for the master: llama.cpp knows no share of the master, all layers are the "
         "worker's";
}

TEST(plan_fleet, eight_six_and_six_gigabytes_run_a_7b) {
  std::vector<plan_device> three{phone("a", 8, 5.8, 20), phone("b", 6, 3.6, 9), phone("c", 6, 3.4, 9)};
  const auto one = plan_fleet(seven_billion("Q4_K_M"), three, {}, batches);
  ASSERT_TRUE(one.best);
  EXPECT_TRUE(one.best->layout.workers.empty()) << "70 % of 8 GB hold it, when so much is free";

  three[0].free_bytes = 4'000 * mb;
  const auto split = plan_fleet(seven_billion("Q4_K_M"), three, {}, batches);
  ASSERT_TRUE(split.best);
  EXPECT_FALSE(split.best->layout.workers.empty());
  EXPECT_TRUE(split.best->fits());
  EXPECT_FALSE(split.offers.empty());
  ASSERT_TRUE(split.offers.back().alone) << "and coarser it would fit one";
  EXPECT_EQ(*split.offers.back().alone, 0U);

  const auto fine = plan_fleet(seven_billion("Q8_0"), three, {}, batches);
  ASSERT_TRUE(fine.best);
  EXPECT_EQ(fine.best->layout.workers.size(), 2U) << "Q8_0 needs all three";

  three.pop_back();
  const auto none = plan_fleet(seven_billion("Q8_0"), three, {}, batches);
  EXPECT_FALSE(none.best);
  EXPECT_GT(none.needed_bytes, none.available_bytes) << "which memory is missing";
  ASSERT_FALSE(none.offers.empty());
  EXPECT_EQ(none.offers.front().name, "Q6_K");
}

TEST(plan_fleet, fewer_phones_are_an_answer) {
  const std::vector<plan_device> devices{phone("a", 8, 3.0, 20), phone("b", 8, 3.6, 20),
                                         phone("weak", 4, 1.2, 2)};
  const auto plan = plan_fleet(seven_billion("Q4_K_M"), devices, {}, batches);
  ASSERT_TRUE(plan.best);
  EXPECT_EQ(plan.best->members.size(), 2U);
  EXPECT_EQ(plan.why[2], left_out::slower);
  EXPECT_GT(plan.search.with[2], plan.best->token_s) << "and by how much";
}

TEST(plan_fleet, who_cannot_be_connected_to_is_master_or_out) {
  std::vector<plan_device> devices{phone("a", 8, 3.6, 20), phone("b", 8, 3.0, 20)};
  devices[0].accepts = false;
  const auto plan = plan_fleet(seven_billion("Q4_K_M"), devices, {}, batches);
  ASSERT_TRUE(plan.best);
  EXPECT_EQ(plan.best->layout.master, 0U);
  devices[1].accepts = false;
  EXPECT_FALSE(plan_fleet(seven_billion("Q4_K_M"), devices, {}, batches).best);
  devices[0].accepts = true;
  EXPECT_TRUE(plan_fleet(seven_billion("Q4_K_M"), devices, {.tunnel = true}, batches).best)
      << "through a tunnel to the one that can";
}

TEST(plan_fleet, smaller_batches_make_room) {
  std::vector<plan_device> one{phone("a", 8, 5.05, 20)};
  const auto plan = plan_fleet(seven_billion("Q4_K_M"), one, {}, batches);
  ASSERT_TRUE(plan.best);
  EXPECT_LT(plan.options.batch, 512U);
  EXPECT_FALSE(plan_fleet(seven_billion("Q4_K_M"), one, {}, {512}).best);
}

}  // namespace
}  // namespace pocketfleet
