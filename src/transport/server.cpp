#include "pocketfleet/transport/server.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <system_error>

#include "session.hpp"

namespace pocketfleet {
namespace {

using boost::system::error_code;
constexpr milliseconds unwatched{5};       // a request's first moments
constexpr milliseconds accept_pause{150};  // after EMFILE and the like: time for descriptors to come free

}  // namespace

server::server(executor where, gateway_face& face, const phone_link_settings& links)
    : executor_(where),
      face_(face),
      acceptor_(where),
      dog_(std::make_shared<watchdog>(where)),
      phones_(std::make_shared<phone_pool>(where, dog_, links)),
      watch_time_(where) {}

result<std::uint16_t> server::listen(std::uint16_t port) {
  error_code ec;
  const auto address = asio::ip::make_address(face_.settings.address, ec);
  const std::string name = face_.settings.address + ":" + std::to_string(port);
  const auto failed = [&] { return error(errc::aborted, "cannot listen on " + name + ": " + ec.message()); };
  if (ec) return failed();
  const asio::ip::tcp::endpoint where(address, port);
  acceptor_.open(where.protocol(), ec);
  if (ec) return failed();
  acceptor_.set_option(asio::socket_base::reuse_address(true), ec);
  acceptor_.bind(where, ec);
  if (ec) return failed();
  acceptor_.listen(asio::socket_base::max_listen_connections, ec);
  if (ec) return failed();
  return acceptor_.local_endpoint().port();
}

result<std::uint16_t> server::take_over(int listening) {
  error_code ec;
  sockaddr_storage where{};
  socklen_t size = sizeof where;
  if (::getsockname(listening, reinterpret_cast<sockaddr*>(&where), &size) != 0)
    ec.assign(errno, boost::system::system_category());
  const bool v6 = where.ss_family == AF_INET6;
  if (!ec) acceptor_.assign(v6 ? asio::ip::tcp::v6() : asio::ip::tcp::v4(), listening, ec);
  if (ec) return error(errc::aborted, "cannot use the socket that was handed over: " + ec.message());
  return acceptor_.local_endpoint().port();
}

void server::share(server& other) {
  const int socket = ::dup(other.acceptor_.native_handle());
  if (socket < 0) throw std::system_error(errno, std::generic_category(), "dup");
  acceptor_.assign(other.acceptor_.local_endpoint().protocol(), socket);
}

void server::start() {
  accepting_ = true;
  asio::co_spawn(executor_, accept(), [self = shared_from_this()](const std::exception_ptr& thrown) {
    if (thrown && !self->draining_) {
      ++self->face_.counters.accept_errors;  // out of memory: go on
      return self->start();
    }
    self->accepting_ = false;
    self->look_whether_drained();
  });
}

task<> server::accept() {
  const auto self = shared_from_this();
  wait_timer pause(executor_);
  while (!draining_) {
    tcp_socket socket(executor_);
    const auto [ec] = co_await acceptor_.async_accept(socket, use_result);
    if (ec && draining_) co_return;
    if (ec) {
      ++face_.counters.accept_errors;
      if (face_.complain) face_.complain("cannot accept connections", ec.message());
      pause.expires_after(accept_pause);
      co_await pause.async_wait(use_result);
      continue;
    }
    ++face_.counters.accepted;
    if (face_.counters.open >= static_cast<std::int64_t>(face_.settings.connections)) {
      ++face_.counters.turned_away;  // closed at once: whoever is connected goes on undisturbed
      continue;
    }
    const auto opened = std::make_shared<session>(std::move(socket), self, face_.tls());
    sessions_.insert(opened.get());
    // The fence: whatever a session throws ends that session.
    asio::co_spawn(executor_, opened->run(), [opened](const std::exception_ptr&) {});
    if (draining_) opened->finish_up();  // it came just before
  }
}

void server::drain(std::function<void()> drained) {
  draining_ = true;
  drained_ = std::move(drained);
  error_code ignored;
  acceptor_.close(ignored);
  for (session* s : std::vector<session*>(sessions_.begin(), sessions_.end())) s->finish_up();
  look_whether_drained();
}

/// Not before accept() has ended: it may hold one that came at the last moment.
void server::look_whether_drained() {
  if (draining_ && !accepting_ && sessions_.empty() && drained_)
    asio::post(executor_, std::exchange(drained_, nullptr));
}

void server::drop() {
  draining_ = true;
  drained_ = nullptr;
  error_code ignored;
  acceptor_.close(ignored);
  for (session* s : std::vector<session*>(sessions_.begin(), sessions_.end())) s->abandon();
}

void server::watch_later(session* s) {
  to_watch_.push_back(s);
  if (to_watch_.size() > 1) return;  // the time is running
  watch_time_.expires_after(unwatched);
  watch_time_.async_wait([weak = weak_from_this()](const error_code& ec) {
    const auto self = weak.lock();
    if (ec || !self) return;
    for (session* each : std::exchange(self->to_watch_, {})) each->watch_if_serving();
  });
}

void server::remove(session* s) {
  sessions_.erase(s);
  std::erase(to_watch_, s);
  look_whether_drained();
}

std::string_view server::date() {
  const std::int64_t second = std::time(nullptr);
  if (second != date_second_) {
    date_second_ = second;
    const std::time_t time = second;
    std::tm parts{};
    gmtime_r(&time, &parts);
    char text[40];
    date_.assign(text, std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &parts));
  }
  return date_;
}

}  // namespace pocketfleet
