// A client that shows what came over the wire, and phones to ask.
#pragma once

#include <gtest/gtest.h>

#include <boost/asio.hpp>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "pocketfleet/sim/fleet.hpp"

namespace pocketfleet::sim_test {

using namespace sim;
namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using json = nlohmann::json;

constexpr auto patience = std::chrono::seconds(5);

enum class ending { whole, reset, closed, open };

struct answer {
  unsigned status = 0;
  std::map<std::string, std::string> headers;
  std::vector<std::string> chunks;
  std::string body;
  ending end = ending::open;

  std::vector<json> lines() const {  // NDJSON
    std::vector<json> result;
    for (std::size_t at = 0; at < body.size();) {
      const std::size_t end_of_line = std::min(body.find('\n', at), body.size());
      result.push_back(json::parse(body.substr(at, end_of_line - at), nullptr, false));
      at = end_of_line + 1;
    }
    return result;
  }
  std::vector<std::string> events() const {  // data of SSE, comments as ":"
    std::vector<std::string> result;
    for (std::size_t at = 0; at < body.size();) {
      const std::size_t blank = std::min(body.find("\n\n", at), body.size());
      const std::string event = body.substr(at, blank - at);
      result.push_back(event.rfind("data: ", 0) == 0 ? event.substr(6) : event);
      at = blank + 2;
    }
    return result;
  }
  json object() const { return json::parse(body, nullptr, false); }
};

// A blocking HTTP client that shows how a response ended.
class client {
 public:
  explicit client(std::uint16_t port) : socket_(context_) {
    socket_.connect({asio::ip::make_address("127.0.0.1"), port}, failed_);
  }
  bool connected() const { return !failed_; }

  client& raw(const std::string& bytes) {
    asio::write(socket_, asio::buffer(bytes), failed_);
    return *this;
  }
  client& send(const std::string& method, const std::string& target, const std::string& body = {},
               const std::string& headers = {}) {
    return raw(method + ' ' + target + " HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: " +
               std::to_string(body.size()) + "\r\n" + headers + "\r\n" + body);
  }
  client& post(const std::string& target, const json& body) { return send("POST", target, body.dump()); }

  // Reads a response; with `chunks`, only so many chunks of it.
  answer read(std::size_t chunks = SIZE_MAX, bool head = false) {
    answer result;
    while (text_.find("\r\n\r\n") == std::string::npos)
      if (!more(result)) return result;
    const std::size_t blank = text_.find("\r\n\r\n");
    parse_header(text_.substr(0, blank), result);
    text_.erase(0, blank + 4);
    if (head) {
      result.end = ending::whole;
    } else if (result.headers.count("transfer-encoding") != 0) {
      read_on(result, chunks);
    } else if (result.headers.count("content-length") != 0) {
      const std::size_t size = std::stoul(result.headers["content-length"]);
      while (text_.size() < size && more(result)) {
      }
      result.body = text_.substr(0, size);
      text_.erase(0, size);
      if (result.body.size() == size) result.end = ending::whole;
    } else {
      while (more(result)) {
      }
      result.body = std::exchange(text_, {});
    }
    return result;
  }
  // Goes on with a chunked response.
  void read_on(answer& result, std::size_t chunks = SIZE_MAX) {
    while (result.chunks.size() < chunks) {
      std::size_t line = 0;
      while ((line = text_.find("\r\n")) == std::string::npos)
        if (!more(result)) return;
      const std::size_t size = std::stoul(text_.substr(0, line), nullptr, 16);
      while (text_.size() < line + 2 + size + 2)
        if (!more(result)) return;
      if (size == 0) {
        result.end = ending::whole;
        text_.erase(0, line + 4);
        return;
      }
      result.chunks.push_back(text_.substr(line + 2, size));
      result.body += result.chunks.back();
      text_.erase(0, line + 2 + size + 2);
    }
  }
  answer get(const std::string& target) { return send("GET", target).read(); }
  answer ask(const std::string& target, const json& body) { return post(target, body).read(); }

  void half_close() { socket_.shutdown(tcp::socket::shutdown_send, failed_); }
  // What the server does within the time when nothing is sent.
  ending silence(std::chrono::milliseconds time) {
    answer nothing;
    while (more(nothing, time)) {
    }
    return nothing.end;
  }

 private:
  bool more(answer& into, std::chrono::steady_clock::duration time = patience) {
    char bytes[65536];
    std::size_t got = 0;
    failed_ = asio::error::would_block;
    context_.restart();
    socket_.async_read_some(asio::buffer(bytes), [&](error_code failed, std::size_t size) {
      failed_ = failed;
      got = size;
    });
    context_.run_for(time);
    if (failed_ == asio::error::would_block) {
      socket_.cancel();
      context_.restart();
      context_.run();
      into.end = ending::open;
      return false;
    }
    if (failed_) into.end = failed_ == asio::error::eof ? ending::closed : ending::reset;
    text_.append(bytes, got);
    return !failed_;
  }
  static void parse_header(const std::string& text, answer& into) {
    into.status = static_cast<unsigned>(std::stoul(text.substr(9, 3)));
    std::size_t at = text.find("\r\n");
    while (at != std::string::npos) {
      const std::size_t begin = at + 2;
      at = text.find("\r\n", begin);
      const std::string line = text.substr(begin, at == std::string::npos ? at : at - begin);
      const std::size_t colon = line.find(':');
      std::string name = line.substr(0, colon);
      for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      const std::size_t value = line.find_first_not_of(' ', colon + 1);
      into.headers[name] = value == std::string::npos ? std::string() : line.substr(value);
    }
  }

  asio::io_context context_;
  tcp::socket socket_;
  error_code failed_;
  std::string text_;
};

inline phone_settings fast(engine_kind engine) {
  phone_settings settings;
  settings.engine = engine;
  settings.prefill_rate = 1e6;
  settings.decode_rate = 1e6;
  return settings;
}

inline std::string count(std::uint64_t first, std::uint64_t last) {
  std::string text;
  for (std::uint64_t i = first; i <= last; ++i) text += ' ' + std::to_string(i);
  return text;
}

inline json chat_body(const std::string& prefill = {}) {
  json messages = json::array({json{{"role", "user"}, {"content", "count"}}});
  if (!prefill.empty()) messages.push_back(json{{"role", "assistant"}, {"content", prefill}});
  return json{{"model", "qwen2.5:1.5b"}, {"messages", messages}};
}

inline json ollama_chat(unsigned tokens, bool stream = true, const std::string& prefill = {}) {
  json body = chat_body(prefill);
  body["stream"] = stream;
  if (tokens != 0) body["options"]["num_predict"] = tokens;
  return body;
}

inline json llama_chat(unsigned tokens, bool stream = true, const std::string& prefill = {}) {
  json body = chat_body(prefill);
  body["stream"] = stream;
  if (tokens != 0) body["max_tokens"] = tokens;
  return body;
}

inline std::string ollama_text(const answer& from) {
  std::string text;
  for (const json& line : from.lines())
    if (line.contains("message")) text += line["message"]["content"].get<std::string>();
  return text;
}

inline std::string llama_text(const answer& from) {
  std::string text;
  for (const std::string& event : from.events()) {
    const json data = json::parse(event, nullptr, false);
    if (!data.is_object() || !data.contains("choices") || data["choices"].empty()) continue;
    const json& delta = data["choices"][0]["delta"];
    if (delta.contains("content") && delta["content"].is_string())
      text += delta["content"].get<std::string>();
  }
  return text;
}

class sim_phone : public testing::Test {
 protected:
  void run(phone_settings settings) {
    phones_ = std::make_unique<fleet>(std::vector<phone_settings>{std::move(settings)});
    phones_->start();
  }
  std::uint16_t port() const { return phones_->port(0); }
  phone_state state() const { return phones_->state(0); }
  // Waits until the phone's state is as wanted.
  bool becomes(const std::function<bool(const phone_state&)>& wanted) const {
    const auto end = std::chrono::steady_clock::now() + patience;
    while (std::chrono::steady_clock::now() < end) {
      if (wanted(state())) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }
  void set(fault_kind kind, unsigned after = 0, unsigned times = 1,
           milliseconds clears_after = milliseconds(0)) {
    fault what;
    what.kind = kind;
    what.after_tokens = after;
    what.times = times;
    what.clears_after = clears_after;
    phones_->set(0, what);
  }
  answer get(const std::string& target) { return client(port()).get(target); }
  answer ask(const std::string& target, const json& body) { return client(port()).ask(target, body); }

  std::unique_ptr<fleet> phones_;
};

class sim_ollama : public sim_phone {
 protected:
  void SetUp() override { run(fast(engine_kind::ollama)); }
};

class sim_llama : public sim_phone {
 protected:
  void SetUp() override { run(fast(engine_kind::llama_server)); }
};

}  // namespace pocketfleet::sim_test
