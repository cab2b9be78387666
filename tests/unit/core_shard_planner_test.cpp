#include "pocketfleet/core/shard_planner.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>

namespace pocketfleet {
namespace {

constexpr double never = std::numeric_limits<double>::infinity();
constexpr std::uint64_t mb = 1'000'000;

// ---- every split there is, by trying

void compositions(std::uint64_t left, std::size_t parts, std::vector<std::uint64_t>& so_far,
                  const std::function<void()>& each) {
  if (parts == 1) {
    if (left < 2) return;
    so_far.push_back(left);
    each();
    so_far.pop_back();
    return;
  }
  for (std::uint64_t n = 2; n + 2 * (parts - 1) <= left; ++n) {
    so_far.push_back(n);
    compositions(left - n, parts - 1, so_far, each);
    so_far.pop_back();
  }
}

struct all_splits {
  const model_shape& model;
  const std::vector<plan_device>& devices;
  const plan_options& options;
  double best = never;
  std::vector<double> with{};

  void look_at(const shard_layout& layout) {
    const auto plan = evaluate(model, devices, options, layout);
    if (!plan.fits()) return;
    best = std::min(best, plan.token_s);
    for (const auto& m : plan.members) with[m.device] = std::min(with[m.device], plan.token_s);
  }

  void order(shard_layout layout, std::vector<bool> used) {
    const auto& master = devices[layout.master];
    if (!layout.workers.empty()) {
      for (const bool on_master : {false, true}) {
        if (on_master && (model.tied || !(master.bytes_s > 0))) continue;
        layout.output_on_master = on_master;
        const auto most = master.bytes_s > 0 ? model.layers.size() : 0;
        for (std::uint64_t own = 0; own <= most; ++own) {
          layout.master_layers = own;
          std::vector<std::uint64_t> counts;
          compositions(model.layers.size() - own, layout.workers.size(), counts, [&] {
            for (std::size_t i = 0; i < counts.size(); ++i) layout.workers[i].layers = counts[i];
            look_at(layout);
          });
        }
      }
    }
    for (std::size_t w = 0; w < devices.size(); ++w) {
      if (used[w] || !can_serve(devices[w], master, options)) continue;
      auto longer = layout;
      longer.workers.push_back({w, 0});
      auto taken = used;
      taken[w] = true;
      order(longer, taken);
    }
  }

  void look() {
    with.assign(devices.size(), never);
    for (std::size_t m = 0; m < devices.size(); ++m) {
      if (!devices[m].may_master) continue;
      std::vector<bool> used(devices.size(), false);
      used[m] = true;
      order({m, 0, false, {}}, used);
    }
  }
};

// ---- random fleets and models

struct random_case {
  std::mt19937 dice;
  model_shape model{};
  std::vector<plan_device> devices{};
  plan_options options{};

  std::uint64_t below(std::uint64_t n) { return dice() % n; }

  random_case(unsigned seed, std::size_t most_devices, std::size_t most_layers) : dice(seed) {
    model.layers.resize(3 + below(most_layers - 2));
    const bool even = below(2) == 0;
    for (auto& l : model.layers) {
      l.weights.bytes = even ? 90 * mb : (40 + below(100)) * mb;
      l.read_bytes = below(4) == 0 ? l.weights.bytes / 2 : l.weights.bytes;
      l.kv_bytes = 1000 + below(4000);
    }
    model.n_embd = 512 << below(3);
    model.n_head = 8;
    model.kv_width = 128 << below(3);
    model.n_ff = 4 * model.n_embd;
    model.n_vocab = below(2) == 0 ? 2000 : 152'000;
    model.tied = below(4) == 0;
    model.output.bytes = 1 * mb + below(150 * mb);
    model.output.fixed_bytes = 4096;
    model.embedding.bytes = model.tied ? model.output.bytes - 4096 : below(150 * mb);
    options.context = 512 << below(3);
    options.batch = 128;
    options.share = 0.5 + 0.1 * static_cast<double>(below(5));
    options.tunnel = below(4) == 0;
    const std::size_t count = 2 + below(most_devices - 1);
    for (std::size_t i = 0; i < count; ++i) devices.push_back(device(i));
  }

  plan_device device(std::size_t i) {
    plan_device d;
    d.name = "phone-" + std::to_string(i);
    d.ram_bytes = (300 + below(1500)) * mb;
    if (below(3) == 0) d.free_bytes = (200 + below(800)) * mb;
    d.bytes_s = below(8) == 0 ? 0 : 1e9 * static_cast<double>(1 + below(25));
    d.link = {0.0005 * static_cast<double>(1 + below(60)), 1e6 * static_cast<double>(1 + below(40)),
              1e6 * static_cast<double>(1 + below(40))};
    d.accepts = below(6) != 0;
    d.may_master = below(5) != 0;
    d.may_work = below(8) != 0;
    return d;
  }
};

void check_plan(const random_case& c, const shard_plan& plan) {
  EXPECT_TRUE(plan.fits());
  std::uint64_t layers = 0;
  std::vector<bool> seen(c.devices.size(), false);
  for (const auto& m : plan.members) {
    EXPECT_EQ(m.first_layer, layers);
    EXPECT_FALSE(seen[m.device]);
    seen[m.device] = true;
    layers += m.layers;
  }
  EXPECT_EQ(layers, c.model.layers.size());
  const auto units = replay_split(c.model.layers.size(), plan.tensor_split(), plan.ngl());
  for (std::size_t i = 0; i < plan.members.size(); ++i) {
    const auto expected = plan.members[i].layers + (i + 1 == plan.members.size() ? 1 : 0);
    EXPECT_EQ(std::count(units.begin(), units.end(), static_cast<int>(i) - 1),
              static_cast<std::ptrdiff_t>(expected));
  }
  EXPECT_TRUE(std::is_sorted(units.begin(), units.end()));
}

void compare(unsigned seed, std::size_t most_devices, std::size_t most_layers, unsigned& solved) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  const random_case c(seed, most_devices, most_layers);
  const auto found = best_split(c.model, c.devices, c.options);
  all_splits all{c.model, c.devices, c.options};
  all.look();
  ASSERT_EQ(found.best.has_value(), all.best < never);
  for (std::size_t i = 0; i < c.devices.size(); ++i) {
    if (all.with[i] == never) {
      EXPECT_EQ(found.with[i], never) << i;
    } else {
      EXPECT_NEAR(found.with[i], all.with[i], 1e-9 * all.with[i]) << i;
    }
  }
  if (!found.best) return;
  ++solved;
  EXPECT_NEAR(found.best->token_s, all.best, 1e-9 * all.best);
  check_plan(c, *found.best);
}

TEST(shard_planner, is_as_good_as_trying_everything) {
  unsigned solved = 0;
  for (unsigned seed = 1; seed <= 3000; ++seed) compare(seed, 4, 8, solved);
  EXPECT_GT(solved, 800U);
  EXPECT_LT(solved, 2900U) << "some cannot be solved, and that too has to be found";
}

TEST(shard_planner, is_as_good_as_trying_everything_with_more_phones_and_layers) {
  unsigned solved = 0;
  for (unsigned seed = 100'001; seed <= 100'500; ++seed) compare(seed, 5, 12, solved);
  EXPECT_GT(solved, 120U);
}

// ---- llama.cpp's assignment

TEST(replay_split, as_the_real_llama_server_does_it) {
  // 12 layers, --rpc A,B -ts 3,4 -ngl 7: 0 to 5 on the master, 6 to 8 on A, 9 to 11 and the output on B
  const std::vector<int> expected{-1, -1, -1, -1, -1, -1, 0, 0, 0, 1, 1, 1, 1};
  EXPECT_EQ(replay_split(12, {3, 4}, 7), expected);
  EXPECT_EQ(replay_split(12, {19, 81}, 0), std::vector<int>(13, -1)) << "-ngl 0 switches the workers off";
  EXPECT_EQ(replay_split(12, {19}, 99), std::vector<int>(13, 0)) << "one worker gets all, whatever the share";
}

TEST(replay_split, whole_numbers_of_layers_are_met_exactly) {
  std::mt19937 dice(7);
  for (int i = 0; i < 20'000; ++i) {
    std::vector<std::uint64_t> counts(1 + dice() % 8);
    std::uint64_t sum = 0;
    for (auto& n : counts) sum += n = 1 + dice() % 16;
    const std::uint64_t layers = sum - 1 + dice() % 20;
    const auto units = replay_split(layers, counts, sum);
    for (std::size_t w = 0; w < counts.size(); ++w) {
      ASSERT_EQ(std::count(units.begin(), units.end(), static_cast<int>(w)),
                static_cast<std::ptrdiff_t>(counts[w]));
    }
  }
}

// ---- the model's formulas, by hand

model_shape
medium() {  // tests/testbed/make_tiny_gguf.py --layers 12 --dim 768 --ffn 2048 --heads 12 --kv-heads 4
  model_shape m = shape_of({.name = "medium",
                            .layers = 12,
                            .n_embd = 768,
                            .n_ff = 2048,
                            .n_head = 12,
                            .n_head_kv = 4,
                            .n_vocab = 2345,
                            .context = 8192},
                           *find_quantization("Q8_0"));
  return m;
}

double mebibytes(std::uint64_t bytes) {
  return static_cast<double>(bytes) / (1 << 20);
}

TEST(shard_model, memory_is_what_the_real_llama_server_says) {
  const auto model = medium();
  const std::vector<plan_device> two{{.name = "a", .bytes_s = 1e9}, {.name = "b", .bytes_s = 1e9}};
  const std::vector<plan_device> three{two[0], two[1], two[1]};
  // -ts 3,4 -ngl 7 -c 4096 -fa off: 19.14 and 20.97 MiB of weights, 12 and 12 of cache, 111.01 and 111.01
  const auto a = evaluate(model, three, {.context = 4096}, {0, 6, false, {{1, 3}, {2, 3}}});
  EXPECT_NEAR(mebibytes(a.members[1].weights), 19.14, 0.05);
  EXPECT_NEAR(mebibytes(a.members[2].weights), 20.97, 0.05);
  EXPECT_NEAR(mebibytes(a.members[0].weights), 40.11, 0.05);
  EXPECT_EQ(a.members[0].kv, 24U << 20U);
  EXPECT_EQ(a.members[2].kv, 12U << 20U);
  EXPECT_NEAR(mebibytes(a.members[1].compute), 111.01, 1);
  EXPECT_NEAR(mebibytes(a.members[2].compute), 111.01, 1);
  EXPECT_NEAR(mebibytes(a.members[0].compute), 114.01, 1);
  // -ts 8,5 -ngl 13 -c 8192 -ub 256: pipeline parallelism, which keeps four copies of the mask
  const auto b = evaluate(model, three, {.context = 8192, .batch = 256}, {0, 0, false, {{1, 8}, {2, 4}}});
  EXPECT_NEAR(mebibytes(b.members[1].compute), 142.77, 1);
  EXPECT_NEAR(mebibytes(b.members[2].compute), 136.01, 1);
  EXPECT_NEAR(mebibytes(b.members[0].compute), 41.53, 1);
  // the same with the output on the master: no pipeline
  const auto d = evaluate(model, three, {.context = 8192}, {0, 0, true, {{1, 8}, {2, 4}}});
  EXPECT_NEAR(mebibytes(d.members[1].compute), 216.51, 1);
  EXPECT_NEAR(mebibytes(d.members[2].compute), 215.01, 1);
  EXPECT_NEAR(mebibytes(d.members[2].weights), 25.53, 0.05);
  EXPECT_NEAR(mebibytes(d.members[0].compute), 23.01, 1);
  // alone
  const auto f = evaluate(model, two, {.context = 4096}, {0, 12, false, {}});
  EXPECT_NEAR(mebibytes(f.members[0].compute), 114.01, 1);
}

TEST(shard_model, memory_of_another_shape_is_what_the_real_llama_server_says) {
  const auto model = shape_of({.layers = 6,
                               .n_embd = 256,
                               .n_ff = 1024,
                               .n_head = 8,
                               .n_head_kv = 2,
                               .n_vocab = 80'337,
                               .context = 8192},
                              *find_quantization("Q8_0"));
  const plan_device any{.name = "a", .bytes_s = 1e9};
  const std::vector<plan_device> three{any, any, any};
  const auto check = [&](const plan_options& options, const shard_layout& layout,
                         const std::vector<double>& expected) {
    const auto plan = evaluate(model, three, options, layout);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_NEAR(mebibytes(plan.members[i].compute), expected[i], 0.6) << i;
    }
  };
  check({.context = 1024}, {0, 1, false, {{1, 3}, {2, 2}}}, {21.26, 20.26, 20.26});
  check({.context = 1024}, {0, 0, false, {{1, 3}, {2, 3}}}, {14.05, 33.54, 29.02});
  check({.context = 1024}, {0, 0, true, {{1, 3}, {2, 3}}}, {4.26, 20.76, 20.26});
  check({.context = 1024, .batch = 128}, {0, 0, false, {{1, 6}}}, {1.07, 5.19});
  check({.context = 4096, .batch = 128}, {0, 0, false, {{1, 3}, {2, 3}}}, {9.51, 26.38, 25.26});
  check({.context = 1024}, {0, 6, false, {}}, {21.26});
}

TEST(shard_model, a_token_takes_reading_and_a_round_trip_for_each_worker) {
  auto model = medium();
  model.n_vocab = 151'936;
  std::vector<plan_device> devices(3);
  for (auto& d : devices) d.bytes_s = 1e9;
  devices[1].link = {0.004, 50e6 / 8, 25e6 / 8};
  devices[2].link = {0.006, 50e6 / 8, 25e6 / 8};
  const auto plan = evaluate(model, devices, {.context = 2048}, {0, 0, false, {{1, 6}, {2, 6}}});
  const auto& last = plan.members[2];
  EXPECT_DOUBLE_EQ(last.round_trip_s, 0.006);
  EXPECT_EQ(last.down_bytes, 4U * 151'936) << "all logits come back";
  EXPECT_EQ(last.up_bytes, 4U * 768 + 4U * 2048 + 2400 + 6 * 400);
  EXPECT_EQ(plan.members[1].up_bytes, 3 * 4U * 768 + 4U * 2048 + 2400 + 6 * 400);
  EXPECT_EQ(plan.members[1].down_bytes, 4U * 768);
  EXPECT_NEAR(last.transfer_s, 4.0 * 151'936 / (50e6 / 8) + last.up_bytes / (25e6 / 8), 1e-12);
  double compute = 0;
  double sum = 0;
  for (const auto& m : plan.members) {
    compute += m.compute_s;
    sum += m.token_s();
  }
  EXPECT_NEAR(compute, static_cast<double>(model.read_bytes()) / 1e9, 1e-9);
  EXPECT_DOUBLE_EQ(plan.token_s, sum);
  const auto there = evaluate(model, devices, {.context = 2048}, {0, 0, true, {{1, 6}, {2, 6}}});
  EXPECT_EQ(there.members[2].down_bytes, 4U * 768) << "with the output on the master only activations do";
}

TEST(quantization, files_are_as_large_as_real_ones) {
  const model_parameters llama2{.layers = 32, .n_embd = 4096, .n_ff = 11008, .n_head = 32, .n_vocab = 32000};
  const auto gigabytes = [&](const char* name) {
    return static_cast<double>(shape_of(llama2, *find_quantization(name)).file_bytes()) / 1e9;
  };
  EXPECT_NEAR(gigabytes("Q4_K_M"), 4.08, 0.08);
  EXPECT_NEAR(gigabytes("Q8_0"), 7.16, 0.1);
  EXPECT_NEAR(gigabytes("Q6_K"), 5.53, 0.1);
  EXPECT_NEAR(gigabytes("Q5_K_M"), 4.78, 0.1);
  EXPECT_NEAR(gigabytes("Q3_K_M"), 3.30, 0.13);
}

TEST(quantization, blocks_are_as_ggml_has_them) {
  EXPECT_DOUBLE_EQ(find_tensor_type("Q8_0")->bits_per_weight(), 8.5);
  EXPECT_DOUBLE_EQ(find_tensor_type("Q4_K")->bits_per_weight(), 4.5);
  EXPECT_DOUBLE_EQ(find_tensor_type("Q6_K")->bits_per_weight(), 6.5625);
  EXPECT_EQ(find_tensor_type(4U), nullptr) << "dropped";
}

}  // namespace
}  // namespace pocketfleet
