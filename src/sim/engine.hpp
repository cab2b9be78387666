// What the two simulated engines have in common for the rest of the simulator.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <memory>
#include <string>
#include <string_view>

#include "connection.hpp"

namespace pocketfleet::sim {

/// Answers requests as Ollama or llama-server does. Owned by the phone's server, without state of its own.
class engine {
 public:
  virtual ~engine() = default;

  virtual boost::asio::awaitable<void> answer(connection& client) = 0;

  virtual bool generates(
      const request& asked) const = 0;             ///< a request that faults may hit and that is counted
  virtual std::string common_headers() const = 0;  ///< whole lines that every response has
  virtual std::string error_body(const request& asked, unsigned status, std::string_view text) const = 0;
  virtual std::string bad_request() const = 0;  ///< the whole response to bytes that are no HTTP
  virtual bool always_chunks() const = 0;       ///< also to HTTP/1.0 clients
  virtual unsigned most_requests() const = 0;   ///< on one connection; 0: no limit
  virtual duration idle_limit(const phone_settings& settings) const = 0;
};

std::unique_ptr<engine> make_ollama();
std::unique_ptr<engine> make_llama_server();

/// Requests under /sim/, with which tests steer the phone.
boost::asio::awaitable<void> answer_control(connection& client);

}  // namespace pocketfleet::sim
