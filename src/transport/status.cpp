#include "pocketfleet/transport/status.hpp"

#include <boost/beast/http/status.hpp>

namespace pocketfleet {

int http_status(const error& why) {
  switch (why.code) {
    case errc::bad_request:
    case errc::unsupported: return 400;
    case errc::unauthorized: return 401;
    case errc::forbidden: return 403;
    case errc::rate_limited: return 429;
    case errc::model_not_found:
    case errc::not_found: return 404;
    case errc::conflict: return 409;
    case errc::bad_file: return 422;
    case errc::not_served: return 501;
    case errc::rejected: return why.status != 0 ? why.status : 400;
    case errc::no_phone:
    case errc::queue_full:
    case errc::queue_timeout:
    case errc::shutting_down:
    case errc::overloaded:
    case errc::phone_busy:
    case errc::phone_loading: return 503;
    case errc::deadline:
    case errc::first_token_timeout:
    case errc::stalled: return 504;
    case errc::connect_failed:
    case errc::connection_lost:
    case errc::bad_response:
    case errc::phone_error:
    case errc::model_missing:
    case errc::truncated:
    case errc::too_large: return 502;
    case errc::client_gone: return 499;
    case errc::aborted: break;
  }
  return 500;
}

std::string_view reason_phrase(int status) {
  return boost::beast::http::obsolete_reason(static_cast<boost::beast::http::status>(status));
}

}  // namespace pocketfleet
