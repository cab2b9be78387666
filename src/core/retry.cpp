#include "pocketfleet/core/retry.hpp"

namespace pocketfleet {

bool retryable(errc code) {
  switch (code) {
    case errc::connect_failed:
    case errc::connection_lost:
    case errc::first_token_timeout:
    case errc::stalled:
    case errc::bad_response:
    case errc::phone_error:
    case errc::phone_busy:
    case errc::phone_loading:
    case errc::model_missing:
    case errc::not_served:  // by an older build: another phone may have a newer one
    case errc::unsupported:
      return true;  // by what that phone has under the name
    // A stream that ends cleanly without its end marker is, most of all, Ollama's guard against repeating
    // tokens: another phone would only repeat them again.
    case errc::truncated:
    default: return false;
  }
}

verdict verdict_of(errc code) {
  switch (code) {
    case errc::connect_failed: return verdict::unreachable;
    case errc::connection_lost:
    case errc::first_token_timeout:
    case errc::stalled:
    case errc::bad_response:
    case errc::phone_error:
    case errc::phone_busy:
    case errc::truncated: return verdict::failure;
    // loading and a missing model are states that the prober reports, not faults of the phone
    default: return verdict::neutral;
  }
}

next_step after_failure(const failed_attempt& f, const retry_limits& limits) {
  // Reading an answer's beginning again is several times faster than making it again, but costs some
  // questions to the phone first.
  constexpr std::size_t worth_rescue = 16;
  // What makes two phones fail in the same way is the request; a third is spared.
  constexpr unsigned most_phone_errors = 2;
  if (!retryable(f.code) || f.tries >= limits.attempts || f.phone_errors >= most_phone_errors)
    return next_step::give_up;
  const bool can_rescue = f.can_resume && f.rescues < limits.rescues;
  if (f.pieces == 0) return next_step::again;
  if (f.shown) return can_rescue ? next_step::rescue : next_step::give_up;
  return can_rescue && !f.resumed && f.pieces >= worth_rescue ? next_step::rescue : next_step::again;
}

}  // namespace pocketfleet
