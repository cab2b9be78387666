// One request to a running gateway, for the subcommands that talk to one; private to this layer.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include "pocketfleet/core/time.hpp"
#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {

/// Ends a subcommand: what to tell, and with which exit code.
class client_failure : public std::runtime_error {
 public:
  client_failure(int code, const std::string& text) : runtime_error(text), exit_code(code) {}
  int exit_code;
};

/// As the command line says it; empty: the environment, then the default.
struct client_where {
  std::string gateway;   ///< URL, or HOST[:PORT]
  std::string key_file;  ///< one line
  std::string ca_file;   ///< who vouches for the gateway's certificate
};

/// One connection a request. What goes wrong is a client_failure that says what to do.
class gateway_client {
 public:
  explicit gateway_client(const client_where& where);

  struct answer {
    std::string text;  ///< as it came
    json body{};       ///< null if it is not JSON
  };
  answer get(std::string_view path) { return call("GET", path, {}); }
  answer call(std::string_view method, std::string_view path, const json& body);
  void give_up_after(seconds time) { patience_ = time; }

  const std::string& url() const { return url_; }

 private:
  struct response;
  response exchange(std::string_view method, std::string_view path, std::string body) const;
  [[noreturn]] void refused(const response& got, const std::string& why) const;

  std::string url_;
  std::string host_;
  std::string port_;
  std::string key_;
  std::string ca_file_;
  bool tls_ = false;
  seconds patience_{30};
};

/// A phone's name as one part of a path.
std::string percent_encoded(std::string_view text);

}  // namespace pocketfleet
