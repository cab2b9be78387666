#include "phone_exchange.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <boost/asio/write.hpp>
#include <boost/beast/http/error.hpp>

#include "name_lookup.hpp"
#include "pocketfleet/transport/framing_guard.hpp"

namespace pocketfleet {
namespace {

namespace http = boost::beast::http;
using boost::system::error_code;

/// Up to here a copy into one buffer costs less than a system call that gathers two.
constexpr std::size_t worth_gathering = 4096;

/// So that a phone that has left the Wi-Fi without a word is noticed: after 10 + 3 x 5 s when nothing is on
/// its way (measured: 23 s), after 20 s when something is, which keepalive alone never notices.
void watch_for_silence(tcp_socket& socket) {
  const auto set = [&](int level, int name, int value) {
    ::setsockopt(socket.native_handle(), level, name, &value, sizeof value);
  };
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 10);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 20'000);
  set(IPPROTO_TCP, TCP_NODELAY, 1);
}

}  // namespace

pooled_exchange::pooled_exchange(std::shared_ptr<phone_pool> pool, std::shared_ptr<const phone_target> phone,
                                 std::string traceparent)
    : pool_(std::move(pool)),
      phone_(std::move(phone)),
      traceparent_(std::move(traceparent)),
      guard_(pool_->dog(), [this] { expire(); }) {}

pooled_exchange::~pooled_exchange() {
  // A connection goes back only if the response has ended and nothing stands behind it.
  if (connection_ && parser_ && parser_->is_done() && parser_->keep_alive() &&
      connection_->buffer.size() == 0) {
    pool_->give_back(*phone_, std::move(connection_));
  }
}

void pooled_exchange::expire() {
  expired_ = true;
  if (name_waiter_) name_waiter_->wake();
  error_code ignored;
  if (connection_) connection_->socket.cancel(ignored);
}

void pooled_exchange::abort() {
  aborted_ = true;
  if (name_waiter_) name_waiter_->wake();
  error_code ignored;
  // Closed at once, not when the coroutine gets round to it: the phone is to stop now.
  if (connection_) connection_->socket.close(ignored);
}

error pooled_exchange::broken(errc otherwise) const {
  if (aborted_) return errc::aborted;
  switch (otherwise) {
    case errc::connect_failed: return {otherwise, "the phone cannot be reached"};
    case errc::stalled: return {otherwise, "the phone has gone silent"};
    case errc::first_token_timeout: return {otherwise, "the phone gave no answer in time"};
    case errc::bad_response: return {otherwise, "the phone's answer is not sound HTTP"};
    default: return {errc::connection_lost, "the connection to the phone was lost"};
  }
}

// ---- request

task<result<phone_response_head>> pooled_exchange::send(std::string_view method, std::string_view target,
                                                        std::string_view body, time_point deadline) {
  std::string head;
  head.reserve(256 + (body.size() < worth_gathering ? body.size() : 0));
  head.append(method).append(" ").append(target).append(" HTTP/1.1\r\nHost: ").append(phone_->host_header);
  head.append("\r\nUser-Agent: pocketfleet\r\nAccept: */*\r\n");
  if (!phone_->api_key.empty()) head.append("Authorization: Bearer ").append(phone_->api_key).append("\r\n");
  if (!traceparent_.empty()) head.append("traceparent: ").append(traceparent_).append("\r\n");
  if (!body.empty()) {
    head.append("Content-Type: application/json\r\nContent-Length: ")
        .append(std::to_string(body.size()))
        .append("\r\n");
  }
  head.append("\r\n");
  if (body.size() < worth_gathering) {
    head.append(body);
    body = {};
  }

  for (;;) {
    guard_.set(deadline);
    result<phone_response_head> got = error(errc::connection_lost);
    result<void> written{};
    if (const auto sent = write_at_once(head, body); !sent) {
      written = sent.error();
    } else if (*sent < head.size() + body.size()) {
      written = co_await write_rest(head, body, *sent);
    }
    if (written) {
      got = co_await read_head();
    } else {
      got = written.error();
    }
    guard_.never();
    // A phone may close an idle connection while we take it from the pool. That is nobody's fault: once more,
    // anew.
    const bool stale = !got && got.error().code == errc::connection_lost && reused_ && !heard_ && !expired_;
    if (!stale) co_return got;
    if (auto done = co_await connect_anew(deadline); !done) co_return done.error();
  }
}

task<result<void>> pooled_exchange::connect(time_point deadline) {
  connection_ = pool_->take(*phone_);
  reused_ = connection_ != nullptr;
  if (reused_) co_return result<void>{};
  co_return co_await connect_anew(deadline);
}

task<result<void>> pooled_exchange::connect_anew(time_point deadline) {
  reused_ = false;
  connection_ = pool_->make();
  guard_.set(std::min(deadline, clock::now() + pool_->settings().connect_time));
  error_code no_address;
  const auto address = asio::ip::make_address(phone_->host, no_address);
  result<void> done = broken(errc::connect_failed);
  bool outside = false;
  if (!no_address) {
    const tcp::endpoint where(address, phone_->port);
    done = co_await connect_to(where);
  } else {
    const auto found = co_await look_up();
    for (auto it = found.begin(); it != found.end() && !done && !expired_ && !aborted_; ++it) {
      // Whoever answers for a name on this network must not lead the gateway out of it.
      if ((phone_->confined || !it->is_loopback()) && !pool_->settings().allowed.contains(it->to_string())) {
        outside = true;
        continue;
      }
      const tcp::endpoint where(*it, phone_->port);
      done = co_await connect_to(where);
    }
  }
  guard_.never();
  if (aborted_) co_return error(errc::aborted);
  if (!done && outside)
    co_return error(errc::connect_failed, "the phone's name leads to an address outside phone_networks");
  if (!done && done.error().code == errc::bad_response) co_return done;
  if (!done && done.error().code != errc::overloaded) co_return broken(errc::connect_failed);
  co_return done;
}

/// The addresses of the phone's name; none when it is not known, or not in time.
task<std::vector<asio::ip::address>> pooled_exchange::look_up() {
  const auto lookup = pool_->look_up(phone_->host);
  name_waiter_ = std::make_shared<waker>(pool_->executor_of());
  struct place {
    place(name_lookup& of, std::shared_ptr<waker> w) : at(of), who(std::move(w)) { at.add(who); }
    place(const place&) = delete;
    place& operator=(const place&) = delete;
    ~place() { at.remove(who); }
    name_lookup& at;
    std::shared_ptr<waker> who;
  };
  {
    const place mine(*lookup, name_waiter_);
    while (!lookup->done() && !expired_ && !aborted_) co_await name_waiter_->wait();
  }
  name_waiter_.reset();
  if (!lookup->done()) co_return std::vector<asio::ip::address>{};
  co_return lookup->addresses();
}

task<result<void>> pooled_exchange::connect_to(const tcp::endpoint& where) {
  error_code ignored;
  connection_->tls.reset();
  connection_->socket.close(ignored);
  error_code opened;
  connection_->socket.open(where.protocol(), opened);
  if (opened) co_return error(errc::overloaded, "the gateway has no socket left");  // not the phone's fault
  watch_for_silence(connection_->socket);
  const auto [ec] = co_await connection_->socket.async_connect(where, use_result);
  if (ec || expired_ || aborted_) co_return broken(errc::connect_failed);
  connection_->socket.non_blocking(true, ignored);
  if (phone_->tls) co_return co_await shake_hands();
  co_return result<void>{};
}

/// Until the socket can do what the TLS channel wants.
task<error_code> pooled_exchange::ready() {
  const auto what = connection_->tls->wants_write() ? tcp_socket::wait_write : tcp_socket::wait_read;
  const auto [ec] = co_await connection_->socket.async_wait(what, use_result);
  co_return expired_ || aborted_ ? error_code(asio::error::operation_aborted) : ec;
}

task<result<void>> pooled_exchange::shake_hands() {
  const auto& context = pool_->settings().tls;
  if (!context) co_return broken(errc::connect_failed);
  connection_->tls.emplace(context, connection_->socket.native_handle(), phone_->host);
  error_code ec;
  for (connection_->tls->shake_hands(ec); ec == asio::error::would_block; connection_->tls->shake_hands(ec)) {
    if (ec = co_await ready(); ec) break;
  }
  if (aborted_ || expired_) co_return broken(errc::connect_failed);
  if (ec)
    co_return error(errc::bad_response, "no TLS with the phone, or its certificate is not to be trusted");
  co_return result<void>{};
}

task<result<void>> pooled_exchange::write_encrypted(std::string_view bytes) {
  while (!bytes.empty()) {
    error_code ec;
    const std::size_t n = connection_->tls->write_some(asio::buffer(bytes.data(), bytes.size()), ec);
    bytes.remove_prefix(n);
    if (ec == asio::error::would_block) ec = co_await ready();
    if (ec) co_return broken(expired_ ? errc::first_token_timeout : errc::connection_lost);
  }
  co_return result<void>{};
}

/// How much of it went out without waiting: nearly always all.
result<std::size_t> pooled_exchange::write_at_once(std::string_view head, std::string_view body) {
  if (connection_->tls) return std::size_t{0};
  const std::array<asio::const_buffer, 2> both{asio::buffer(head.data(), head.size()),
                                               asio::buffer(body.data(), body.size())};
  error_code ec;
  const std::size_t sent =
      body.empty() ? connection_->socket.write_some(both[0], ec) : connection_->socket.write_some(both, ec);
  if (ec == asio::error::would_block) return std::size_t{0};
  if (ec) return broken(expired_ ? errc::first_token_timeout : errc::connection_lost);
  return sent;
}

task<result<void>> pooled_exchange::write_rest(std::string_view head, std::string_view body,
                                               std::size_t sent) {
  if (connection_->tls) {
    if (auto first = co_await write_encrypted(head); !first) co_return first;
    co_return co_await write_encrypted(body);
  }
  const std::array<asio::const_buffer, 2> both{asio::buffer(head.data(), head.size()),
                                               asio::buffer(body.data(), body.size())};
  std::array<asio::const_buffer, 2> rest{};
  rest[0] = sent < head.size() ? both[0] + sent : asio::const_buffer{};
  rest[1] = sent < head.size() ? both[1] : both[1] + (sent - head.size());
  const auto [failed, n] = co_await asio::async_write(connection_->socket, rest, use_result);
  if (failed) co_return broken(expired_ ? errc::first_token_timeout : errc::connection_lost);
  co_return result<void>{};
}

// ---- response

/// For more bytes from the phone. Empty: it is full of a header, trailer or chunk extension without end.
asio::mutable_buffer pooled_exchange::room() {
  auto& buffer = connection_->buffer;
  const std::size_t most = buffer.max_size() - buffer.size();
  return buffer.prepare(std::min(most, connection_->next_read));
}

/// Bytes have come into the room, or why none will.
result<void> pooled_exchange::filled(const error_code& ec, std::size_t bytes) {
  if (aborted_) return error(errc::aborted);
  if (expired_) return broken(parser_->is_header_done() ? errc::stalled : errc::first_token_timeout);
  if (ec == asio::error::eof && parser_->is_header_done()) {
    error_code bad;
    parser_->put_eof(bad);
    if (!bad) return {};
  }
  if (ec) return broken(errc::connection_lost);
  heard_ = true;
  connection_->buffer.commit(bytes);
  // Who sends a lot at a time is read a lot at a time.
  if (bytes >= connection_->next_read) connection_->next_read = phone_connection::large_read;
  return {};
}

task<result<void>> pooled_exchange::fill_encrypted(asio::mutable_buffer space) {
  error_code ec;
  std::size_t n = 0;
  for (n = connection_->tls->read_some(space, ec); ec == asio::error::would_block;
       n = connection_->tls->read_some(space, ec)) {
    if (ec = co_await ready(); ec) break;
  }
  co_return filled(ec, n);
}

/// Gives what the buffer holds to the parser; how many bytes of body came out.
result<std::size_t> pooled_exchange::parse() {
  auto& body = parser_->get().body();
  const auto scratch = pool_->scratch();
  body.data = scratch.data();
  body.size = scratch.size();
  body.more = true;
  error_code ec;
  try {
    connection_->buffer.consume(parser_->put(connection_->buffer.data(), ec));
  } catch (const std::exception&) {  // Beast 345: std::length_error for an endless trailer field
    return broken(errc::bad_response);
  }
  if (ec && ec != http::error::need_more && ec != http::error::need_buffer) return broken(errc::bad_response);
  return parser_->is_header_done() ? scratch.size() - body.size : 0;
}

task<result<phone_response_head>> pooled_exchange::read_head() {
  for (unsigned interim = 0; interim < 8; ++interim) {
    parser_.emplace();
    parser_->header_limit(16384);
    parser_->body_limit(boost::none);
    parser_->eager(false);  // stop behind the header
    while (!parser_->is_header_done()) {
      if (connection_->buffer.size() > 0) {
        const std::size_t before = connection_->buffer.size();
        if (auto parsed = parse(); !parsed) co_return parsed.error();
        if (parser_->is_header_done() || connection_->buffer.size() != before) continue;
      }
      const asio::mutable_buffer space = room();
      if (space.size() == 0) co_return broken(errc::bad_response);
      result<void> more{};
      if (connection_->tls) {
        more = co_await fill_encrypted(space);
      } else {
        const auto [ec, n] = co_await connection_->socket.async_read_some(space, use_result);
        more = filled(ec, n);
      }
      if (!more) co_return more.error();
    }
    if (parser_->get().result_int() / 100 != 1) break;  // 100 Continue and the like: the real one follows
  }
  if (parser_->get().result_int() / 100 == 1 || !framing_is_sound(parser_->get().base())) {
    co_return broken(errc::bad_response);
  }
  parser_->eager(true);
  const auto& head = parser_->get();
  co_return phone_response_head{static_cast<int>(head.result_int()), std::string(head[http::field::server]),
                                std::string(head[http::field::content_type])};
}

task<result<std::string_view>> pooled_exchange::read(time_point deadline) {
  if (!connection_ || !parser_) co_return broken(errc::connection_lost);
  guard_.set(deadline);
  for (;;) {
    if (connection_->buffer.size() > 0 && !parser_->is_done()) {
      const auto got = parse();
      if (!got) co_return got.error();
      if (*got > 0) {
        guard_.never();
        co_return std::string_view(pool_->scratch().data(), *got);
      }
    }
    if (parser_->is_done()) {
      guard_.never();
      co_return std::string_view{};
    }
    const asio::mutable_buffer space = room();
    if (space.size() == 0) co_return broken(errc::bad_response);
    result<void> more{};
    if (connection_->tls) {
      more = co_await fill_encrypted(space);
    } else {
      const auto [ec, n] = co_await connection_->socket.async_read_some(space, use_result);
      more = filled(ec, n);
    }
    if (!more) co_return more.error();
  }
}

}  // namespace pocketfleet
