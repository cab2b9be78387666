// The benchmark's phone: Ollama's wire, an answer of N equal tokens, next to no work of its own.
//
// One process may play several phones (one port each). An answer's tokens go out in one write, which makes
// the cheapest request there is; or, with --pause-us, one write for each token at a steady rate, every stream
// at a phase of its own, as tokens come from phones: each is a TCP segment and a wake-up for whoever relays
// it.
//
// Every token ends in '~', which stands nowhere else, so the load generator can count tokens through any
// format.
#include <fcntl.h>
#include <sys/timerfd.h>

#include <cmath>
#include <map>
#include <memory>
#include <queue>
#include <vector>

#include "net.hpp"

namespace pocketfleet::bench {
namespace {

constexpr std::string_view usage =
    "usage: bench_backend [--ports N] [--tokens N] [--pause-us N]\n"
    "  --ports N     play N phones, each on a free port of 127.0.0.1 (1)\n"
    "  --tokens N    length of an answer where the request has no options.num_predict (4)\n"
    "  --pause-us N  one write a token, so far apart (0: the whole answer in one write)\n"
    "Prints {\"ports\":[...]} when it listens, and serves until a signal ends it.\n";

constexpr std::size_t most_tokens = 100'000;
constexpr std::size_t most_request_bytes = std::size_t{8} << 20U;

constexpr std::string_view member_head = R"({"model":"bench","created_at":"2026-01-01T00:00:00.000000000Z",)";
constexpr std::string_view token_tail = R"("message":{"role":"assistant","content":" wor~"},"done":false})";

std::string done_members(std::size_t tokens) {
  return R"("done_reason":"stop","done":true,"total_duration":5000000,"load_duration":100000,"prompt_eval_count":16,)"
         R"("prompt_eval_duration":1000000,"eval_count":)" +
         std::to_string(tokens) + R"(,"eval_duration":4000000})";
}

std::string chunk(std::string_view data) {
  char size[20];
  const int length = std::snprintf(size, sizeof size, "%zx\r\n", data.size());
  return std::string(size, static_cast<std::size_t>(length)).append(data).append("\r\n");
}

std::string whole(std::string_view status, std::string_view type, std::string_view body) {
  return std::string("HTTP/1.1 ")
      .append(status)
      .append("\r\nContent-Type: ")
      .append(type)
      .append("\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Length: ")
      .append(std::to_string(body.size()))
      .append("\r\n\r\n")
      .append(body);
}

/// The bytes of every answer, made once.
class answers {
 public:
  const std::string& first_chunk() const { return first_; }
  const std::string& next_chunk() const { return next_; }
  static std::string last_chunk(std::size_t tokens) {
    return chunk(std::string(member_head) + R"("message":{"role":"assistant","content":""},)" +
                 done_members(tokens) + "\n") +
           "0\r\n\r\n";
  }

  const std::string& streamed(std::size_t tokens) {
    std::string& text = streamed_[tokens];
    if (text.empty()) {
      text = tokens > 0 ? first_ : head_;
      for (std::size_t i = 1; i < tokens; ++i) text += next_;
      text += last_chunk(tokens);
    }
    return text;
  }

  const std::string& at_once(std::size_t tokens) {
    std::string& text = at_once_[tokens];
    if (text.empty()) {
      std::string content;
      for (std::size_t i = 0; i < tokens; ++i) content += " wor~";
      text = whole("200 OK", "application/json; charset=utf-8",
                   std::string(member_head) + R"("message":{"role":"assistant","content":")" + content +
                       "\"}," + done_members(tokens));
    }
    return text;
  }

 private:
  const std::string head_ =
      "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
      "Transfer-Encoding: chunked\r\n\r\n";
  const std::string next_ = chunk(std::string(member_head).append(token_tail).append("\n"));
  const std::string first_ = head_ + next_;
  std::map<std::size_t, std::string> streamed_;
  std::map<std::size_t, std::string> at_once_;
};

struct connection {
  socket_fd fd;
  std::uint64_t serial = 0;  ///< tells a connection from a later one with the same descriptor
  std::string in{};          ///< of requests, not served yet
  std::string out{};         ///< what the socket did not take
  std::size_t tokens = 0;    ///< of the running paced answer
  std::size_t tokens_sent = 0;
  bool streaming = false;
};

struct tick {
  steady::time_point due;
  int fd;
  std::uint64_t serial;
  bool operator>(const tick& other) const { return due > other.due; }
};

class backend {
 public:
  backend(std::size_t tokens, std::chrono::microseconds pause) : default_tokens_(tokens), pause_(pause) {
    epoll_ = socket_fd(checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1"));
    timer_ =
        socket_fd(checked(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), "timerfd_create"));
    watch(epoll_.get(), timer_.get(), EPOLLIN);
  }

  std::uint16_t listen() {
    socket_fd fd(checked(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket"));
    sockaddr_in address = loopback(0);
    socklen_t length = sizeof address;
    checked(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), length), "bind");
    checked(::listen(fd.get(), 1024), "listen");
    checked(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length), "getsockname");
    watch(epoll_.get(), fd.get(), EPOLLIN);
    listeners_.push_back(std::move(fd));
    return ntohs(address.sin_port);
  }

  [[noreturn]] void run() {
    epoll_event events[256];
    for (;;) {
      const int count = ::epoll_wait(epoll_.get(), events, 256, -1);
      if (count < 0 && errno != EINTR) checked(count, "epoll_wait");
      for (int i = 0; i < count; ++i) {
        const int fd = events[i].data.fd;
        if (fd == timer_.get()) {
          send_due();
        } else if (is_listener(fd)) {
          accept(fd);
        } else {
          ready(fd, events[i].events);
        }
      }
    }
  }

 private:
  bool is_listener(int fd) const {
    for (const socket_fd& listener : listeners_)
      if (listener.get() == fd) return true;
    return false;
  }

  connection* find(int fd) {
    const auto index = static_cast<std::size_t>(fd);
    return index < connections_.size() ? connections_[index].get() : nullptr;
  }

  void close(int fd) { connections_[static_cast<std::size_t>(fd)].reset(); }

  void accept(int listener) {
    for (;;) {
      const int fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) return;
      without_delay(fd);
      const auto index = static_cast<std::size_t>(fd);
      if (connections_.size() <= index) connections_.resize(index + 1);
      connections_[index] = std::make_unique<connection>(connection{socket_fd(fd), ++serial_});
      watch(epoll_.get(), fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    }
  }

  void ready(int fd, std::uint32_t events) {
    connection* c = find(fd);
    if (c == nullptr) return;
    if ((events & EPOLLOUT) != 0 && !c->out.empty() && !flush(*c)) return close(fd);
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) == 0) return;
    for (;;) {
      const ssize_t got = ::recv(fd, buffer_, sizeof buffer_, 0);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && errno == EAGAIN) break;
      if (got <= 0) return close(fd);
      c->in.append(buffer_, static_cast<std::size_t>(got));
      if (c->in.size() > most_request_bytes) return close(fd);
      // Edge-triggered: a short read has emptied the socket, unless the end of the stream came with it.
      if (static_cast<std::size_t>(got) < sizeof buffer_ &&
          (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) == 0)
        break;
    }
    if (!serve(*c)) close(fd);
  }

  /// Serves every whole request that has come. False: the connection is to be closed.
  bool serve(connection& c) {
    std::size_t used = 0;
    while (!c.streaming) {
      const std::string_view rest = std::string_view(c.in).substr(used);
      const std::size_t end = rest.find("\r\n\r\n");
      if (end == std::string_view::npos) break;
      const std::string_view head = rest.substr(0, end + 2);
      if (field(head, "transfer-encoding")) return false;  // no contender sends a request in chunks
      const auto length = number<std::size_t>(field(head, "content-length").value_or("0"));
      if (!length) return false;
      if (rest.size() - end - 4 < *length) break;
      if (!answer(c, head, rest.substr(end + 4, *length))) return false;
      used += end + 4 + *length;
    }
    c.in.erase(0, used);
    return true;
  }

  bool answer(connection& c, std::string_view head, std::string_view body) {
    if (head.starts_with("POST /api/chat ")) return chat(c, body);
    const bool with_body = !head.starts_with("HEAD ");
    const std::string_view target = head.substr(head.find(' ') + 1);
    std::string text;
    constexpr std::string_view json = "application/json; charset=utf-8";
    if (target.starts_with("/ ")) {
      text = whole("200 OK", "text/plain; charset=utf-8", "Ollama is running");
    } else if (target.starts_with("/api/version ")) {
      text = whole("200 OK", json, R"({"version":"0.33.0"})");
    } else if (target.starts_with("/api/tags ")) {
      text = whole("200 OK", json, model_list("\"modified_at\":\"2026-01-01T00:00:00Z\""));
    } else if (target.starts_with("/api/ps ")) {
      text = whole(
          "200 OK", json,
          model_list("\"expires_at\":\"2126-01-01T00:00:00Z\",\"size_vram\":0,\"context_length\":4096"));
    } else {
      text = whole("404 Not Found", json, R"({"error":"the benchmark's phone has no such page"})");
    }
    if (!with_body) text.resize(text.find("\r\n\r\n") + 4);
    return send(c, text);
  }

  static std::string model_list(std::string_view members) {
    return std::string(
               R"({"models":[{"name":"bench","model":"bench","size":1000000,"digest":"00000000000000000000000000000000)"
               R"(00000000000000000000000000000000","details":{"parent_model":"","format":"gguf","family":"bench",)"
               R"("families":["bench"],"parameter_size":"1M","quantization_level":"Q4_0"},)")
        .append(members)
        .append("}]}");
  }

  bool chat(connection& c, std::string_view body) {
    const std::size_t tokens = std::min(member(body, "\"num_predict\":", default_tokens_), most_tokens);
    const std::size_t stream = body.find("\"stream\":");
    const bool streamed =
        stream == std::string_view::npos || after_spaces(body, stream + 9).starts_with("true");
    if (!streamed) return send(c, answers_.at_once(tokens));
    if (pause_.count() == 0 || tokens == 0) return send(c, answers_.streamed(tokens));
    c.streaming = true;
    c.tokens = tokens;
    c.tokens_sent = 0;
    // Phases from the golden ratio are spread evenly, however many streams there are.
    const double phase = std::fmod(static_cast<double>(++streams_) * 0.6180339887498949, 1.0);
    const auto wait = std::chrono::duration_cast<steady::duration>(phase * pause_);
    schedule(tick{steady::now() + wait, c.fd.get(), c.serial});
    return true;
  }

  static std::string_view after_spaces(std::string_view text, std::size_t from) {
    const std::size_t at = text.find_first_not_of(" \t", from);
    return at == std::string_view::npos ? std::string_view{} : text.substr(at);
  }

  static std::size_t member(std::string_view body, std::string_view key, std::size_t otherwise) {
    const std::size_t at = body.find(key);
    if (at == std::string_view::npos) return otherwise;
    return number<std::size_t>(after_spaces(body, at + key.size())).value_or(otherwise);
  }

  void schedule(const tick& next) {
    const bool first = ticks_.empty() || next.due < ticks_.top().due;
    ticks_.push(next);
    if (first) arm();
  }

  void arm() {
    const auto since = ticks_.top().due.time_since_epoch();
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since);
    itimerspec at{};
    at.it_value.tv_sec = seconds.count();
    at.it_value.tv_nsec = std::chrono::nanoseconds(since - seconds).count();
    checked(::timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &at, nullptr), "timerfd_settime");
  }

  void send_due() {
    std::uint64_t expirations = 0;
    [[maybe_unused]] const ssize_t got = ::read(timer_.get(), &expirations, sizeof expirations);
    const steady::time_point now = steady::now();
    while (!ticks_.empty() && ticks_.top().due <= now) {
      const tick due = ticks_.top();
      ticks_.pop();
      connection* c = find(due.fd);
      if (c == nullptr || c->serial != due.serial) continue;
      const bool sent = send_token(*c);
      const bool going_on = c->streaming;  // serving may begin the next stream, which schedules itself
      if (!sent || (!going_on && !serve(*c))) {
        close(due.fd);
      } else if (going_on) {
        // Tokens that are late must not catch up in a burst: that would be one segment for the relay.
        ticks_.push(tick{std::max(due.due + pause_, now + pause_ / 2), due.fd, due.serial});
      }
    }
    if (!ticks_.empty()) arm();
  }

  bool send_token(connection& c) {
    if (c.tokens_sent == c.tokens) {
      c.streaming = false;
      return send(c, answers::last_chunk(c.tokens));
    }
    ++c.tokens_sent;
    return send(c, c.tokens_sent == 1 ? answers_.first_chunk() : answers_.next_chunk());
  }

  bool send(connection& c, std::string_view data) {
    if (!c.out.empty()) {
      c.out += data;
      return true;
    }
    const ssize_t sent = ::send(c.fd.get(), data.data(), data.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) return false;
    const std::size_t taken = sent < 0 ? 0 : static_cast<std::size_t>(sent);
    if (taken < data.size()) c.out = data.substr(taken);
    return true;
  }

  bool flush(connection& c) {
    const std::string rest = std::exchange(c.out, {});
    return send(c, rest);
  }

  std::size_t default_tokens_;
  std::chrono::microseconds pause_;
  answers answers_;
  socket_fd epoll_;
  socket_fd timer_;
  std::vector<socket_fd> listeners_;
  std::vector<std::unique_ptr<connection>> connections_;  ///< by descriptor
  std::priority_queue<tick, std::vector<tick>, std::greater<>> ticks_;
  std::uint64_t serial_ = 0;
  std::uint64_t streams_ = 0;
  char buffer_[std::size_t{64} << 10U];
};

}  // namespace
}  // namespace pocketfleet::bench

int main(int count, char** values) {
  using namespace pocketfleet::bench;
  std::size_t ports = 1;
  std::size_t tokens = 4;
  std::int64_t pause = 0;
  arguments given(count, values, usage);
  for (std::string_view name = given.next(); !name.empty(); name = given.next()) {
    if (name == "--ports") {
      ports = given.at_least<std::size_t>(1);
    } else if (name == "--tokens") {
      tokens = given.at_least<std::size_t>(0);
    } else if (name == "--pause-us") {
      pause = given.at_least<std::int64_t>(0);
    } else {
      given.wrong();
    }
  }
  const auto server = std::make_unique<backend>(tokens, std::chrono::microseconds(pause));
  std::string list;
  for (std::size_t i = 0; i < ports; ++i) list += (i > 0 ? "," : "") + std::to_string(server->listen());
  std::printf("{\"ports\":[%s]}\n", list.c_str());
  std::fflush(stdout);
  server->run();
}
