#include "connection.hpp"

#include <algorithm>
#include <boost/asio/error.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http.hpp>
#include <cstdio>
#include <optional>

#include "engine.hpp"

namespace pocketfleet::sim {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;

namespace {

constexpr std::size_t most_buffer = std::size_t{32} << 10U;
constexpr std::uint32_t most_header = 16 * 1024;
constexpr std::uint64_t most_body = std::uint64_t{64} << 20U;
constexpr std::size_t most_remembered = std::size_t{1} << 20U;
constexpr duration body_limit = std::chrono::seconds(30);

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
  return result;
}

// Beast takes a coding it does not know for "no body" and would read the body as the next request.
bool framing_is_clear(const http::request_header<>& header) {
  if (header.count(http::field::content_length) > 1) return false;
  const auto codings = header.count(http::field::transfer_encoding);
  if (codings == 0) return true;
  return codings == 1 && header.version() == 11 && header.count(http::field::content_length) == 0 &&
         lower(header[http::field::transfer_encoding]) == "chunked";
}

// The client has gone or the connection was closed, as opposed to bytes that are no HTTP.
bool lost(const error_code& failed) {
  return failed == http::error::end_of_stream || failed == http::error::partial_message ||
         failed == asio::error::eof || (failed && failed.category() == asio::error::get_system_category());
}

void fill(request& into, http::request<http::string_body>&& from) {
  into.seen.method = std::string(from.method_string());
  into.seen.target = std::string(from.target());
  for (const auto& field : from.base())
    into.seen.headers[lower(field.name_string())] = std::string(field.value());
  into.newest = from.version() == 11;
  into.keep_alive = from.keep_alive();
  into.seen.body = std::move(from.body());
  const std::size_t mark = into.seen.target.find('?');
  into.path = into.seen.target.substr(0, mark);
  if (mark != std::string::npos) into.query = into.seen.target.substr(mark + 1);
}

}  // namespace

connection::connection(std::shared_ptr<phone::server> phone, asio::ip::tcp::socket socket)
    : phone_(std::move(phone)),
      socket_(std::move(socket)),
      buffer_(most_buffer),
      sleeper_(phone_->context),
      idle_(phone_->context) {
  phone_->add(this);
  error_code ignored;
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  socket_.non_blocking(true, ignored);  // for the look ahead in readable()
}

connection::~connection() {
  phone_->remove(this);
}

asio::awaitable<void> connection::run() {
  const auto self = shared_from_this();
  const unsigned most = phone_->speaks->most_requests();
  while (socket_.is_open() && co_await read()) {
    ++answered_;
    if (most != 0 && answered_ >= most) close_after_answer();
    busy_ = true;
    begun_ = false;
    watch();
    co_await serve();
    co_await flush();
    busy_ = false;
    if (gone() || !request_.keep_alive || closes_quietly_ || phone_->leaving()) break;
  }
  idle_until_ = time_point::max();
  idle_.cancel();
  close();
}

// One whole request into request_; false: there is none and there will be none.
asio::awaitable<bool> connection::read() {
  http::request_parser<http::string_body> parser;
  parser.header_limit(most_header);
  parser.body_limit(most_body);
  error_code failed;
  expect_within(phone_->speaks->idle_limit(phone_->settings));
  co_await http::async_read_header(socket_, buffer_, parser,
                                   asio::redirect_error(asio::use_awaitable, failed));
  if (lost(failed)) co_return false;
  if (failed || !framing_is_clear(parser.get())) co_return co_await refuse_bytes();

  if (lower(parser.get()[http::field::expect]) == "100-continue") {
    put_raw("HTTP/1.1 100 Continue\r\n\r\n");
    if (!co_await flush()) co_return false;
  }
  expect_within(body_limit);
  co_await http::async_read(socket_, buffer_, parser, asio::redirect_error(asio::use_awaitable, failed));
  idle_until_ = time_point::max();
  if (lost(failed)) co_return false;
  if (failed) co_return co_await refuse_bytes();
  request_ = request{};
  fill(request_, parser.release());
  co_return true;
}

asio::awaitable<bool> connection::refuse_bytes() {
  idle_until_ = time_point::max();
  put_raw(phone_->speaks->bad_request());
  co_await flush();
  // Closing with bytes unread would be a reset, which can overtake the answer.
  error_code failed;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, failed);
  expect_within(std::chrono::seconds(1));
  char waste[4096];
  const auto into = asio::buffer(waste);
  while (!failed) co_await socket_.async_read_some(into, asio::redirect_error(asio::use_awaitable, failed));
  co_return false;
}

asio::awaitable<void> connection::serve() {
  if (request_.path.starts_with("/sim/")) {
    co_await answer_control(*this);
    co_return;
  }
  while (phone_->hanging() && !gone()) co_await sleeper_.nap(time_point::max());
  if (gone()) co_return;
  if (phone_->speaks->generates(request_)) {
    phone_->last = request_.seen;
    phone_->last.body.resize(std::min(phone_->last.body.size(), most_remembered));
  }
  co_await phone_->speaks->answer(*this);
}

asio::awaitable<void> connection::reply(unsigned status, std::string type, std::string body,
                                        std::string headers) {
  if (gone()) co_return;
  out_ += "HTTP/1.1 " + std::to_string(status) + ' ';
  out_ += http::obsolete_reason(static_cast<http::status>(status));
  out_ += "\r\n";
  out_ += phone_->speaks->common_headers();
  out_ += headers;
  if (!type.empty()) out_ += "Content-Type: " + type + "\r\n";
  out_ += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  kept_alive();
  if (request_.seen.method != "HEAD") out_ += body;
  co_await flush();
}

void connection::begin(std::string_view type, std::string_view headers) {
  begun_ = true;
  chunked_ = request_.newest || phone_->speaks->always_chunks();
  out_ += "HTTP/1.1 200 OK\r\n";
  out_ += phone_->speaks->common_headers();
  out_ += headers;
  out_.append("Content-Type: ").append(type).append("\r\n");
  if (chunked_) {
    out_ += "Transfer-Encoding: chunked\r\n";
  } else {
    close_after_answer();
  }
  kept_alive();
}

void connection::kept_alive() {
  const bool limited = phone_->speaks->most_requests() != 0;
  if (!request_.keep_alive) {
    out_ += "Connection: close\r\n";
  } else if (limited) {
    const auto limit = std::chrono::duration_cast<seconds>(phone_->settings.idle_close).count();
    out_ += "Keep-Alive: timeout=" + std::to_string(limit) +
            ", max=" + std::to_string(phone_->speaks->most_requests()) + "\r\n";
  } else if (!request_.newest) {
    out_ += "Connection: keep-alive\r\n";
  }
  out_ += "\r\n";
}

void connection::push(std::string_view part) {
  if (part.empty()) return;  // an empty chunk would end the body
  if (!chunked_) {
    out_ += part;
    return;
  }
  char size[20];
  const int digits = std::snprintf(size, sizeof size, "%zx\r\n", part.size());
  out_.append(size, static_cast<std::size_t>(digits)).append(part).append("\r\n");
}

void connection::end() {
  if (chunked_) out_ += "0\r\n\r\n";
}

asio::awaitable<bool> connection::flush() {
  if (gone()) co_return false;
  if (out_.empty()) co_return true;
  const std::string bytes = std::exchange(out_, {});
  const auto buffer = asio::buffer(bytes);
  error_code failed;
  co_await asio::async_write(socket_, buffer, asio::redirect_error(asio::use_awaitable, failed));
  if (failed) sleeper_.leave();
  co_return !gone();
}

void connection::close() {
  error_code ignored;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  socket_.close(ignored);
  sleeper_.leave();
}

void connection::reset() {
  error_code ignored;
  socket_.set_option(asio::socket_base::linger(true, 0), ignored);
  socket_.close(ignored);
  sleeper_.leave();
}

// Both engines take the end of the client's sending, half-closed too, as its leaving.
void connection::watch() {
  if (watching_ || !socket_.is_open()) return;
  watching_ = true;
  socket_.async_wait(asio::ip::tcp::socket::wait_read, [self = shared_from_this()](error_code failed) {
    self->watching_ = false;
    if (!failed) self->readable();
  });
}

void connection::readable() {
  if (!busy_ || !socket_.is_open()) return;
  char byte = 0;
  error_code failed;
  socket_.receive(asio::buffer(&byte, 1), asio::socket_base::message_peek, failed);
  if (failed == asio::error::would_block) {
    watch();
  } else if (failed) {
    sleeper_.leave();
    socket_.cancel(failed);  // a write may be stuck
  }
  // A client that has sent its next request already is not watched any more; Go's server does the same.
}

void connection::expect_within(duration time) {
  idle_until_ = clock::now() + time;
  idle_.expires_at(idle_until_);
  idle_.async_wait([weak = weak_from_this()](error_code failed) {
    const auto self = weak.lock();
    if (failed || !self || clock::now() < self->idle_until_) return;
    self->close();
  });
}

}  // namespace pocketfleet::sim
