// One client's connection to a simulated phone: HTTP on the wire.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <memory>
#include <string>
#include <string_view>

#include "server.hpp"
#include "sleeper.hpp"

namespace pocketfleet::sim {

/// A request as the engines see it.
struct request {
  seen_request seen;       ///< method, target, headers, body
  std::string path{};      ///< target without the query
  std::string query{};     ///< without the question mark
  bool newest = true;      ///< HTTP/1.1
  bool keep_alive = true;  ///< the client would go on
  bool get() const { return seen.method == "GET" || seen.method == "HEAD"; }
};

/// Reads requests, has the engine answer them, writes. Owned by its own coroutine, on the phone's thread,
/// until the client leaves, the phone closes it, or the phone stops.
class connection : public std::enable_shared_from_this<connection> {
 public:
  connection(std::shared_ptr<phone::server> phone, boost::asio::ip::tcp::socket socket);
  ~connection();
  boost::asio::awaitable<void> run();

  phone::server& server() { return *phone_; }
  const request& asked() const { return request_; }
  sleeper& waits() { return sleeper_; }
  bool gone() const { return sleeper_.gone(); }
  bool busy() const { return busy_; }

  /// A whole answer. `headers` are whole lines. Nothing is written to a client that has left.
  boost::asio::awaitable<void> reply(unsigned status, std::string type, std::string body,
                                     std::string headers = {});

  /// An answer in parts: push() and end() only fill the buffer that flush() writes, the header first.
  void begin(std::string_view type, std::string_view headers = {});
  bool begun() const { return begun_; }
  void push(std::string_view part);  ///< one chunk
  void end();                        ///< the last chunk
  std::size_t unsent() const { return out_.size(); }
  boost::asio::awaitable<bool> flush();  ///< false: the client left

  void close_after_answer() { request_.keep_alive = false; }
  void close_after_stream() {
    closes_quietly_ = true;
  }  ///< without saying so in the header, as llama-server does
  void put_raw(std::string_view bytes) { out_ += bytes; }  ///< past all framing, for faults
  void close();                                            ///< orderly: FIN
  void reset();                                            ///< RST

 private:
  boost::asio::awaitable<bool> read();
  boost::asio::awaitable<void> serve();
  boost::asio::awaitable<bool> refuse_bytes();
  void watch();
  void readable();
  void expect_within(duration time);
  void kept_alive();

  std::shared_ptr<phone::server> phone_;
  boost::asio::ip::tcp::socket socket_;
  boost::beast::flat_buffer buffer_;
  sleeper sleeper_;
  boost::asio::steady_timer idle_;
  time_point idle_until_ = time_point::max();
  request request_;
  std::string out_;
  unsigned answered_ = 0;
  bool busy_ = false;      // from the whole request to the whole answer
  bool watching_ = false;  // a wait for the client's leaving is under way
  bool begun_ = false;
  bool chunked_ = true;
  bool closes_quietly_ = false;
};

}  // namespace pocketfleet::sim
