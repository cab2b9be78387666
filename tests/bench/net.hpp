// What the two benchmark programs share: sockets on loopback, and the few lines of HTTP they need. Both are
// one thread and one epoll, and neither checks what a stranger could send: they only ever talk to programs
// that the benchmark started. Boost is left out so that their own cost stays far below that of what is
// measured.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace pocketfleet::bench {

using steady = std::chrono::steady_clock;

[[noreturn]] inline void die(std::string_view what) {
  std::fprintf(stderr, "%.*s\n", static_cast<int>(what.size()), what.data());
  std::exit(2);
}

/// Ends the program with errno's text if `value` says that a system call failed.
inline int checked(int value, const char* what) {
  if (value < 0) die(std::string(what) + ": " + std::generic_category().message(errno));
  return value;
}

/// A socket, closed with its owner.
class socket_fd {
 public:
  explicit socket_fd(int fd = -1) : fd_(fd) {}
  socket_fd(socket_fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  socket_fd& operator=(socket_fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~socket_fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

inline sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

inline void without_delay(int fd) {
  const int on = 1;
  checked(::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "TCP_NODELAY");
}

inline void watch(int epoll, int fd, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  checked(::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

/// The value of a header field, `lower_case_name` being as its name says. `head` is the start line and the
/// fields, each line with its CRLF.
inline std::optional<std::string_view> field(std::string_view head, std::string_view lower_case_name) {
  for (std::size_t line = head.find("\r\n"); line != std::string_view::npos && line + 2 < head.size();) {
    const std::size_t begin = line + 2;
    line = head.find("\r\n", begin);
    const std::string_view text = head.substr(begin, line - begin);
    const std::size_t length = lower_case_name.size();
    if (text.size() <= length || text[length] != ':') continue;
    if (::strncasecmp(text.data(), lower_case_name.data(), length) != 0) continue;
    const std::size_t value = text.find_first_not_of(" \t", length + 1);
    return value == std::string_view::npos ? std::string_view{} : text.substr(value);
  }
  return std::nullopt;
}

template <class Number>
std::optional<Number> number(std::string_view text, int base = 10) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc{} || end == text.data()) return std::nullopt;
  return value;
}

/// `--name value` from the command line, one at a time; anything else ends the program with `usage`.
class arguments {
 public:
  arguments(int count, char** values, std::string_view usage)
      : count_(count), values_(values), usage_(usage) {}

  /// The next option's name, or an empty text after the last.
  std::string_view next() { return ++at_ < count_ ? std::string_view{values_[at_]} : std::string_view{}; }

  std::string_view text() {
    if (++at_ >= count_) wrong();
    return values_[at_];
  }

  template <class Number>
  Number at_least(Number least) {
    const auto value = number<Number>(text());
    if (!value || *value < least) wrong();
    return *value;
  }

  [[noreturn]] void wrong() const { die(usage_); }

 private:
  int count_;
  char** values_;
  std::string_view usage_;
  int at_ = 0;
};

}  // namespace pocketfleet::bench
