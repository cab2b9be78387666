#include "pocketfleet/core/error.hpp"

#include <stdexcept>

namespace pocketfleet {

std::string_view to_string(errc code) {
  switch (code) {
    case errc::bad_request: return "bad_request";
    case errc::unauthorized: return "unauthorized";
    case errc::forbidden: return "forbidden";
    case errc::rate_limited: return "rate_limited";
    case errc::model_not_found: return "model_not_found";
    case errc::unsupported: return "unsupported";
    case errc::not_found: return "not_found";
    case errc::conflict: return "conflict";
    case errc::bad_file: return "bad_file";
    case errc::not_served: return "not_served";
    case errc::rejected: return "rejected";
    case errc::no_phone: return "no_phone";
    case errc::queue_full: return "queue_full";
    case errc::queue_timeout: return "queue_timeout";
    case errc::deadline: return "deadline";
    case errc::shutting_down: return "shutting_down";
    case errc::overloaded: return "overloaded";
    case errc::connect_failed: return "connect_failed";
    case errc::connection_lost: return "connection_lost";
    case errc::first_token_timeout: return "first_token_timeout";
    case errc::stalled: return "stalled";
    case errc::bad_response: return "bad_response";
    case errc::phone_error: return "phone_error";
    case errc::phone_busy: return "phone_busy";
    case errc::phone_loading: return "phone_loading";
    case errc::model_missing: return "model_missing";
    case errc::truncated: return "truncated";
    case errc::too_large: return "too_large";
    case errc::client_gone: return "client_gone";
    case errc::aborted: return "aborted";
  }
  return "unknown";
}

void throw_exception_from_error(const error& e, const boost::source_location&) {
  throw std::runtime_error(std::string(to_string(e.code)) + ": " + e.message);
}

}  // namespace pocketfleet
