// What comes in from a client: handshake, header, body, and what is refused on the way.
#include <boost/beast/http/error.hpp>

#include "request_id.hpp"
#include "session.hpp"

namespace pocketfleet {
namespace {

namespace http = boost::beast::http;
using boost::system::error_code;

constexpr std::size_t body_step = std::size_t{64}
                                  << 10U;  // what an unannounced body takes from the budget at a time

constexpr std::size_t large_read = 8192;

bool starts_with_empty_line(asio::const_buffer bytes) {
  return std::string_view(static_cast<const char*>(bytes.data()), bytes.size()).starts_with("\r\n");
}

}  // namespace

/// For more bytes from the client; never empty, since the buffer is not full here.
asio::mutable_buffer session::room() {
  return buffer_.prepare(std::min(buffer_.max_size() - buffer_.size(), next_read_));
}

bool session::filled(const error_code& ec, std::size_t bytes) {
  if (ec) return false;
  buffer_.commit(bytes);
  if (bytes >= next_read_) next_read_ = large_read;  // who sends a lot is read a lot at a time
  return true;
}

/// More bytes from the client into the buffer. False: closed, out of time, or the buffer is full.
task<bool> session::fill() {
  if (buffer_.size() == buffer_.max_size()) co_return false;
  const auto space = room();
  if (!tls_) {
    const auto [ec, n] = co_await socket_.async_read_some(space, use_result);
    co_return filled(ec, n);
  }
  for (;;) {
    error_code ec;
    const std::size_t n = tls_->read_some(space, ec);
    if (!ec) co_return filled(ec, n);
    const bool again = ec == asio::error::would_block && co_await ready(tls_->wants_write());
    if (!again) co_return false;
  }
}

/// Until the socket can be read or written. False: it is closed, or the guard has had enough.
task<bool> session::ready(bool to_write) {
  const auto what = to_write ? asio::ip::tcp::socket::wait_write : asio::ip::tcp::socket::wait_read;
  const auto [ec] = co_await socket_.async_wait(what, use_result);
  co_return !ec && !expired_;
}

task<bool> session::shake_hands() {
  guard_.set(clock::now() + server_->face().settings.header_time);
  error_code ec;
  for (tls_->shake_hands(ec); ec == asio::error::would_block; tls_->shake_hands(ec)) {
    if (!co_await ready(tls_->wants_write())) break;
  }
  guard_.never();
  if (!ec) co_return true;
  ++server_->face().counters.tls_failures;
  if (tls_->heard_plain_http()) {
    constexpr std::string_view says =
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n"
        "Content-Length: 27\r\n\r\nTLS is spoken here: https:\n";
    socket_.write_some(asio::buffer(says.data(), says.size()), ec);
    tls_.reset();
    co_await linger();
  }
  co_return false;
}

/// Gives the buffer to the parser.
error_code session::parse() {
  error_code ec;
  try {
    buffer_.consume(parser_->put(buffer_.data(), ec));
  } catch (const std::exception&) {  // Beast 345: std::length_error for an endless trailer field
    ec = http::error::header_limit;
  }
  return ec == http::error::need_more ? error_code{} : ec;
}

void session::begin_request() {
  const listener_settings& limits = server_->face().settings;
  parser_.emplace();
  parser_->header_limit(static_cast<std::uint32_t>(limits.header_bytes));
  parser_->body_limit(limits.body_bytes);
  parser_->eager(false);
  status_ = 0;
  has_failed_ = head_only_ = cut_ = false;
  request_id_.clear();
  origin_.clear();
  wrong_.reset();
  header_taken_ = 0;
  folded_ = empty_line_ = false;
}

/// Gives what has come of the header to the parser, and looks at it when it is whole.
std::optional<refusal> session::take_header() {
  const listener_settings& limits = server_->face().settings;
  if (header_taken_ == 0 && !empty_line_ && starts_with_empty_line(buffer_.cdata())) {
    buffer_.consume(2);
    empty_line_ = true;
  }
  const auto bytes = buffer_.cdata();
  const std::string_view unread(static_cast<const char*>(bytes.data()), bytes.size());
  const error_code ec = parse();
  // Beast takes whole lines before the header's end has come: each part is looked at as it is taken.
  const std::string_view part = unread.substr(0, unread.size() - buffer_.size());
  folded_ = folded_ || has_folded_line(part);
  header_taken_ += part.size();
  if (folded_) return refusal{400, "a header line is folded"};
  if (header_taken_ > limits.header_bytes) return refusal{431, "the header is too large"};
  if (ec == http::error::header_limit) return refusal{431, "the header is too large"};
  if (ec == http::error::body_limit) return refusal{413, "the body is too large"};
  if (ec) return refusal{400, "not HTTP/1.1"};
  if (!parser_->is_header_done()) return std::nullopt;
  return check_header();
}

std::optional<refusal> session::check_header() {
  const listener_settings& limits = server_->face().settings;
  const auto& head = parser_->get().base();
  head_only_ = head.method() == http::verb::head;
  keep_alive_ = parser_->keep_alive();
  request_id_ = accepted_request_id(head["X-Request-Id"]);
  if (auto why = check_framing(head, limits.header_fields, limits.target_bytes)) return why;
  if (auto why = check_origin(head, limits.host_names, limits.origins)) return why;
  if (!limits.origins.empty()) origin_ = head[http::field::origin];
  return std::nullopt;
}

/// Of a header that is not whole yet, or wrong.
task<session::reading> session::read_header() {
  while (!wrong_ && !parser_->is_header_done()) {
    if (co_await fill()) {
      wrong_ = take_header();
    } else if (expired_) {
      wrong_.emplace(408, "the header took too long");
    } else if (buffer_.size() == buffer_.max_size()) {
      wrong_.emplace(431, "the header is too large");
    } else {
      co_return reading::closed;
    }
  }
  if (!wrong_) co_return reading::done;
  const refusal why = *wrong_;
  co_return co_await refuse(why);
}

/// Whom the request is for, and whether its client may have that: before the body, of which strangers shall
/// cost nothing. An error: it may not.
std::optional<error> session::enter() {
  const gateway_face& face = server_->face();
  const auto& head = parser_->get();
  there_ = find_route(face.routes, path_of(head.target()), head.method_string());
  if (face.door == nullptr || head.method() == http::verb::options) return std::nullopt;
  const access_level needed = there_.to != nullptr ? there_.to->access : access_level::client;
  const bool takes_place = there_.to == nullptr || there_.to->takes_place;
  auto admitted = face.door->admit(key_in(head), needed, takes_place, *this, clock::now());
  if (!admitted) return admitted.error();
  visit_ = std::move(*admitted);
  return std::nullopt;
}

/// The client sends its body only when it is told to.
bool session::expects_word() const {
  return parser_->get().version() >= 11 && !parser_->get()[http::field::expect].empty();
}

std::optional<refusal> session::begin_body() {
  parser_->eager(true);
  const auto announced = parser_->content_length();
  if (!announced) return std::nullopt;
  if (!server_->face().bodies.take(*announced)) return refusal{503, "too many bodies at once"};
  body_bytes_ += *announced;
  return std::nullopt;
}

/// Gives what has come of the body to the parser.
std::optional<refusal> session::take_body() {
  if (parser_->is_done()) return std::nullopt;
  const error_code ec = parse();
  if (ec == http::error::body_limit) return refusal{413, "the body is too large"};
  if (ec == http::error::header_limit) return refusal{431, "the trailer is too large"};
  if (ec) return refusal{400, "the body is not sound HTTP"};
  if (parser_->is_done() || parser_->content_length()) return std::nullopt;
  while (parser_->get().body().size() > body_bytes_) {
    if (!server_->face().bodies.take(body_step)) return refusal{503, "too many bodies at once"};
    body_bytes_ += body_step;
  }
  return std::nullopt;
}

/// The whole body came with the header. False: read_body() goes on.
bool session::body_is_there() {
  if (expects_word()) return false;
  wrong_ = begin_body();
  if (!wrong_) wrong_ = take_body();
  return !wrong_ && parser_->is_done();
}

task<session::reading> session::read_body() {
  if (expects_word()) {
    if (!boost::beast::iequals(parser_->get()[http::field::expect], "100-continue")) {
      const refusal why{417, "unknown expectation"};
      co_return co_await refuse(why);
    }
    outgoing word("HTTP/1.1 100 Continue\r\n\r\n");
    if (!write_at_once(word) && !co_await write_rest(word)) co_return reading::closed;
    wrong_ = begin_body();
    if (!wrong_) wrong_ = take_body();
  }
  const std::size_t expected = parser_->content_length() ? *parser_->content_length() : 0;
  guard_.set(clock::now() + server_->face().settings.body_time + seconds(expected >> 16U));
  while (!wrong_ && !parser_->is_done()) {
    if (co_await fill()) {
      wrong_ = take_body();
    } else if (expired_) {
      wrong_.emplace(408, "the body took too long");
    } else if (buffer_.size() == buffer_.max_size()) {
      wrong_.emplace(400, "the body is not sound HTTP");
    } else {
      co_return reading::closed;
    }
  }
  if (!wrong_) co_return reading::done;
  const refusal why = *wrong_;
  co_return co_await refuse(why);
}

/// Says why, and reads no further: where the next request would begin is not known.
task<session::reading> session::refuse(refusal why) {
  http_call call = refused_call("other");
  ++server_->face().counters.bad_requests;
  call.record.outcome = to_string(why.status == 503 ? errc::overloaded : errc::bad_request);
  std::string body = refusal_body(why.status, call.record.outcome, why.text);
  header_list headers;
  if (why.status == 503) headers.emplace_back("Retry-After", "1");
  if (why.status == 405) headers.emplace_back("Allow", "GET, HEAD, POST, OPTIONS");
  co_await send(why.status, "application/json", std::move(body), std::move(headers));
  keep_books(call);
  co_await linger();
  co_return reading::refused;
}

/// Likewise, of a client that may not have what it asks for.
task<session::reading> session::turn_away(const error& why) {
  http_call call = refused_call(there_.to != nullptr ? there_.to->path : "other");
  header_list headers;
  if (why.code == errc::unauthorized) headers.emplace_back("WWW-Authenticate", "Bearer");
  co_await fail(why, std::move(headers));
  keep_books(call);
  co_await linger();
  co_return reading::refused;
}

/// For the books, of a request that is read no further.
http_call session::refused_call(std::string_view route) {
  guard_.never();
  expired_ = false;
  keep_alive_ = false;
  if (request_id_.empty()) request_id_ = new_request_id();
  http_call call(route, socket_.get_executor());
  call.request_id = request_id_;
  call.began = began_;
  call.record.at = phase::reading;
  return call;
}

/// The dialect that is spoken on the path, as far as the path has been read.
envelope session::form() const {
  return parser_ ? envelope_of(path_of(parser_->get().target())) : envelope::plain;
}

std::string session::refusal_body(int status, std::string_view code, std::string_view text) const {
  return render_refusal(form(), {status, code, text, request_id_});
}

/// Closing with unread bytes resets the connection, and the reset may overtake the answer: they are read,
/// within bounds.
task<> session::linger() {
  error_code ignored;
  if (tls_) tls_->say_goodbye();
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  guard_.set(clock::now() + seconds{1});
  for (std::size_t left = std::size_t{1} << 20U; left > 0;) {
    buffer_.clear();
    if (!co_await fill()) break;
    left -= std::min(left, buffer_.size());
  }
}

}  // namespace pocketfleet
