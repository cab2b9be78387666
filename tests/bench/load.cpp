// The benchmark's clients: keep-alive connections in a closed loop (each sends its next request when it has
// the answer to the last), every answer read to its end and checked: status, whole framing, number of tokens,
// the end mark. Prints one JSON object. A request that fails is counted, its connection opened anew.
//
// SIGUSR1: one line on stdout with the tokens that have come so far, {"tokens":N,"answering":N}, to measure
// in the midst of long streams.
#include <poll.h>
#include <sys/resource.h>

#include <csignal>

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "net.hpp"

namespace pocketfleet::bench {
namespace {

constexpr std::string_view usage =
    "usage: bench_load --port N [--method M] [--path P] [--body TEXT] [--connections N]\n"
    "                  (--requests N | --milliseconds N) [--tokens N] [--end TEXT] [--first N]\n"
    "  --body TEXT   the request's body; \"{n}\" in it becomes a number of 12 digits, new for each request\n"
    "  --first N     where those numbers begin (1)\n"
    "  --tokens N    how many tokens ('~') each answer must have (not checked)\n"
    "  --end TEXT    what the last line of each answer must contain (not checked)\n";

constexpr std::string_view placeholder = "{n}";
constexpr std::size_t digits = 12;
constexpr std::size_t most_errors = 1000;
constexpr std::size_t most_head_bytes = std::size_t{64} << 10U;
constexpr std::size_t most_line_bytes = std::size_t{1} << 20U;
constexpr int stall_ms = 20'000;  ///< without a byte on any connection: the other side hangs

struct settings {
  std::uint16_t port = 0;
  std::string method = "GET";
  std::string path = "/";
  std::string body;
  std::size_t connections = 1;
  std::uint64_t requests = 0;
  std::int64_t milliseconds = 0;
  std::optional<std::uint64_t> tokens;
  std::string end;
  std::uint64_t first = 1;
};

enum class outcome { more, done, broken };

volatile std::sig_atomic_t asked_how_far = 0;

/// Reads one response after the other. Bytes go in as they come; nothing is kept but the head and the last
/// line.
class response {
 public:
  void begin() {
    state_ = state::head;
    head_.clear();
    line_.clear();
    tokens_ = 0;
    lines_ = 0;
  }

  /// Takes what belongs to the response off the front of `data`.
  outcome read(std::string_view& data) {
    while (!data.empty() || state_ == state::done) {
      switch (state_) {
        case state::head: {
          if (!until(data, "\r\n\r\n"))
            return head_.size() > most_head_bytes ? outcome::broken : outcome::more;
          if (!read_head()) return outcome::broken;
          break;
        }
        case state::body: {
          const std::string_view part = data.substr(0, left_);
          data.remove_prefix(part.size());
          content(part);
          left_ -= part.size();
          if (left_ == 0) state_ = chunked_ ? state::chunk_end : state::done;
          break;
        }
        case state::chunk_size: {
          if (!until(data, "\r\n")) return head_.size() > 64 ? outcome::broken : outcome::more;
          const auto size = number<std::size_t>(head_, 16);
          if (!size) return outcome::broken;
          left_ = *size;
          state_ = left_ > 0 ? state::body : state::trailer;
          head_.clear();
          break;
        }
        case state::chunk_end:
          if (!until(data, "\r\n")) return outcome::more;
          if (head_ != "\r\n") return outcome::broken;
          state_ = state::chunk_size;
          head_.clear();
          break;
        case state::trailer: {
          if (!until(data, "\r\n")) return head_.size() > most_head_bytes ? outcome::broken : outcome::more;
          if (head_ == "\r\n") state_ = state::done;
          head_.clear();
          break;
        }
        case state::done: return outcome::done;
      }
    }
    return outcome::more;
  }

  unsigned status() const { return status_; }
  bool keep_alive() const { return keep_alive_; }
  std::uint64_t tokens() const { return tokens_; }
  std::uint64_t lines() const { return lines_; }
  const std::string& last_line() const { return line_; }

 private:
  enum class state { head, body, chunk_size, chunk_end, trailer, done };

  /// Moves bytes from `data` to head_ up to and with `mark`; false if it has not come yet.
  bool until(std::string_view& data, std::string_view mark) {
    const std::size_t had = head_.size();
    head_ += data;
    const std::size_t at = head_.find(mark, had > mark.size() ? had - mark.size() : 0);
    if (at == std::string::npos) {
      data = {};
      return false;
    }
    data.remove_prefix(at + mark.size() - had);
    head_.resize(at + mark.size());
    return true;
  }

  bool read_head() {
    const std::string_view head = std::string_view(head_).substr(0, head_.size() - 2);
    if (!head.starts_with("HTTP/1.1 ")) return false;
    status_ = number<unsigned>(head.substr(9)).value_or(0);
    keep_alive_ = field(head, "connection").value_or("") != "close";
    chunked_ = field(head, "transfer-encoding").value_or("") == "chunked";
    if (chunked_) {
      state_ = state::chunk_size;
    } else {
      const auto length = number<std::size_t>(field(head, "content-length").value_or(""));
      if (!length) return false;
      left_ = *length;
      state_ = left_ > 0 ? state::body : state::done;
    }
    head_.clear();
    return true;
  }

  void content(std::string_view part) {
    tokens_ += static_cast<std::uint64_t>(std::count(part.begin(), part.end(), '~'));
    // The last line may come in pieces, and an NDJSON line's newline is the last byte of all.
    const std::string_view inner = part.substr(0, part.size() - 1);
    const std::size_t newline = inner.rfind('\n');
    if (part.back() == '\n' || newline != std::string_view::npos)
      lines_ += static_cast<std::uint64_t>(std::count(part.begin(), part.end(), '\n'));
    if (newline != std::string_view::npos) {
      line_.assign(part.substr(newline + 1));
    } else {
      if (!line_.empty() && (line_.back() == '\n' || line_.size() > most_line_bytes)) line_.clear();
      line_ += part;
    }
  }

  state state_ = state::head;
  std::string head_;
  std::string line_;
  std::size_t left_ = 0;
  bool chunked_ = false;
  bool keep_alive_ = true;
  unsigned status_ = 0;
  std::uint64_t tokens_ = 0;
  std::uint64_t lines_ = 0;
};

struct client {
  socket_fd fd{};
  response answer{};
  std::string request{};  ///< its own copy, since the number in it changes
  steady::time_point sent{};
  bool busy = false;
};

class load {
 public:
  explicit load(settings what) : what_(std::move(what)), clients_(what_.connections) {
    epoll_ = socket_fd(checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1"));
    const std::size_t at = what_.body.find(placeholder);
    if (at != std::string::npos) what_.body.replace(at, placeholder.size(), std::string(digits, '0'));
    std::string request = what_.method + " " + what_.path +
                          " HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(what_.port) + "\r\n";
    if (!what_.body.empty())
      request +=
          "Content-Type: application/json\r\nContent-Length: " + std::to_string(what_.body.size()) + "\r\n";
    request += "\r\n" + what_.body;
    if (at != std::string::npos) number_at_ = request.size() - what_.body.size() + at;
    for (client& c : clients_) c.request = request;
    micros_.reserve(std::size_t{1} << 20U);
  }

  void run() {
    for (std::size_t i = 0; i < clients_.size(); ++i) open(i);
    begun_ = ended_ = steady::now();
    deadline_ = begun_ + std::chrono::milliseconds(what_.milliseconds);
    for (client& c : clients_) next(c);
    std::array<epoll_event, 256> events{};
    while (busy_ > 0) {
      const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), stall_ms);
      if (count < 0 && errno != EINTR) checked(count, "epoll_wait");
      if (asked_how_far != 0) say_how_far();
      if (count == 0) {
        errors_ += busy_;
        note("no byte for " + std::to_string(stall_ms / 1000) + " s");
        break;
      }
      for (int i = 0; i < count; ++i) ready(events[static_cast<std::size_t>(i)].data.u64);
    }
    report();
  }

 private:
  void open(std::size_t index) {
    client& c = clients_[index];
    c.fd = socket_fd(checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
    sockaddr_in address = loopback(what_.port);
    checked(::connect(c.fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), "connect");
    without_delay(c.fd.get());
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = index;
    checked(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, c.fd.get(), &event), "epoll_ctl");
  }

  /// Sends the next request, unless there have been enough.
  void next(client& c) {
    c.sent = steady::now();
    if (errors_ >= most_errors) return;
    if (what_.requests > 0 ? started_ >= what_.requests : c.sent >= deadline_) return;
    const std::uint64_t serial = what_.first + started_++;
    if (number_at_ > 0) {
      std::uint64_t rest = serial;
      for (std::size_t i = digits; i-- > 0; rest /= 10)
        c.request[number_at_ + i] = static_cast<char>('0' + rest % 10);
    }
    c.answer.begin();
    c.busy = true;
    ++busy_;
    send(c);
  }

  /// A request is small, so the socket takes it; where one is not, waiting here is simplest, and the other
  /// side does not wait for us to read.
  void send(const client& c) {
    std::string_view rest = c.request;
    while (!rest.empty()) {
      const ssize_t sent = ::send(c.fd.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0) return;  // reading will tell
      rest.remove_prefix(static_cast<std::size_t>(sent));
    }
  }

  void ready(std::size_t index) {
    client& c = clients_[index];
    const ssize_t got = ::recv(c.fd.get(), buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (got <= 0) return lost(index, got == 0 ? "connection closed" : "connection reset");
    ++reads_;
    std::string_view data(buffer_.data(), static_cast<std::size_t>(got));
    if (!c.busy) return lost(index, "bytes that belong to no answer");
    switch (c.answer.read(data)) {
      case outcome::more: return;
      case outcome::broken: return lost(index, "not HTTP/1.1 as expected");
      case outcome::done: break;
    }
    if (!data.empty()) return lost(index, "bytes after the answer");
    finish(c);
    const bool again = c.answer.keep_alive();
    c.busy = false;
    --busy_;
    if (!again) {
      ++reopened_;
      open(index);
    }
    next(c);
  }

  void finish(const client& c) {
    ended_ = steady::now();
    micros_.push_back(static_cast<std::uint32_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(ended_ - c.sent).count()));
    const response& answer = c.answer;
    tokens_ += answer.tokens();
    lines_ += answer.lines();
    if (answer.status() != 200) {
      failed("status " + std::to_string(answer.status()) + ": " + answer.last_line());
    } else if (what_.tokens && answer.tokens() != *what_.tokens) {
      failed(std::to_string(answer.tokens()) + " tokens: " + answer.last_line());
    } else if (!what_.end.empty() && answer.last_line().find(what_.end) == std::string::npos) {
      failed("end: " + answer.last_line());
    } else {
      ++good_;
    }
  }

  void lost(std::size_t index, const char* why) {
    client& c = clients_[index];
    if (c.busy) {
      failed(why);
      c.busy = false;
      --busy_;
    }
    ++reopened_;
    open(index);
    next(c);
  }

  void failed(const std::string& why) {
    ++errors_;
    note(why);
  }

  void note(const std::string& why) {
    if (first_error_.empty()) first_error_ = why.substr(0, 200);
  }

  void say_how_far() {
    asked_how_far = 0;
    std::uint64_t tokens = tokens_;
    std::size_t answering = 0;
    for (const client& c : clients_) {
      if (!c.busy) continue;
      tokens += c.answer.tokens();
      answering += c.answer.tokens() > 0 ? 1U : 0U;
    }
    std::printf("{\"tokens\":%llu,\"answering\":%zu}\n", static_cast<unsigned long long>(tokens), answering);
    std::fflush(stdout);
  }

  double percentile(double share) {
    if (micros_.empty()) return 0;
    const auto at = static_cast<std::ptrdiff_t>(share * static_cast<double>(micros_.size() - 1));
    std::nth_element(micros_.begin(), micros_.begin() + at, micros_.end());
    return micros_[static_cast<std::size_t>(at)] / 1000.0;
  }

  void report() {
    const double seconds = std::chrono::duration<double>(ended_ - begun_).count();
    rusage used{};
    ::getrusage(RUSAGE_SELF, &used);
    const auto cpu = [](const timeval& t) {
      return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
    };
    std::string error;
    for (const char letter : first_error_) {
      if (letter == '"' || letter == '\\') error += '\\';
      error += static_cast<unsigned char>(letter) < 0x20 ? ' ' : letter;
    }
    std::printf(
        "{\"requests\":%llu,\"errors\":%zu,\"reopened\":%llu,\"seconds\":%.6f,\"requests_per_second\":%.1f,"
        "\"tokens\":%llu,\"lines\":%llu,\"reads\":%llu,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"cpu_seconds\":%.6f,"
        "\"first_error\":"
        "\"%s\"}\n",
        static_cast<unsigned long long>(good_), errors_, static_cast<unsigned long long>(reopened_), seconds,
        seconds > 0 ? static_cast<double>(good_) / seconds : 0, static_cast<unsigned long long>(tokens_),
        static_cast<unsigned long long>(lines_), static_cast<unsigned long long>(reads_), percentile(0.5),
        percentile(0.99), cpu(used.ru_utime) + cpu(used.ru_stime), error.c_str());
  }

  settings what_;
  std::vector<client> clients_;
  socket_fd epoll_;
  std::size_t number_at_ = 0;
  steady::time_point begun_{};
  steady::time_point ended_{};
  steady::time_point deadline_{};
  std::uint64_t started_ = 0;
  std::uint64_t good_ = 0;
  std::uint64_t reopened_ = 0;
  std::uint64_t tokens_ = 0;
  std::uint64_t lines_ = 0;
  std::uint64_t reads_ = 0;  ///< far fewer than tokens: whoever relays them puts tokens together
  std::size_t busy_ = 0;
  std::size_t errors_ = 0;
  std::string first_error_;
  std::vector<std::uint32_t> micros_;
  std::array<char, std::size_t{64} << 10U> buffer_{};
};

settings read_arguments(int count, char** values) {
  settings what;
  arguments given(count, values, usage);
  for (std::string_view name = given.next(); !name.empty(); name = given.next()) {
    if (name == "--port") {
      what.port = given.at_least<std::uint16_t>(1);
    } else if (name == "--method") {
      what.method = given.text();
    } else if (name == "--path") {
      what.path = given.text();
    } else if (name == "--body") {
      what.body = given.text();
    } else if (name == "--connections") {
      what.connections = given.at_least<std::size_t>(1);
    } else if (name == "--requests") {
      what.requests = given.at_least<std::uint64_t>(1);
    } else if (name == "--milliseconds") {
      what.milliseconds = given.at_least<std::int64_t>(1);
    } else if (name == "--tokens") {
      what.tokens = given.at_least<std::uint64_t>(0);
    } else if (name == "--end") {
      what.end = given.text();
    } else if (name == "--first") {
      what.first = given.at_least<std::uint64_t>(0);
    } else {
      given.wrong();
    }
  }
  if (what.port == 0 || (what.requests == 0) == (what.milliseconds == 0)) given.wrong();
  return what;
}

}  // namespace
}  // namespace pocketfleet::bench

int main(int count, char** values) {
  std::signal(SIGUSR1, [](int) { pocketfleet::bench::asked_how_far = 1; });
  const auto clients =
      std::make_unique<pocketfleet::bench::load>(pocketfleet::bench::read_arguments(count, values));
  clients->run();
}
