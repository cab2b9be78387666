// A gateway and simulated phones in this process, each on threads of their own, and a client to talk to it.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "pocketfleet/app/gateway.hpp"
#include "pocketfleet/app/log.hpp"
#include "pocketfleet/sim/fleet.hpp"
#include "pocketfleet/wire/json.hpp"

namespace pocketfleet::testing_gateway {

constexpr seconds patience{10};  // for what is to happen at once

/// Waits until `wanted` holds.
inline bool await(const std::function<bool()>& wanted) {
  const auto end = clock::now() + patience;
  while (!wanted()) {
    if (clock::now() > end) return false;
    std::this_thread::sleep_for(milliseconds{1});
  }
  return true;
}

struct response {
  int status = 0;  ///< 0: none came
  std::map<std::string, std::string> headers{};
  std::string body{};
  bool whole = false;  ///< the body has come to its proper end

  json object() const {
    auto read = parse_json(body);
    return read ? *read : json{};
  }
  std::vector<json> lines() const {
    std::vector<json> out;
    for (std::size_t at = 0; at < body.size();) {
      const auto end = std::min(body.find('\n', at), body.size());
      auto line = parse_json(std::string_view(body).substr(at, end - at));
      EXPECT_TRUE(line.has_value()) << "not a JSON line: " << body.substr(at, end - at);
      if (line) out.push_back(*line);
      at = end + 1;
    }
    return out;
  }
  /// The answer's text, of /ask and of /ask_stream.
  std::string text() const {
    std::string out;
    for (const json& line : lines()) {
      if (line.contains("message")) out += line["message"]["content"].get<std::string>();
    }
    return out;
  }
  std::string header(const std::string& name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? std::string{} : found->second;
  }
};

/// Blocking; one connection.
class http_client {
 public:
  explicit http_client(std::uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval time{patience.count(), 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(port);
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const auto* address = static_cast<const sockaddr*>(static_cast<const void*>(&where));
    connected_ = ::connect(socket_, address, sizeof where) == 0;
  }
  http_client(const http_client&) = delete;
  http_client& operator=(const http_client&) = delete;
  ~http_client() { leave(); }

  bool connected() const { return connected_; }
  void leave() {
    if (socket_ >= 0) ::close(std::exchange(socket_, -1));
  }

  void send(const std::string& method, const std::string& target, const std::string& body = {},
            const std::string& headers = {}) {
    const std::string all = method + ' ' + target +
                            " HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: " + std::to_string(body.size()) +
                            "\r\n" + headers + "\r\n" + body;
    for (std::size_t at = 0; at < all.size();) {
      const auto sent = ::send(socket_, all.data() + at, all.size() - at, MSG_NOSIGNAL);
      if (sent <= 0) return;
      at += static_cast<std::size_t>(sent);
    }
  }
  void send_bytes(const std::string& bytes) { ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL); }
  /// The other side's kernel has all that was sent: what follows is a segment of its own, and most of the
  /// time a read of its own.
  void wait_until_arrived() const {
    const auto enough = std::chrono::steady_clock::now() + patience;
    for (int left = 1; left > 0 && std::chrono::steady_clock::now() < enough; std::this_thread::yield()) {
      if (::ioctl(socket_, SIOCOUTQ, &left) != 0) return;
    }
  }
  void post(const std::string& target, const json& body, const std::string& headers = {}) {
    send("POST", target, body.dump(), headers);
  }

  /// The whole response, or what there is of it when the connection ends.
  response read() {
    return read_until([](const response&) { return false; });
  }
  /// The response as far as this many lines of its body; read() goes on with it.
  response read_lines(std::size_t n) {
    return read_until([n](const response& r) {
      return static_cast<std::size_t>(std::count(r.body.begin(), r.body.end(), '\n')) >= n;
    });
  }
  response ask(const std::string& target, const json& body, const std::string& headers = {}) {
    post(target, body, headers);
    return read();
  }
  response get(const std::string& target) {
    send("GET", target);
    return read();
  }

 private:
  response read_until(const std::function<bool(const response&)>& enough) {
    if (now_.status == 0 && !read_head()) return {};
    while (!now_.whole && !enough(now_) && read_body()) {
    }
    return now_.whole ? std::exchange(now_, {}) : now_;
  }
  bool read_head() {
    std::size_t blank = 0;
    while ((blank = text_.find("\r\n\r\n")) == std::string::npos) {
      if (!more()) return false;
    }
    now_.status = std::stoi(text_.substr(9, 3));
    for (std::size_t at = text_.find("\r\n"); at < blank;) {
      const std::size_t next = text_.find("\r\n", at + 2);
      const std::string line = text_.substr(at + 2, next - at - 2);
      const std::size_t colon = line.find(": ");
      now_.headers[line.substr(0, colon)] = line.substr(colon + 2);
      at = next;
    }
    text_.erase(0, blank + 4);
    return true;
  }
  /// A chunk more, or all of a body of known length. False: nothing more will come.
  bool read_body() {
    if (now_.header("Transfer-Encoding") != "chunked") {
      const std::size_t size = std::stoul("0" + now_.header("Content-Length"));
      while (text_.size() < size) {
        if (!more()) return false;
      }
      take(size);
      return now_.whole = true;
    }
    std::size_t line = 0;
    while ((line = text_.find("\r\n")) == std::string::npos) {
      if (!more()) return false;
    }
    const std::size_t size = std::stoul(text_.substr(0, line), nullptr, 16);
    while (text_.size() < line + 2 + size + 2) {
      if (!more()) return false;
    }
    text_.erase(0, line + 2);
    take(size);
    text_.erase(0, 2);
    now_.whole = size == 0;
    return true;
  }
  void take(std::size_t size) {
    now_.body.append(text_, 0, size);
    text_.erase(0, size);
  }
  bool more() {
    char bytes[65536];
    const auto n = ::recv(socket_, bytes, sizeof bytes, 0);
    if (n <= 0) return false;
    text_.append(bytes, static_cast<std::size_t>(n));
    return true;
  }

  int socket_;
  bool connected_ = false;
  std::string text_;
  response now_;
};

/// " 1 2 3 ... n", as the simulated phones answer.
inline std::string count(unsigned n) {
  std::string out;
  for (unsigned i = 1; i <= n; ++i) out += ' ' + std::to_string(i);
  return out;
}

inline sim::phone_settings phone(engine_kind engine, const std::string& name) {
  sim::phone_settings s;
  s.engine = engine;
  s.name = name;
  s.prefill_rate = 1e6;
  s.decode_rate = 1e6;
  return s;
}

/// Fifty tokens a second: the answer is seen while it is made.
inline sim::phone_settings slow_phone(engine_kind engine, unsigned tokens) {
  auto s = phone(engine, "slow");
  s.decode_rate = 50;
  s.answer_tokens = tokens;
  return s;
}

/// Two of each engine; the last two take two requests at once.
inline std::vector<sim::phone_settings> four_phones() {
  std::vector<sim::phone_settings> all{
      phone(engine_kind::ollama, "o1"), phone(engine_kind::llama_server, "l1"),
      phone(engine_kind::ollama, "o2"), phone(engine_kind::llama_server, "l2")};
  all[2].slots = all[3].slots = 2;
  return all;
}

class gateway_test : public testing::Test {
 protected:
  gateway_test() {
    set_up_log("off", log_format::text);
    config_.gateway.listener.port = 0;
    auto& times = config_.gateway.service.times;
    times.connect = milliseconds{2'000};
    times.first_token = times.first_token_loading = times.between_tokens = milliseconds{8'000};
    times.queue = milliseconds{8'000};
    // A bad look changes nothing, so that only requests find out what is wrong with a phone, and a good one
    // soon clears it again; and breakers stay closed.
    config_.gateway.service.probe.interval = milliseconds{20};
    config_.gateway.service.probe.fall = 1'000'000;
    config_.gateway.dispatch.breaker.failures = 1'000;
    config_.gateway.dispatch.breaker.connect_failures = 1'000;
  }
  ~gateway_test() override { stop(); }

  void start_phones(std::vector<sim::phone_settings> phones) {
    phones_ = std::make_unique<sim::fleet>(std::move(phones));
    phones_->start();
    config_.phones = phones_->configs();
  }
  /// The gateway, when all its phones are known to be up.
  void start() {
    std::promise<std::uint16_t> listening;
    auto port = listening.get_future();
    ended_ = std::promise<void>();
    release_ = std::promise<void>();
    thread_ = std::thread([this, &listening] {
      gateway here(config_);
      gateway_ = &here;
      const auto bound = here.listen();
      listening.set_value(bound ? *bound : std::uint16_t{0});
      here.run();
      ended_.set_value();
      release_.get_future().wait();  // destroyed on its own thread, when nobody calls it any more
    });
    port_ = port.get();
    ASSERT_NE(port_, 0);
    ASSERT_TRUE(await([this] {
      const auto all = gateway_->phones();
      return std::all_of(all.begin(), all.end(), [](const auto& p) { return p.healthy; });
    }));
  }
  void start(std::vector<sim::phone_settings> phones) {
    start_phones(std::move(phones));
    start();
  }
  void stop() {
    if (!thread_.joinable()) return;
    gateway_->stop();
    release_.set_value();
    thread_.join();
  }
  /// run() returns in time.
  bool ends() { return ended_.get_future().wait_for(patience) == std::future_status::ready; }

  // ---- requests

  static json question(const std::string& prompt, unsigned tokens = 0) {
    json body{{"prompt", prompt}};
    if (tokens != 0) body["options"] = {{"num_predict", tokens}};
    return body;
  }
  /// A question that nobody has asked before.
  json fresh(unsigned tokens = 0) { return question("number " + std::to_string(++asked_), tokens); }
  response ask(const json& body, const std::string& target = "/ask") {
    return http_client(port_).ask(target, body);
  }

  // ---- how things stand

  void set(std::size_t phone, sim::fault_kind kind, unsigned after = 0, unsigned times = 0) {
    sim::fault what;
    what.kind = kind;
    what.after_tokens = after;
    what.times = times;
    phones_->set(phone, what);
  }
  double metric(const std::string& name) {
    const std::string text = "\n" + gateway_->metrics_text();
    const auto at = text.find("\n" + name + " ");
    return at == std::string::npos ? -1 : std::stod(text.substr(at + name.size() + 2));
  }
  std::size_t in_flight() {
    std::size_t sum = 0;
    for (const auto& p : gateway_->phones()) sum += p.in_flight;
    return sum;
  }
  /// No permit is held, nobody waits, and no phone works.
  bool idle() {
    if (in_flight() != 0 || metric("pocketfleet_queue_length") != 0) return false;
    for (std::size_t i = 0; i < phones_->size(); ++i) {
      const auto s = phones_->state(i);
      if (s.active != 0 || s.waiting != 0) return false;
    }
    return true;
  }
  bool becomes_idle() {
    return await([this] { return idle(); });
  }
  std::uint64_t requests_seen() const {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < phones_->size(); ++i) sum += phones_->state(i).requests;
    return sum;
  }

  configuration config_;
  std::unique_ptr<sim::fleet> phones_;
  gateway* gateway_ = nullptr;
  std::uint16_t port_ = 0;

 private:
  std::thread thread_;
  std::promise<void> ended_;
  std::promise<void> release_;
  unsigned asked_ = 0;
};

}  // namespace pocketfleet::testing_gateway
