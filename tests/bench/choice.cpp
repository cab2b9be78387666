// What a choice costs: a permit taken from the real dispatcher and given back, for each policy and for fleets
// of several sizes. CPU time of the one thread; the phones are spoken for, not spoken to.
//
// "free": every phone could take it. "busy": nine of ten have no permit left, as in a fleet at work.
#include <algorithm>
#include <ctime>
#include <vector>

#include "net.hpp"
#include "pocketfleet/core/dispatcher.hpp"

namespace pocketfleet::bench {
namespace {

constexpr std::string_view usage =
    "usage: bench_choice [--rounds N] [--phones N]...\n"
    "  --rounds N    measurements of each (9)\n"
    "  --phones N    a size of the fleet; may be repeated (10, 100, 1000, 10000)\n"
    "Prints one JSON object: for each policy, size and load, the nanoseconds of each round.\n";

constexpr double enough_ns = 20e6;  // of CPU time, for one measurement
constexpr const char* model = "qwen2.5:1.5b";

double cpu_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

class fleet {
 public:
  fleet(std::string_view policy_name, std::size_t phones, bool busy)
      : dispatcher_(dispatch_settings{}, make_policy(policy_name), 1) {
    std::vector<phone_config> configs;
    for (std::size_t i = 0; i < phones; ++i) {
      phone_config c;
      c.host = "10.0." + std::to_string(i / 250) + "." + std::to_string(i % 250 + 1);
      c.name = c.host + ":11434";
      c.model = model;
      c.weight = static_cast<std::uint32_t>(1 + i % 4);
      c.engine = engine_kind::ollama;
      configs.push_back(std::move(c));
    }
    now_ += seconds{1000};  // nothing that is never has been just now
    dispatcher_.configure(configs, now_);
    for (const auto& target : dispatcher_.targets()) {
      phone_report up;
      up.state = health::up;
      up.engine = engine_kind::ollama;
      up.models.emplace({served_model(model)});
      up.loaded = up.models;
      dispatcher_.report(target->id, up, now_);
    }
    if (busy) {
      for (std::size_t i = 0; i < phones / 10 * 9; ++i) take();
    }
  }

  /// One request's permit, for its life of 1 us.
  bool once() {
    now_ += std::chrono::microseconds{1};
    decision got = dispatcher_.acquire(++ticket_, wanted_, now_);
    auto* permit = std::get_if<grant>(&got);
    if (permit == nullptr) return false;
    dispatcher_.settle(*permit, verdict::success, now_,
                       {20, 100, nanoseconds{1'000'000}, nanoseconds{9'000'000}});
    return true;
  }

 private:
  void take() {
    decision got = dispatcher_.acquire(++ticket_, wanted_, now_);
    if (std::get_if<grant>(&got) == nullptr) die("a phone of the benchmark takes no request");
  }

  dispatcher dispatcher_;
  want wanted_ = [] {
    want w;
    w.model = model;
    return w;
  }();
  ticket ticket_ = 0;
  time_point now_{};
};

double measure(fleet& f) {
  std::size_t times = 1;
  for (;;) {
    const double begun = cpu_ns();
    for (std::size_t i = 0; i < times; ++i) {
      if (!f.once()) die("a phone of the benchmark takes no request");
    }
    const double took = cpu_ns() - begun;
    if (took >= enough_ns) return took / static_cast<double>(times);
    times = took < enough_ns / 20
                ? times * 10
                : static_cast<std::size_t>(static_cast<double>(times) * 1.3 * enough_ns / took) + 1;
  }
}

}  // namespace
}  // namespace pocketfleet::bench

int main(int count, char** values) {
  using namespace pocketfleet;
  using namespace pocketfleet::bench;
  std::size_t rounds = 9;
  std::vector<std::size_t> sizes;
  arguments given(count, values, usage);
  for (std::string_view name = given.next(); !name.empty(); name = given.next()) {
    if (name == "--rounds") {
      rounds = given.at_least<std::size_t>(1);
    } else if (name == "--phones") {
      sizes.push_back(given.at_least<std::size_t>(10));
    } else {
      given.wrong();
    }
  }
  if (sizes.empty()) sizes = {10, 100, 1000, 10'000};
  const char* separator = "{\"choices\":[";
  for (const std::string_view policy_name : policy_names()) {
    for (const std::size_t phones : sizes) {
      for (const bool busy : {false, true}) {
        fleet f(policy_name, phones, busy);
        measure(f);  // warms what is cached
        std::printf("%s{\"policy\":\"%s\",\"phones\":%zu,\"load\":\"%s\",\"ns\":", separator,
                    std::string(policy_name).c_str(), phones, busy ? "busy" : "free");
        for (std::size_t i = 0; i < rounds; ++i) std::printf("%s%.1f", i > 0 ? "," : "[", measure(f));
        std::printf("]}");
        separator = ",";
      }
    }
  }
  std::printf("]}\n");
}
