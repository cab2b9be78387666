#include "pocketfleet/core/forecast.hpp"

#include <algorithm>
#include <cmath>

namespace pocketfleet {
namespace {

// An answer of this many tokens moves what is known half-way to itself: a phone that throttles is noticed
// within an answer or two, and one short answer does not upset what is known.
constexpr double half_way_tokens = 64;
constexpr double half_way_prompt = 256;
// A hot phone that is left alone cools with a time constant of 5 to 10 minutes (simulated from measured
// curves; nobody has published recovery times).
constexpr double cooling_s = 420;
// What a phone could do at its best is forgotten slowly, for an update may have made it slower for good.
constexpr double forget_best = 0.02;
constexpr double beside_costs = 0.6;  // each other request on the phone makes a token so much slower

double in_seconds(nanoseconds t) {
  return std::chrono::duration<double>(t).count();
}

void move(double& known, double newest, double tokens, double half_way) {
  known = known == 0 ? newest : known + (newest - known) * (1 - std::exp2(-tokens / half_way));
}

}  // namespace

void learned_speed::learn(const measured& m, double beside, time_point now) {
  const std::uint64_t read = m.prompt_tokens - std::min(m.cached_tokens, m.prompt_tokens);
  // A few tokens say more about the phone's overhead than about its speed.
  if (read >= 8 && m.prompt_time > nanoseconds{0})
    move(prefill_, in_seconds(m.prompt_time) / static_cast<double>(read), static_cast<double>(read),
         half_way_prompt);
  if (m.load_time > nanoseconds{500'000'000}) move(load_, in_seconds(m.load_time), 1, 1);
  if (m.answer_tokens < 4 || m.answer_time <= nanoseconds{0}) return;
  const auto tokens = static_cast<double>(m.answer_tokens);
  const double token = in_seconds(m.answer_time) / tokens / (1 + beside_costs * beside);
  decode_ = decode(now);  // as it has cooled meanwhile
  move(decode_, token, tokens, half_way_tokens);
  best_decode_ = best_decode_ == 0 ? decode_ : std::min(decode_, best_decode_ * (1 + forget_best));
  learned_ = now;
  ++answers_;
}

double learned_speed::decode(time_point now) const {
  if (best_decode_ == 0) return 0;
  const double idle = std::chrono::duration<double>(now - learned_).count();
  return best_decode_ + (decode_ - best_decode_) * std::exp(-std::max(0.0, idle) / cooling_s);
}

double learned_speed::slowdown(time_point now) const {
  const double present = decode(now);
  return present <= 0 ? 1 : std::min(1.0, best_decode_ / present);
}

void model_habits::learn(const measured& m, std::uint64_t prompt_bytes, std::uint32_t answer_limit) {
  constexpr double newest = 0.1;
  if (m.answer_tokens > 0 && (answer_limit == 0 || m.answer_tokens < answer_limit)) {
    const auto tokens = static_cast<double>(m.answer_tokens);
    answer_tokens = answer_tokens == 0 ? tokens : answer_tokens + newest * (tokens - answer_tokens);
  }
  if (m.prompt_tokens >= 16 && prompt_bytes > 0) {
    const double ratio =
        std::clamp(static_cast<double>(prompt_bytes) / static_cast<double>(m.prompt_tokens), 0.5, 8.0);
    bytes_per_token = bytes_per_token == 0 ? ratio : bytes_per_token + newest * (ratio - bytes_per_token);
  }
}

}  // namespace pocketfleet
