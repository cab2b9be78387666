// One request to one phone; private to this layer.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <optional>

#include "pocketfleet/transport/phone_pool.hpp"
#include "tls_channel.hpp"

namespace pocketfleet {

using tcp = boost::asio::ip::tcp;
using tcp_socket = asio::basic_stream_socket<tcp, executor>;

struct phone_connection {
  static constexpr std::size_t small_read = 2048;
  static constexpr std::size_t large_read = 16384;

  phone_connection(const executor& where, std::size_t buffer_bytes)
      : socket(where), buffer(buffer_bytes), next_read(small_read) {}

  tcp_socket socket;
  std::optional<tls_channel> tls{};  // to a phone that speaks it; goes before the socket
  boost::beast::flat_buffer buffer;  // never grows past what it was made with
  std::size_t next_read;             // bytes: most answers come in small pieces
  time_point idle_since{};
};

class pooled_exchange final : public phone_exchange {
 public:
  pooled_exchange(std::shared_ptr<phone_pool> pool, std::shared_ptr<const phone_target> phone,
                  std::string traceparent);
  ~pooled_exchange() override;

  task<result<void>> connect(time_point deadline) override;
  task<result<phone_response_head>> send(std::string_view method, std::string_view target,
                                         std::string_view body, time_point deadline) override;
  task<result<std::string_view>> read(time_point deadline) override;
  void abort() override;

 private:
  using parser = boost::beast::http::response_parser<boost::beast::http::buffer_body>;

  task<result<void>> connect_anew(time_point deadline);
  task<result<void>> connect_to(const tcp::endpoint& where);
  task<result<void>> shake_hands();
  task<boost::system::error_code> ready();
  task<std::vector<asio::ip::address>> look_up();
  result<std::size_t> write_at_once(std::string_view head, std::string_view body);
  task<result<void>> write_rest(std::string_view head, std::string_view body, std::size_t sent);
  task<result<void>> write_encrypted(std::string_view bytes);
  task<result<phone_response_head>> read_head();
  boost::asio::mutable_buffer room();
  task<result<void>> fill_encrypted(boost::asio::mutable_buffer space);
  result<void> filled(const boost::system::error_code& ec, std::size_t bytes);
  result<std::size_t> parse();
  void expire();
  error broken(errc otherwise) const;

  std::shared_ptr<phone_pool> pool_;
  std::shared_ptr<const phone_target> phone_;
  std::string traceparent_;  // empty: none
  watchdog::guard guard_;
  std::shared_ptr<waker> name_waiter_;  // while a phone's name is looked up
  std::unique_ptr<phone_connection> connection_;
  std::optional<parser> parser_;  // made anew for each response
  bool reused_ = false;           // the connection comes from the pool and has not been heard on
  bool expired_ = false;
  bool aborted_ = false;
  bool heard_ = false;  // a byte of the response has come
};

}  // namespace pocketfleet
