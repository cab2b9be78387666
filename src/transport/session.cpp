#include "session.hpp"

#include <array>
#include <charconv>
#include <cmath>

#include "request_id.hpp"
#include "routing.hpp"

namespace pocketfleet {
namespace {

namespace http = boost::beast::http;
using boost::system::error_code;

constexpr int send_buffer = 32 << 10;  // the kernel takes twice as much for its own bookkeeping
constexpr std::size_t buffer_cap = std::size_t{32} << 10U;
constexpr std::size_t small_read = 2048;
constexpr std::size_t most_behind = std::size_t{4} << 20U;  // bytes thrown away behind a running request

constexpr milliseconds first_request_in_drain{500};

}  // namespace

session::session(tcp_socket socket, std::shared_ptr<server> of, std::shared_ptr<const tls_context> tls)
    : socket_(std::move(socket)),
      server_(std::move(of)),
      guard_(server_->dog(),
             [this] {
               expired_ = true;
               error_code ignored;
               socket_.cancel(ignored);
             }),
      buffer_(buffer_cap),
      next_read_(small_read) {
  error_code ignored;
  socket_.non_blocking(true, ignored);
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  // Left to itself the kernel takes megabytes for a client that reads nothing, and hides how far it lags.
  socket_.set_option(asio::socket_base::send_buffer_size(send_buffer), ignored);
  if (tls) tls_.emplace(std::move(tls), socket_.native_handle());
  ++server_->face().counters.open;
}

session::~session() {
  server_->face().bodies.give_back(body_bytes_);
  --server_->face().counters.open;
  server_->remove(this);
}

void session::close() {
  error_code ignored;
  if (tls_) tls_->say_goodbye();
  socket_.shutdown(asio::ip::tcp::socket::shutdown_both, ignored);
  socket_.close(ignored);
}

void session::abandon() {
  finish_ = true;
  if (serving_) leave();
  close();
}

void session::finish_up() {
  finish_ = true;
  if (fresh_) return guard_.set(clock::now() + first_request_in_drain);
  if (idle_) close();
}

// ---- one request after the other

task<> session::run() {
  const listener_settings& limits = server_->face().settings;
  if (tls_ && !co_await shake_hands()) {
    close();
    co_return;
  }
  do {
    idle_ = true;
    guard_.set(clock::now() + (!fresh_   ? limits.idle_time
                               : finish_ ? first_request_in_drain
                                         : limits.header_time));
    bool more = true;
    if (buffer_.size() == 0 && !tls_) {
      const auto [ec, n] = co_await socket_.async_read_some(room(), use_result);
      more = filled(ec, n);
    } else if (buffer_.size() == 0) {
      more = co_await fill();
    }
    if (!more) break;
    fresh_ = idle_ = false;
    began_ = clock::now();
    guard_.set(began_ + limits.header_time);
    // Most requests come whole: then nothing of this waits, and no coroutine is made for it.
    begin_request();
    reading got = reading::done;
    if (wrong_ = take_header(); wrong_ || !parser_->is_header_done()) got = co_await read_header();
    if (got == reading::done) {
      if (const auto denied = enter()) {
        got = co_await turn_away(*denied);
      } else if (!body_is_there()) {
        got = co_await read_body();
      }
    }
    guard_.never();
    if (got != reading::done) break;
    if (request_id_.empty()) request_id_ = new_request_id();
    if (there_.to != nullptr) {
      co_await call_handler(*there_.to);
    } else {
      co_await serve_nobody();
    }
    server_->face().bodies.give_back(std::exchange(body_bytes_, 0));
    visit_ = {};
    if (!keep_alive_ || cut_ || gone_.stop_requested()) break;
  } while (!finish_);
  guard_.never();
  close();
}

// ---- the handler

/// There is no such path, or it does not take the method.
task<> session::serve_nobody() {
  const auto& request = parser_->get();
  const std::string& allow = there_.allow;
  http_call call("other", socket_.get_executor());
  call.request_id = request_id_;
  call.began = began_;
  header_list headers;
  if (request.method() == http::verb::options && (!allow.empty() || request.target() == "*")) {
    headers.emplace_back("Allow", allow + "OPTIONS");
    if (!origin_.empty()) add_preflight(headers, allow + "OPTIONS");
    co_await send(204, {}, {}, std::move(headers));
  } else if (allow.empty()) {
    call.record.outcome = "not_found";
    std::string body = refusal_body(404, call.record.outcome, "there is no such path");
    co_await send(404, "application/json", std::move(body), std::move(headers));
  } else {
    call.record.outcome = "method_not_allowed";
    headers.emplace_back("Allow", allow + "OPTIONS");
    std::string body = refusal_body(405, call.record.outcome, "that path does not take this method");
    co_await send(405, "application/json", std::move(body), std::move(headers));
  }
  keep_books(call);
}

/// A page of an origin that may ask asks first whether it may. The libraries' own fields are as many as they
/// please: they are all let through, since none of them decides anything.
void session::add_preflight(header_list& headers, std::string methods) const {
  const std::string_view wanted = parser_->get()[http::field::access_control_request_headers];
  headers.emplace_back("Access-Control-Allow-Methods", std::move(methods));
  if (!wanted.empty()) headers.emplace_back("Access-Control-Allow-Headers", std::string(wanted));
  headers.emplace_back("Access-Control-Max-Age", "600");
}

/// How long the client of a model waits, if it says so.
std::optional<error> session::read_deadline(const route& to, http_call& call) const {
  const std::string_view text = parser_->get()["X-Request-Timeout"];
  if (text.empty() || to.method != "POST" || to.access != access_level::client) return std::nullopt;
  constexpr double longest = 86'400;  // as request_timeout_s; more changes nothing
  double wait = 0;
  const auto [end, bad] =
      std::from_chars(text.data(), text.data() + text.size(), wait, std::chars_format::fixed);
  if (bad != std::errc{} || end != text.data() + text.size() || !(wait > 0) || !std::isfinite(wait))
    return error(errc::bad_request, "X-Request-Timeout: found \"" + std::string(text.substr(0, 40)) +
                                        "\", expected seconds, a number over 0");
  call.deadline = call.began + std::chrono::duration_cast<duration>(
                                   std::chrono::duration<double>(std::min(wait, longest)));
  return std::nullopt;
}

task<> session::call_handler(const route& to) {
  http_call call(to.path, socket_.get_executor());
  call.method = to.method;
  call.below = below_of(to, path_of(parser_->get().target()));
  call.body = std::move(parser_->get().body());
  call.request_id = request_id_;
  call.accept = parser_->get()[http::field::accept];
  call.if_none_match = parser_->get()[http::field::if_none_match];
  call.authorization = parser_->get()[http::field::authorization];
  call.traceparent = accepted_traceparent(parser_->get()["traceparent"]);
  call.session = parser_->get()["X-Session-Id"];
  call.patient = boost::beast::iequals(parser_->get()["X-Priority"], "batch");
  call.record.trace_id = trace_id_of(call.traceparent);
  call.began = began_;
  call.phones = &server_->phones();
  call.terms = visit_.terms;
  gone_ = std::stop_source();
  call.gone = gone_.get_token();
  call.out = this;
  serving_ = true;
  if (!watching_ && !std::exchange(to_be_watched_, true)) server_->watch_later(this);
  bool threw = false;
  std::optional<error> wrong = read_deadline(to, call);
  try {
    if (wrong) {
      co_await fail(*wrong, {});
    } else {
      co_await to.run(call);
    }
  } catch (const std::exception& e) {  // the fence: one request ends, nothing else
    threw = true;
    if (server_->face().complain) server_->face().complain("a handler threw", e.what());
  }
  serving_ = false;
  if (threw && status_ != 0) cut_ = true;
  if (status_ == 0 && !gone_.stop_requested()) {
    const error why(errc::overloaded, "the gateway failed");
    header_list headers;
    co_await fail(why, std::move(headers));
  }
  keep_books(call);
}

void session::keep_books(http_call& call) {
  request_record& r = call.record;
  const bool gone = gone_.stop_requested();
  r.request_id = call.request_id;
  r.route = call.route;
  if (call.terms) r.key = call.terms->name;
  if (gone) {
    r.outcome = to_string(errc::client_gone);
  } else if (r.outcome.empty()) {
    r.outcome = has_failed_ ? to_string(failed_) : "ok";
    if (!has_failed_) r.at = phase::done;
  }
  r.status = gone ? 499 : status_;
  r.total = std::chrono::duration_cast<milliseconds>(clock::now() - call.began);
  server_->face().books->on_request(r);
}

std::string session::peer() const {
  if (peer_.empty()) peer_ = look_up_peer();
  return peer_;
}

std::string session::look_up_peer() const {
  error_code gone;
  const auto there = socket_.remote_endpoint(gone);
  if (gone) return {};
  const auto address = there.address();
  if (address.is_v6() && address.to_v6().is_v4_mapped())
    return asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6()).to_string();
  return address.to_string();
}

// ---- the client's leaving

void session::watch_if_serving() {
  to_be_watched_ = false;
  if (serving_) watch();
}

/// Waits for the client to close while its request is served. A half-close counts as leaving: it cannot be
/// told from it.
void session::watch() {
  if (watching_) return;
  watching_ = true;
  socket_.async_wait(asio::ip::tcp::socket::wait_read,
                     [self = shared_from_this()](const error_code& ec) { self->on_readable(ec); });
}

void session::on_readable(const error_code& ec) {
  watching_ = false;
  if (!serving_ || gone_.stop_requested()) return;
  if (ec == asio::error::operation_aborted) return watch();  // a deadline of ours, not the client
  // What comes now is the next request (pipelining): kept within the buffer's cap, and not looked at before
  // its turn. Over the cap it is thrown away, since the client's end stands behind it, and never served.
  error_code failed;
  if (const std::size_t room = buffer_.max_size() - buffer_.size(); room > 0) {
    const auto space = buffer_.prepare(std::min<std::size_t>(room, 4096));
    const std::size_t n = tls_ ? tls_->read_some(space, failed) : socket_.read_some(space, failed);
    if (!failed) buffer_.commit(n);
  } else {
    std::array<char, 4096> nowhere;
    keep_alive_ = false;
    thrown_away_ += tls_ ? tls_->read_some(asio::buffer(nowhere), failed)
                         : socket_.read_some(asio::buffer(nowhere), failed);
    if (thrown_away_ > most_behind) return leave();
  }
  if (failed && failed != asio::error::would_block) return leave();
  watch();
}

void session::leave() {
  keep_alive_ = false;
  gone_.request_stop();
}

}  // namespace pocketfleet
