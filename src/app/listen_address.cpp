#include "pocketfleet/app/listen_address.hpp"

#include <charconv>

#include "host_text.hpp"

namespace pocketfleet {

std::optional<listen_address> parse_listen_address(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  auto address = text.substr(0, colon);
  const auto port_text = text.substr(colon + 1);

  std::uint16_t port = 0;
  const auto* end = port_text.data() + port_text.size();
  const auto [stopped, failure] = std::from_chars(port_text.data(), end, port);
  if (failure != std::errc{} || stopped != end || port_text.size() > 5) return std::nullopt;

  if (address == "localhost") address = "127.0.0.1";
  if (address.starts_with('[') && address.ends_with(']')) {
    auto literal = canonical_ipv6(address.substr(1, address.size() - 2));
    if (literal.empty()) return std::nullopt;
    return listen_address{std::move(literal), port};
  }
  if (!is_ipv4(address)) return std::nullopt;
  return listen_address{std::string(address), port};
}

std::string to_string(const listen_address& listen) {
  return join_host_port(listen.address, listen.port);
}

bool is_loopback(std::string_view address) {
  return (is_ipv4(address) && address.starts_with("127.")) || canonical_ipv6(address) == "::1";
}

}  // namespace pocketfleet
