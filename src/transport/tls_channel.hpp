// TLS over a connected socket that never blocks; private to this layer.
#pragma once

#include <boost/asio/buffer.hpp>
#include <boost/system/error_code.hpp>
#include <memory>
#include <string>

#include "pocketfleet/transport/tls.hpp"

struct ssl_st;

namespace pocketfleet {

/// Reads and writes like the socket itself: what cannot be done now is asio::error::would_block, and
/// wants_write() says what to wait for. (Reading may have to write first, and the other way round.) Belongs
/// to the connection, and goes before its socket does.
class tls_channel {
 public:
  /// Towards a client.
  tls_channel(std::shared_ptr<const tls_context> of, int socket);
  /// Towards a phone, whose certificate must be for that name or address.
  tls_channel(std::shared_ptr<const tls_context> of, int socket, const std::string& host);
  tls_channel(const tls_channel&) = delete;
  tls_channel& operator=(const tls_channel&) = delete;
  ~tls_channel();

  /// Once more after each would_block, until there is no error.
  void shake_hands(boost::system::error_code& ec);
  std::size_t read_some(boost::asio::mutable_buffer into, boost::system::error_code& ec);
  std::size_t write_some(boost::asio::const_buffer from, boost::system::error_code& ec);
  bool wants_write() const { return wants_write_; }

  /// The client has not begun TLS but HTTP.
  bool heard_plain_http() const { return plain_http_; }

  /// Says that nothing more will come, as far as that can be said at once.
  void say_goodbye();

 private:
  void take(int returned, boost::system::error_code& ec);

  std::shared_ptr<const tls_context> context_;
  ssl_st* ssl_;
  bool wants_write_ = false;
  bool plain_http_ = false;
  bool broken_ = false;  // nothing more may be said on it
};

}  // namespace pocketfleet
