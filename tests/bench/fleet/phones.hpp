// Phones as measured by others: how fast, how hot, what they keep in their prompt cache, how they fail.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace pocketfleet::fleet {

using random_source = std::mt19937_64;

// Drawn by hand: the standard's distributions differ from library to library, its engines do not.
double uniform(random_source& from, double low, double high);
double normal(random_source& from);
double exponential(random_source& from, double mean);
double lognormal(random_source& from, double median, double sigma);
std::size_t below(random_source& from, std::size_t n);

/// How a phone warms up under work and what that costs. Temperatures of the skin in C, times in seconds.
struct heat_curve {
  double plateau = 1;   ///< share of its speed that is left when it is hot; 1: it never gets slower
  double ambient = 25;  ///< where it cools to
  double full = 40;     ///< where it would settle under work
  double heating = 240;
  double cooling = 450;
  double lag = 90;  ///< of the battery's sensor behind the skin
};

/// A phone's temperature, and the share of its speed that follows: down a step at 31, 33, 35 and 37 C, and up
/// again when it is 1.5 C below that step.
class skin {
 public:
  static constexpr std::size_t steps = 4;

  explicit skin(const heat_curve& curve) : curve_(curve), now_(curve.ambient), battery_(curve.ambient) {}

  void pass(double seconds, bool working);
  double speed() const { return speed_at(level_); }  ///< 1 when cool
  double until_step(bool working) const;             ///< seconds until the speed changes; infinite: never
  void step(bool working);                           ///< ... and now it does
  double temperature() const { return now_; }
  double battery() const { return battery_; }

  /// Working without a pause from now on: how many seconds for that many cool seconds' worth.
  double time_for(double work) const;

  /// No schedule, with rests or without, gets more than that done within t seconds from now: the least of
  /// these lines, done + speed * t.
  struct line {
    double done = 0;
    double speed = 1;
  };
  std::vector<line> limits() const;

 private:
  double speed_at(std::size_t level) const {
    return 1 - (1 - curve_.plateau) * static_cast<double>(level) / steps;
  }
  bool resting_pays(std::size_t held) const;

  heat_curve curve_;
  double now_;
  double battery_;
  std::size_t level_ = 0;
};

/// A piece of a prompt or an answer; equal ids: the same text from the very beginning up to its end.
struct segment {
  std::uint64_t id = 0;
  std::uint32_t tokens = 0;
};
using text = std::vector<segment>;
std::uint32_t tokens_of(const text& t);

/// What llama-server and Ollama keep of what they have read: one text a slot, and llama-server with
/// --cache-ram some more. Knows nothing of core/prefix.hpp.
class prompt_cache {
 public:
  prompt_cache(std::size_t slots, std::uint32_t ram_tokens) : slots_(slots), ram_tokens_(ram_tokens) {}

  struct place {
    std::size_t slot = 0;
    std::uint32_t cached = 0;  ///< tokens of the prompt that need not be read
  };
  place begin(const text& prompt);
  void end(std::size_t slot, text read);       ///< it now holds that
  std::uint32_t longest(const text& t) const;  ///< that any slot, busy or not, or the memory beside has
  std::uint32_t displaced(const text& prompt) const;  ///< tokens of another text that its slot has now
  void clear();

 private:
  struct kept {
    text what;
    std::uint64_t used = 0;
    bool busy = false;
  };
  bool take_from_ram(const text& prompt, kept& into, std::uint32_t better_than);

  std::vector<kept> slots_;
  std::vector<kept> ram_;
  std::uint32_t ram_tokens_;
  std::uint64_t turn_ = 0;
};

/// Mean seconds between them; 0: never.
struct fault_habits {
  double kill = 0;    ///< Android kills the engine, which is started anew
  double reboot = 0;  ///< away for minutes, without a word
  double stall = 0;   ///< Wi-Fi roams or sleeps: nothing passes, the phone works on
};

struct phone_spec {
  std::string name;
  double decode = 10;   ///< tokens/s, cool, alone
  double prefill = 40;  ///< likewise
  double load_s = 8;    ///< to read the model into memory
  std::uint32_t weight = 1;
  std::uint32_t permits = 1;
  bool ollama = false;  ///< else llama-server
  bool agent = false;   ///< it sends heartbeats
  std::uint32_t ram_tokens = 0;
  heat_curve heat{};
  fault_habits faults{};
};

/// Two requests at once get done so much more together than one: the weights are read once for both, but a
/// phone has little arithmetic to spare (not measured by anybody; llama.cpp on laptops gains more).
constexpr double gain_of_two = 0.15;
inline double speed_of(std::size_t together) {
  const auto n = static_cast<double>(together);
  return (1 + gain_of_two * (n - 1)) / n;
}

/// even-12, mixed-6, mixed-12, mixed-40: cool. hot-12: they throttle. flaky-12: mixed-12, and they fail.
std::vector<phone_spec> make_fleet(std::string_view name, std::uint64_t seed);
std::vector<std::string> fleet_names();

}  // namespace pocketfleet::fleet
