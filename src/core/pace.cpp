#include "pocketfleet/core/pace.hpp"

#include <algorithm>

namespace pocketfleet {
namespace {

// A phone that is asleep, or whose Wi-Fi roams, may be back after some seconds; after this long nobody waits.
constexpr milliseconds least_patience{20'000};
constexpr std::uint64_t bytes_per_token = 2;      // English has 4, so this errs to the patient side
constexpr nanoseconds fastest_reader{5'000'000};  // prompts from a cache make a phone look faster than it is
constexpr int slower_than_known = 4;              // by heat and by what else runs on the phone
constexpr int tokens_of_silence = 100;

void lean_slow(nanoseconds& known, nanoseconds newest) {
  known = std::max(newest, known - (known - newest) / 8);
}

milliseconds rounded(nanoseconds t) {
  return std::chrono::duration_cast<milliseconds>(t);
}

}  // namespace

void pace::learn(const measured& m) {
  if (m.prompt_tokens > 0 && m.prompt_time > nanoseconds{0})
    lean_slow(prompt_token_, m.prompt_time / static_cast<std::int64_t>(m.prompt_tokens));
  if (m.answer_tokens > 0 && m.answer_time > nanoseconds{0})
    lean_slow(answer_token_, m.answer_time / static_cast<std::int64_t>(m.answer_tokens));
}

milliseconds pace::first_token(std::uint64_t prompt_bytes, milliseconds limit) const {
  if (prompt_token_ == nanoseconds{0}) return limit;
  const auto tokens = static_cast<std::int64_t>(prompt_bytes / bytes_per_token + 1);
  return std::min(limit, least_patience) +
         rounded(std::max(prompt_token_, fastest_reader) * tokens * slower_than_known);
}

milliseconds pace::between_tokens(milliseconds limit) const {
  if (answer_token_ == nanoseconds{0}) return limit;
  return std::clamp(rounded(answer_token_ * tokens_of_silence), std::min(limit, least_patience), limit);
}

}  // namespace pocketfleet
