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
    case errc::model_missing: return true;
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

}  // namespace pocketfleet
