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

bool starts_with_empty_line(asio::const_buffer bytes) {
  return std::string_view(static_cast<const char*>(bytes.data()), bytes.size()).starts_with("\r\n");
}

}  // namespace

/// More bytes from the client into the buffer. False: closed, out of time, or the buffer is full.
task<bool> session::fill() {
  const std::size_t room = buffer_.max_size() - buffer_.size();
  if (room == 0) co_return false;
  const auto space = buffer_.prepare(std::min<std::size_t>(room, 8192));
  if (!tls_) {
    const auto [ec, n] = co_await socket_.async_read_some(space, use_result);
    if (ec) co_return false;
    buffer_.commit(n);
    co_return true;
  }
  for (;;) {
    error_code ec;
    const std::size_t n = tls_->read_some(space, ec);
    if (!ec) {
      buffer_.commit(n);
      co_return true;
    }
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

task<session::reading> session::read_header() {
  const listener_settings& limits = server_->face().settings;
  parser_.emplace();
  parser_->header_limit(static_cast<std::uint32_t>(limits.header_bytes));
  parser_->body_limit(limits.body_bytes);
  parser_->eager(false);
  status_ = 0;
  has_failed_ = head_only_ = cut_ = false;
  request_id_.clear();
  origin_.clear();
  std::size_t taken = 0;
  bool folded = false;
  bool empty_line = false;  // one before the request line is passed over (RFC 9112, 2.2)
  while (!parser_->is_header_done()) {
    if (taken == 0 && !empty_line && starts_with_empty_line(buffer_.cdata())) {
      buffer_.consume(2);
      empty_line = true;
    }
    const auto bytes = buffer_.cdata();
    const std::string_view unread(static_cast<const char*>(bytes.data()), bytes.size());
    const error_code ec = parse();
    // Beast takes whole lines before the header's end has come: each part is looked at as it is taken.
    const std::string_view part = unread.substr(0, unread.size() - buffer_.size());
    folded = folded || has_folded_line(part);
    taken += part.size();
    if (folded) co_return co_await refuse({400, "a header line is folded"});
    if (taken > limits.header_bytes) co_return co_await refuse({431, "the header is too large"});
    if (ec == http::error::header_limit) co_return co_await refuse({431, "the header is too large"});
    if (ec == http::error::body_limit) co_return co_await refuse({413, "the body is too large"});
    if (ec) co_return co_await refuse({400, "not HTTP/1.1"});
    if (parser_->is_header_done()) break;
    if (!co_await fill()) {
      if (expired_) co_return co_await refuse({408, "the header took too long"});
      if (buffer_.size() == buffer_.max_size()) co_return co_await refuse({431, "the header is too large"});
      co_return reading::closed;
    }
  }
  const auto& head = parser_->get().base();
  head_only_ = head.method() == http::verb::head;
  keep_alive_ = parser_->keep_alive();
  request_id_ = accepted_request_id(head["X-Request-Id"]);
  if (auto why = check_framing(head, limits.header_fields, limits.target_bytes))
    co_return co_await refuse(*why);
  if (auto why = check_origin(head, limits.host_names, limits.origins)) co_return co_await refuse(*why);
  if (!limits.origins.empty()) origin_ = head[http::field::origin];
  co_return reading::done;
}

/// Whom the request is for, and whether its client may have that: before the body, of which strangers shall
/// cost nothing.
task<session::reading> session::enter() {
  const gateway_face& face = server_->face();
  const auto& head = parser_->get();
  there_ = find_route(face.routes, path_of(head.target()), head.method_string());
  if (face.door == nullptr || head.method() == http::verb::options) co_return reading::done;
  const access_level needed = there_.to != nullptr ? there_.to->access : access_level::client;
  const bool takes_place = there_.to == nullptr || there_.to->takes_place;
  auto admitted = face.door->admit(key_in(head), needed, takes_place, *this, clock::now());
  if (!admitted) {
    const error why = admitted.error();
    co_return co_await turn_away(why);
  }
  visit_ = std::move(*admitted);
  co_return reading::done;
}

task<session::reading> session::read_body() {
  body_budget& budget = server_->face().bodies;
  const std::string_view expect = parser_->get()[http::field::expect];
  if (!expect.empty() && parser_->get().version() >= 11) {
    if (!boost::beast::iequals(expect, "100-continue"))
      co_return co_await refuse({417, "unknown expectation"});
    if (!co_await write_all("HTTP/1.1 100 Continue\r\n\r\n", {}, {})) co_return reading::closed;
  }
  const auto announced = parser_->content_length();
  const auto take = [&](std::size_t bytes) {
    if (!budget.take(bytes)) return false;
    body_bytes_ += bytes;
    return true;
  };
  if (announced && !take(*announced)) co_return co_await refuse({503, "too many bodies at once"});
  const std::size_t expected = announced ? *announced : 0;
  guard_.set(clock::now() + server_->face().settings.body_time + seconds(expected >> 16U));
  parser_->eager(true);
  while (!parser_->is_done()) {
    const error_code ec = parse();
    if (ec == http::error::body_limit) co_return co_await refuse({413, "the body is too large"});
    if (ec == http::error::header_limit) co_return co_await refuse({431, "the trailer is too large"});
    if (ec) co_return co_await refuse({400, "the body is not sound HTTP"});
    if (parser_->is_done()) break;
    while (!announced && parser_->get().body().size() > body_bytes_) {
      if (!take(body_step)) co_return co_await refuse({503, "too many bodies at once"});
    }
    if (!co_await fill()) {
      if (expired_) co_return co_await refuse({408, "the body took too long"});
      if (buffer_.size() == buffer_.max_size())
        co_return co_await refuse({400, "the body is not sound HTTP"});
      co_return reading::closed;
    }
  }
  co_return reading::done;
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
