// Addresses as people write them.
#pragma once

#include <string>
#include <string_view>

namespace pocketfleet {

bool is_ipv4(std::string_view text);

/// The canonical spelling of an IPv6 literal without brackets; empty if it is none.
std::string canonical_ipv6(std::string_view text);

struct checked_host {
  std::string host{};      ///< IP literal without brackets, or DNS name
  std::string expected{};  ///< what should stand there; empty if `host` is good
};

/// A host to connect to, without scheme, port or path.
checked_host check_host(std::string_view text);

/// "host:port", with brackets round an IPv6 literal.
std::string join_host_port(std::string_view host, unsigned port);

}  // namespace pocketfleet
