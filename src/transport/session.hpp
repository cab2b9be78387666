// One client connection; private to this layer.
#pragma once

#include <array>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <optional>
#include <stop_token>

#include "pocketfleet/transport/framing_guard.hpp"
#include "pocketfleet/transport/server.hpp"
#include "pocketfleet/wire/refusal.hpp"
#include "routing.hpp"
#include "tls_channel.hpp"

namespace pocketfleet {

using tcp_socket = asio::basic_stream_socket<asio::ip::tcp, executor>;

/// Reads requests one after the other, and is the reply to the present one. Kept alive by its own coroutine.
class session final : public reply, public std::enable_shared_from_this<session> {
 public:
  /// `tls` null: plain.
  session(tcp_socket socket, std::shared_ptr<server> of, std::shared_ptr<const tls_context> tls);
  ~session() override;

  task<> run();

  /// Closed now if it is idle, else when its request is over. The first request of a new connection may be on
  /// its way: it is waited for a little.
  void finish_up();

  /// Closed now; a request that is being served ends as if the client had left.
  void abandon();

  /// server::watch_later() is over.
  void watch_if_serving();

  // reply
  task<> send(int status, std::string_view content_type, std::string body, header_list headers) override;
  task<> fail(const error& why, header_list headers) override;
  void begin(int status, std::string_view content_type, header_list headers) override;
  task<bool> write(std::string_view bytes) override;
  task<> end(std::string_view last) override;
  void cut() override;
  int status() const override { return status_; }
  std::string peer() const override;

 private:
  using parser = boost::beast::http::request_parser<boost::beast::http::string_body>;

  enum class reading : std::uint8_t { done, closed, refused };

  std::string look_up_peer() const;
  /// Bytes on their way to the client.
  struct outgoing {
    explicit outgoing(std::string_view first, std::string_view second = {}, std::string_view third = {})
        : parts{asio::buffer(first.data(), first.size()), asio::buffer(second.data(), second.size()),
                asio::buffer(third.data(), third.size())},
          left(first.size() + second.size() + third.size()) {}

    std::array<asio::const_buffer, 3> parts;
    std::size_t left;
    bool broken = false;
  };

  task<bool> shake_hands();
  task<bool> ready(bool to_write);
  void begin_request();
  std::optional<refusal> take_header();
  std::optional<refusal> check_header();
  task<reading> read_header();
  std::optional<error> enter();
  bool expects_word() const;
  std::optional<refusal> begin_body();
  std::optional<refusal> take_body();
  bool body_is_there();
  task<reading> read_body();
  asio::mutable_buffer room();
  bool filled(const boost::system::error_code& ec, std::size_t bytes);
  task<bool> fill();
  boost::system::error_code parse();
  task<reading> refuse(refusal why);
  task<reading> turn_away(const error& why);
  http_call refused_call(std::string_view route);
  envelope form() const;
  std::string refusal_body(int status, std::string_view code, std::string_view text) const;
  task<> serve_nobody();
  task<> call_handler(const route& to);
  std::optional<error> read_deadline(const route& to, http_call& call) const;
  void add_preflight(header_list& headers, std::string methods) const;
  void keep_books(http_call& call);

  void watch();
  void on_readable(const boost::system::error_code& ec);
  void leave();

  std::string head(int status, std::string_view content_type, const header_list& headers,
                   std::string_view framing);
  bool write_at_once(outgoing& what);
  task<bool> write_rest(outgoing& what);
  task<> linger();
  void close();

  tcp_socket socket_;
  mutable std::string peer_;  // as peer() has found it; empty: not asked for yet
  std::optional<tls_channel> tls_;
  std::shared_ptr<server> server_;
  watchdog::guard guard_;
  boost::beast::flat_buffer
      buffer_;             // never grows past its cap: what Beast would keep for a trailer is bounded by it
  std::size_t next_read_;  // bytes: most requests are small
  std::optional<parser> parser_;

  // the present request
  std::size_t header_taken_ = 0;  // bytes of the header that the parser has
  bool folded_ = false;
  bool empty_line_ = false;  // one before the request line is passed over (RFC 9112, 2.2)
  std::optional<refusal> wrong_{};
  std::string request_id_;
  std::string origin_;  // of a page that may ask; empty: no other origins may
  found_route there_{};
  visit visit_{};
  time_point began_{};
  std::size_t body_bytes_ = 0;   // taken from the budget
  std::size_t thrown_away_ = 0;  // bytes behind the request that were too many
  std::stop_source gone_;
  int status_ = 0;
  errc failed_{};
  bool has_failed_ = false;
  bool head_only_ = false;  // HEAD: the body is left out
  bool keep_alive_ = true;
  bool cut_ = false;
  std::string pending_head_;  // begun, goes out with the first bytes

  bool watching_ = false;       // a wait for the client's leaving is under way
  bool to_be_watched_ = false;  // ... will be, if the request lasts
  bool serving_ = false;        // a handler runs
  bool idle_ = true;            // between requests
  bool fresh_ = true;           // before the first
  bool expired_ = false;
  bool finish_ = false;  // no further request
};

}  // namespace pocketfleet
