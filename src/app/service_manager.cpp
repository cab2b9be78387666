#include "pocketfleet/app/service_manager.hpp"

#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include <algorithm>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <system_error>

#include "pocketfleet/app/listen_address.hpp"
#include "pocketfleet/app/log.hpp"

namespace pocketfleet {
namespace {

using std::chrono::microseconds;

constexpr microseconds state_interval = seconds{5};

void tell(const std::string& text) {
  ::sd_notify(0, text.c_str());  // whoever does not take it does without
}

/// systemd compares it with its own clock to tell this reload from an earlier one.
std::string monotonic_now() {
  std::timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::to_string(now.tv_sec * 1'000'000LL + now.tv_nsec / 1000);
}

result<listen_address> address_of(int socket) {
  asio::ip::tcp::endpoint where;
  auto size = static_cast<socklen_t>(where.capacity());
  if (::getsockname(socket, where.data(), &size) != 0)
    return error(errc::aborted, "getsockname: " + std::generic_category().message(errno));
  where.resize(size);
  return listen_address{where.address().to_string(), where.port()};
}

}  // namespace

void tell_ready() {
  tell("READY=1");
}

void tell_stopping(seconds longest) {
  tell("STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=" +
       std::to_string(std::chrono::duration_cast<microseconds>(longest).count()));
}

reload_notice::reload_notice() {
  tell("RELOADING=1\nMONOTONIC_USEC=" + monotonic_now());
}
reload_notice::~reload_notice() {
  tell_ready();
}

result<std::optional<int>> handed_socket(const std::string& address, std::uint16_t port) {
  const int count = ::sd_listen_fds(1);
  if (count == 0) return std::optional<int>{};
  const std::string handed = "the service manager has handed over ";
  if (count < 0)
    return error(errc::bad_request, handed + "no socket: " + std::generic_category().message(-count));
  if (count != 1) return error(errc::bad_request, handed + "something else than one socket");
  const int socket = SD_LISTEN_FDS_START;
  if (::sd_is_socket_inet(socket, AF_UNSPEC, SOCK_STREAM, 1, 0) <= 0)
    return error(errc::bad_request, handed + "something else than a TCP socket that listens");
  auto at = address_of(socket);
  if (!at) return at.error();
  const bool same = asio::ip::make_address(at->address) == asio::ip::make_address(address) &&
                    (port == 0 || at->port == port);
  if (same) return std::optional<int>{socket};
  return error(errc::bad_request,
               handed + "a socket at " + to_string(*at) + ", but the gateway is to listen at " +
                   to_string(listen_address{address, port}) +
                   ": ListenStream= of the socket unit and \"listen\" in the file have to agree");
}

service_reports::service_reports(std::vector<asio::io_context*> loops, std::function<std::string()> state)
    : loops_(std::move(loops)), state_(std::move(state)), timer_(*loops_.front()) {
  std::uint64_t limit = 0;
  if (::sd_watchdog_enabled(0, &limit) > 0) watchdog_ = microseconds(limit);
}

void service_reports::start() {
  if (watchdog_ == microseconds{0} && std::getenv("NOTIFY_SOCKET") == nullptr) return;
  next();
}

void service_reports::next() {
  tell_state();
  if (watchdog_ > microseconds{0}) ask_all();
  timer_.expires_after(watchdog_ > microseconds{0} ? std::min(watchdog_ / 2, state_interval)
                                                   : state_interval);
  timer_.async_wait([this](const boost::system::error_code& ec) {
    if (!ec) next();
  });
}

void service_reports::tell_state() {
  std::string now = state_();
  if (now == told_) return;
  told_ = std::move(now);
  tell("STATUS=" + told_);
}

void service_reports::ask_all() {
  if (round_ && round_->unanswered > 0) {
    log(log_level::warning, "a worker does not answer",
        {{"workers", static_cast<std::int64_t>(round_->unanswered.load())}});
    return;
  }
  round_ = std::make_shared<round>();
  round_->unanswered = loops_.size();
  for (asio::io_context* loop : loops_) {
    asio::post(*loop, [asked = round_] {
      if (--asked->unanswered == 0) tell("WATCHDOG=1");
    });
  }
}

}  // namespace pocketfleet
