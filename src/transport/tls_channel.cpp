#include "tls_channel.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <boost/asio/error.hpp>
#include <boost/asio/ip/address.hpp>
#include <climits>
#include <new>

namespace pocketfleet {

namespace asio = boost::asio;
using boost::system::error_code;

tls_channel::tls_channel(std::shared_ptr<const tls_context> of, int socket)
    : context_(std::move(of)), ssl_(SSL_new(context_->native())) {
  if (ssl_ == nullptr || SSL_set_fd(ssl_, socket) != 1) throw std::bad_alloc();
  SSL_set_accept_state(ssl_);
}

tls_channel::tls_channel(std::shared_ptr<const tls_context> of, int socket, const std::string& host)
    : context_(std::move(of)), ssl_(SSL_new(context_->native())) {
  if (ssl_ == nullptr || SSL_set_fd(ssl_, socket) != 1) throw std::bad_alloc();
  SSL_set_connect_state(ssl_);
  error_code no_address;
  asio::ip::make_address(host, no_address);
  if (no_address) {
    // The macro for it casts in C's way.
    std::string name = host;
    SSL_ctrl(ssl_, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, name.data());
    SSL_set1_host(ssl_, host.c_str());
  } else {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_), host.c_str());
  }
}

tls_channel::~tls_channel() {
  SSL_free(ssl_);
}

/// What became of a call that has not succeeded.
void tls_channel::take(int returned, error_code& ec) {
  wants_write_ = false;
  switch (SSL_get_error(ssl_, returned)) {
    case SSL_ERROR_WANT_WRITE: wants_write_ = true; [[fallthrough]];
    case SSL_ERROR_WANT_READ: ec = asio::error::would_block; return;
    case SSL_ERROR_ZERO_RETURN: ec = asio::error::eof; return;
    default: break;
  }
  const auto why = ERR_peek_error();
  plain_http_ = ERR_GET_LIB(why) == ERR_LIB_SSL && ERR_GET_REASON(why) == SSL_R_HTTP_REQUEST;
  ERR_clear_error();
  broken_ = true;
  ec = asio::error::connection_reset;
}

void tls_channel::shake_hands(error_code& ec) {
  ec = {};
  ERR_clear_error();
  if (const int done = SSL_do_handshake(ssl_); done != 1) take(done, ec);
}

std::size_t tls_channel::read_some(asio::mutable_buffer into, error_code& ec) {
  ec = {};
  ERR_clear_error();
  const int n = SSL_read(ssl_, into.data(), static_cast<int>(std::min<std::size_t>(into.size(), INT_MAX)));
  if (n > 0) return static_cast<std::size_t>(n);
  take(n, ec);
  return 0;
}

std::size_t tls_channel::write_some(asio::const_buffer from, error_code& ec) {
  ec = {};
  if (from.size() == 0) return 0;
  ERR_clear_error();
  const int n = SSL_write(ssl_, from.data(), static_cast<int>(std::min<std::size_t>(from.size(), INT_MAX)));
  if (n > 0) return static_cast<std::size_t>(n);
  take(n, ec);
  return 0;
}

void tls_channel::say_goodbye() {
  if (broken_ || SSL_in_init(ssl_) != 0) return;
  ERR_clear_error();
  SSL_shutdown(ssl_);
  ERR_clear_error();
}

}  // namespace pocketfleet
