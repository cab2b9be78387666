#include "pocketfleet/service/networks.hpp"

#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/network_v4.hpp>
#include <boost/asio/ip/network_v6.hpp>

namespace pocketfleet {
namespace {

namespace ip = boost::asio::ip;
using boost::system::error_code;

bool holds(const std::string& network, const ip::address& address) {
  error_code ec;
  if (address.is_v4()) {
    const auto n = ip::make_network_v4(network, ec);
    if (ec) return false;
    const auto mask = n.netmask().to_uint();
    return (address.to_v4().to_uint() & mask) == n.network().to_uint();
  }
  const auto n = ip::make_network_v6(network, ec);
  if (ec) return false;
  // Without the scope: fe80::1%eth0 is as much link-local as fe80::1.
  const ip::address_v6 plain(address.to_v6().to_bytes());
  return ip::network_v6(plain, n.prefix_length()).network() == n.network();
}

}  // namespace

bool networks::add(std::string_view text) {
  const std::string network(text);
  error_code v4;
  error_code v6;
  ip::make_network_v4(network, v4);
  ip::make_network_v6(network, v6);
  if (v4 && v6) return false;
  texts_.push_back(network);
  return true;
}

bool networks::contains(const std::string& address) const {
  error_code ec;
  ip::address a = ip::make_address(address, ec);
  if (ec) return false;
  if (a.is_v6() && a.to_v6().is_v4_mapped()) a = ip::make_address_v4(ip::v4_mapped, a.to_v6());
  for (const auto& text : texts_) {
    if (holds(text, a)) return true;
  }
  return false;
}

networks home_networks() {
  networks all;
  for (const auto* text :
       {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10"})
    all.add(text);
  return all;
}

}  // namespace pocketfleet
