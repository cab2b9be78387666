#include "client_http.hpp"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <cstdlib>
#include <exception>
#include <optional>

#include "client_text.hpp"
#include "pocketfleet/app/commands.hpp"
#include "pocketfleet/app/settings.hpp"

namespace pocketfleet {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;
using http_request = http::request<http::string_body>;
using http_parser = http::response_parser<http::string_body>;

constexpr std::string_view default_gateway = "http://127.0.0.1:8000";
constexpr std::string_view default_port = "8000";
constexpr std::uint64_t largest_answer = std::uint64_t{64} << 20U;

std::string from_environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string{} : std::string(value);
}

[[noreturn]] void bad_url(const std::string& text) {
  throw client_failure(exit_bad_file,
                       "--gateway " + text + ": expected a URL as http://127.0.0.1:8000, or HOST:PORT");
}

/// One line of printable characters: it becomes a header.
std::string checked_key(std::string key) {
  const bool plain = std::all_of(key.begin(), key.end(), [](char c) { return c > ' ' && c < 0x7f; });
  if (!plain) throw client_failure(exit_bad_file, "POCKETFLEET_KEY: expected a key, without spaces");
  return key;
}

std::string key_of(const client_where& where) {
  if (where.key_file.empty()) return checked_key(from_environment("POCKETFLEET_KEY"));
  auto read = read_token(where.key_file, "--key-file");
  if (read.wrong) throw client_failure(exit_bad_file, to_string(*read.wrong));
  return std::move(read.token);
}

struct conversation {
  asio::io_context context{1};
  tcp::resolver resolver{context};
  asio::ssl::context trust{asio::ssl::context::tls_client};
  asio::ssl::stream<tcp::socket> stream{context, trust};
  boost::beast::flat_buffer buffer{};
  http_request request{};
  http_parser parser{};
  error_code failed{};
  bool over = false;
};

constexpr auto quietly = asio::as_tuple(asio::use_awaitable);

template <class Stream>
asio::awaitable<void> say(conversation& c, Stream& over) {
  const auto [broken, sent] = co_await http::async_write(over, c.request, quietly);
  c.failed = broken;
  if (c.failed) co_return;
  const auto [cut, got] = co_await http::async_read(over, c.buffer, c.parser, quietly);
  c.failed = cut;
}

asio::awaitable<void> shake_hands(conversation& c, std::string host) {
  c.stream.set_verify_mode(asio::ssl::verify_peer);
  c.stream.set_verify_callback(asio::ssl::host_name_verification(host));
  const auto [refused] = co_await c.stream.async_handshake(asio::ssl::stream_base::client, quietly);
  c.failed = refused;
}

asio::awaitable<void> talk(conversation& c, std::string host, std::string port, bool tls) {
  const auto [lost, found] = co_await c.resolver.async_resolve(host, port, quietly);
  c.failed = lost;
  if (!c.failed) {
    const auto [refused, where] = co_await asio::async_connect(c.stream.next_layer(), found, quietly);
    c.failed = refused;
  }
  if (!c.failed && tls) co_await shake_hands(c, host);
  if (!c.failed && tls) co_await say(c, c.stream);
  if (!c.failed && !tls) co_await say(c, c.stream.next_layer());
  c.over = true;
}

}  // namespace

struct gateway_client::response {
  int status = 0;
  bool from_gateway = false;
  std::string body{};
};

gateway_client::gateway_client(const client_where& where)
    : url_(where.gateway), key_(key_of(where)), ca_file_(where.ca_file) {
  if (ca_file_.empty()) ca_file_ = from_environment("POCKETFLEET_CA_FILE");
  if (url_.empty()) url_ = from_environment("POCKETFLEET_URL");
  if (url_.empty()) url_ = default_gateway;
  const std::string given = url_;
  std::string_view rest = url_;
  if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
    port_ = "80";
  } else if (rest.starts_with("https://")) {
    rest.remove_prefix(8);
    port_ = "443";
    tls_ = true;
  } else if (rest.find("://") != std::string_view::npos) {
    bad_url(given);
  } else {
    port_ = default_port;
  }
  while (rest.ends_with('/')) rest.remove_suffix(1);
  if (rest.find_first_of("/?#@ ") != std::string_view::npos) bad_url(given);
  const auto bracket = rest.starts_with('[') ? rest.find(']') : 0;
  if (bracket == std::string_view::npos) bad_url(given);
  if (const auto colon = rest.find(':', bracket); colon != std::string_view::npos) {
    port_ = rest.substr(colon + 1);
    rest = rest.substr(0, colon);
  }
  host_ = bracket > 0 ? rest.substr(1, bracket - 1) : rest;
  const bool number =
      !port_.empty() && port_.size() <= 5 && port_.find_first_not_of("0123456789") == std::string::npos;
  if (host_.empty() || !number) bad_url(given);
  url_ = (tls_ ? "https://" : "http://") + std::string(rest) + ":" + port_;
}

gateway_client::response gateway_client::exchange(std::string_view method, std::string_view path,
                                                  std::string body) const {
  conversation c;
  c.request.method_string(method);
  c.request.target(path);
  c.request.set(http::field::host, std::string_view(url_).substr(url_.find("://") + 3));
  c.request.set(http::field::user_agent, "pocketfleet/" POCKETFLEET_VERSION);
  c.request.set(http::field::connection, "close");
  if (!key_.empty()) c.request.set(http::field::authorization, "Bearer " + key_);
  if (!body.empty()) c.request.set(http::field::content_type, "application/json");
  c.request.body() = std::move(body);
  c.request.prepare_payload();
  c.parser.body_limit(largest_answer);
  if (tls_) {
    error_code wrong;
    if (ca_file_.empty()) {
      c.trust.set_default_verify_paths(wrong);
    } else {
      c.trust.load_verify_file(ca_file_, wrong);
    }
    if (wrong) throw client_failure(exit_bad_file, "--ca-file " + ca_file_ + ": " + wrong.message());
  }
  std::exception_ptr thrown;
  asio::co_spawn(c.context, talk(c, host_, port_, tls_), [&](const std::exception_ptr& e) { thrown = e; });
  c.context.run_for(patience_);
  if (thrown) std::rethrow_exception(thrown);
  if (!c.over) {
    throw client_failure(exit_unreachable, "the gateway at " + url_ + " gave no answer within " +
                                               std::to_string(patience_.count()) + " s");
  }
  if (c.failed) {
    throw client_failure(exit_unreachable,
                         "no gateway answers at " + url_ + " (" + c.failed.message() +
                             "). Is it running? Say where with --gateway URL or POCKETFLEET_URL");
  }
  const auto& got = c.parser.get();
  return {static_cast<int>(got.result_int()), got[http::field::server] == "pocketfleet", got.body()};
}

void gateway_client::refused(const response& got, const std::string& why) const {
  const bool about_key = got.status == 401 || got.status == 403;
  if (!about_key) throw client_failure(exit_failed, why);
  const std::string remedy = key_.empty() ? "Give it an admin key with --key-file FILE or POCKETFLEET_KEY"
                                          : "Is the key right, and an admin's?";
  throw client_failure(exit_key, "the gateway at " + url_ + " refuses: " + why + ". " + remedy);
}

gateway_client::answer gateway_client::call(std::string_view method, std::string_view path,
                                            const json& body) {
  const response got = exchange(method, path, body.is_null() ? std::string{} : dump_json(body));
  answer out{got.body};
  if (auto read = parse_json(got.body)) out.body = std::move(*read);
  if (!got.from_gateway) {
    throw client_failure(exit_unreachable, "what answers at " + url_ +
                                               " is no pocketfleet gateway. Say where it is with "
                                               "--gateway URL or POCKETFLEET_URL");
  }
  if (got.status >= 300) {
    const auto why = out.body.is_object() ? out.body.find("error") : out.body.end();
    refused(got, out.body.is_object() && why != out.body.end() && why->is_string()
                     ? printable(why->get<std::string>())
                     : "it answers with status " + std::to_string(got.status));
  }
  return out;
}

std::string percent_encoded(std::string_view text) {
  constexpr std::string_view plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
  constexpr std::string_view digits = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (plain.find(c) != std::string_view::npos)
      out += c;
    else
      out.append(1, '%').append(1, digits[byte >> 4U]).append(1, digits[byte & 15U]);
  }
  return out;
}

}  // namespace pocketfleet
