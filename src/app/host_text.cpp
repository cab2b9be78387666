#include "host_text.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cctype>

namespace pocketfleet {
namespace {

bool digits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

/// RFC 1123, with the underscore that some routers put into their names.
bool is_dns_name(std::string_view text) {
  if (text.empty() || text.size() > 253) return false;
  while (true) {
    const auto dot = text.find('.');
    const auto label = text.substr(0, dot);
    if (label.empty() || label.size() > 63 || label.front() == '-' || label.back() == '-') return false;
    const auto allowed = [](char c) {
      return (std::isalnum(static_cast<unsigned char>(c)) != 0) || c == '-' || c == '_';
    };
    if (!std::all_of(label.begin(), label.end(), allowed)) return false;
    if (dot == std::string_view::npos) return true;
    text.remove_prefix(dot + 1);
  }
}

checked_host wrong(std::string expected) {
  return {{}, std::move(expected)};
}

}  // namespace

bool is_ipv4(std::string_view text) {
  in_addr parsed{};
  return text.find('\0') == std::string_view::npos &&
         inet_pton(AF_INET, std::string(text).c_str(), &parsed) == 1;
}

std::string canonical_ipv6(std::string_view text) {
  in6_addr parsed{};
  std::array<char, INET6_ADDRSTRLEN> spelt{};
  if (text.find('\0') != std::string_view::npos) return {};
  if (inet_pton(AF_INET6, std::string(text).c_str(), &parsed) != 1) return {};
  if (inet_ntop(AF_INET6, &parsed, spelt.data(), spelt.size()) == nullptr) return {};
  return spelt.data();
}

checked_host check_host(std::string_view text) {
  const std::string form = R"(a host name or an IP address, as "192.168.1.50")";
  if (text.empty()) return wrong(form);
  if (text.find("://") != std::string_view::npos)
    return wrong(form + R"(, without a scheme such as "http://")");
  if (text.find('@') != std::string_view::npos) return wrong(form + R"(, without a user before an "@")");
  if (text.find_first_of("/?#\\") != std::string_view::npos) return wrong(form + ", without a path");
  if (std::any_of(text.begin(), text.end(),
                  [](char c) { return c == ' ' || (c >= 0 && c < 0x20) || c == 0x7F; })) {
    return wrong(form + ", without spaces");
  }

  const std::string port_beside = R"(, with the port beside it as "port": )";
  if (text.front() == '[') {
    const auto end = text.find(']');
    auto address = canonical_ipv6(text.substr(1, end == std::string_view::npos ? end : end - 1));
    if (end == std::string_view::npos || address.empty()) return wrong(R"(an IPv6 address, as "[fd00::50]")");
    const auto rest = text.substr(end + 1);
    if (rest.starts_with(':') && digits(rest.substr(1)) && rest.size() <= 6) {
      return wrong(form + port_beside + std::string(rest.substr(1)));
    }
    if (!rest.empty()) return wrong(R"(an IPv6 address, as "[fd00::50]")");
    if (address == "::") return wrong(form + "; this one stands for any address");
    return {std::move(address), {}};
  }
  if (const auto colon = text.find(':'); colon != std::string_view::npos) {
    const auto rest = text.substr(colon + 1);
    if (digits(rest) && rest.size() <= 5) return wrong(form + port_beside + std::string(rest));
    auto address = canonical_ipv6(text);
    if (address.empty()) return wrong(form);
    if (address == "::") return wrong(form + "; this one stands for any address");
    return {std::move(address), {}};
  }

  // Nobody names a host with digits alone, but many a number in an address is mistyped.
  if (text.find_first_not_of("0123456789.") == std::string_view::npos) {
    if (!is_ipv4(text)) return wrong(R"(an IPv4 address: four numbers from 0 to 255, as "192.168.1.50")");
    if (text == "0.0.0.0") return wrong(form + "; this one stands for any address");
    return {std::string(text), {}};
  }
  if (!is_dns_name(text)) return wrong(form + "; a name has letters, digits, \"-\", \"_\" and \".\"");
  return {std::string(text), {}};
}

std::string join_host_port(std::string_view host, unsigned port) {
  const bool brackets = host.find(':') != std::string_view::npos;
  return (brackets ? "[" : "") + std::string(host) + (brackets ? "]:" : ":") + std::to_string(port);
}

}  // namespace pocketfleet
