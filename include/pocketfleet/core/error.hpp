// What can go wrong with a request, in three families; transport/status.hpp maps them to HTTP.
#pragma once

#include <boost/system/result.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "pocketfleet/core/time.hpp"

namespace pocketfleet {

enum class errc : std::uint8_t {
  // the client's: passed back, never retried, never charged to a phone
  bad_request,      ///< the request itself is wrong
  unauthorized,     ///< the token is missing or not the one
  forbidden,        ///< the token is good, but what is asked for is not allowed
  rate_limited,     ///< the key's own limit, or too many wrong keys (`error::retry_after` says when)
  model_not_found,  ///< no phone has the model that was asked for
  unsupported,      ///< no engine of the fleet can do what was asked for
  not_found,        ///< what is to be changed is not there
  conflict,         ///< it does not go together with what is there
  bad_file,         ///< the file to be read has mistakes
  not_served,       ///< a whole API that no phone of the fleet serves, or the gateway does not
  rejected,         ///< the phone says that the request is wrong (`error::status` is the phone's)
  // the fleet's
  no_phone,       ///< none usable now
  queue_full,     ///< the bounded queue is full
  queue_timeout,  ///< no permit came free in time
  deadline,       ///< the request's own time is over
  shutting_down,  ///< the process is draining
  overloaded,     ///< a limit of the gateway itself is reached (bytes of bodies, ...)
  // the phone's
  connect_failed,       ///< refused, unreachable, name not found, or no answer to the connect in time
  connection_lost,      ///< reset or closed in the middle
  first_token_timeout,  ///< nothing came in the time a first token may take
  stalled,              ///< tokens came, then silence
  bad_response,         ///< not what that engine says
  phone_error,          ///< a 5xx of the phone, or an error inside its stream
  phone_busy,           ///< 503, the phone's own queue is full
  phone_loading,        ///< 503, the model is not loaded yet
  model_missing,        ///< 404: that phone no longer has the model
  truncated,            ///< the stream ended cleanly, but without its end marker
  too_large,            ///< the answer is over the size kept in memory
  // nobody's
  client_gone,  ///< the client left
  aborted,      ///< cancelled from inside (stop, reload)
};

/// The name used in logs and as a metric label.
std::string_view to_string(errc code);

struct error {
  errc code = errc::aborted;
  std::string message{};   ///< for the client; never holds a prompt, an answer or raw bytes of either
  int status = 0;          ///< errc::rejected: the phone's HTTP status
  seconds retry_after{0};  ///< fleet errors: when it is worth coming back; 0 says nothing

  error() = default;
  error(errc c, std::string text = {}, int http_status = 0, seconds retry = seconds{0})
      : code(c), message(std::move(text)), status(http_status), retry_after(retry) {}
};

template <class T>
using result = boost::system::result<T, error>;

/// Called by result<T>::value() on an error; the request path tests before it takes.
[[noreturn]] void throw_exception_from_error(const error& e, const boost::source_location& where);

}  // namespace pocketfleet
