// Limits of the listener and of the connections to phones. Defaults are those of docs/configuration.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "pocketfleet/core/time.hpp"
#include "pocketfleet/service/networks.hpp"
#include "pocketfleet/transport/tls.hpp"

namespace pocketfleet {

struct listener_settings {
  std::string address = "127.0.0.1";
  std::uint16_t port = 8000;  ///< 0: any free one
  std::vector<std::string>
      host_names{};  ///< names by which clients may call the gateway, besides localhost and IPs
  std::vector<std::string>
      origins{};                     ///< whose pages may ask beside the gateway's own: "https://app.example"
  std::size_t connections = 1024;    ///< at once, over all workers
  milliseconds header_time{10'000};  ///< for the whole header, and for a new connection to say anything
  milliseconds body_time{30'000};    ///< for the body, plus a second for each 64 KiB
  milliseconds idle_time{60'000};    ///< between requests of one connection
  milliseconds write_stall{60'000};  ///< without the client taking a byte
  std::size_t header_bytes = std::size_t{16} << 10U;
  std::size_t header_fields = 100;
  std::size_t target_bytes = std::size_t{2} << 10U;
  std::size_t body_bytes = std::size_t{4} << 20U;         ///< of one request
  std::size_t all_bodies_bytes = std::size_t{64} << 20U;  ///< over all requests being read or served
};

struct phone_link_settings {
  milliseconds connect_time{2'000};
  milliseconds idle_llama_server{4'000};  ///< its HTTP library closes an idle connection after 5 s
  milliseconds idle_ollama{30'000};
  std::size_t idle_per_phone = 2;
  std::size_t buffer_bytes = std::size_t{64} << 10U;
  networks allowed = home_networks();        ///< where names of phones may lead, beside loopback
  std::shared_ptr<const tls_context> tls{};  ///< for phones that speak TLS; null: none does
};

}  // namespace pocketfleet
