#include "pocketfleet/app/invitation.hpp"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <qrencode.h>
#include <sys/random.h>

#include <array>
#include <memory>
#include <stdexcept>

#include "host_text.hpp"
#include "pocketfleet/app/listen_address.hpp"

namespace pocketfleet {
namespace {

constexpr int quiet_zone = 4;  // modules of light round the code, as the standard asks for

std::string numeric(const sockaddr* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address->sa_family != AF_INET) return {};
  const auto* v4 = reinterpret_cast<const sockaddr_in*>(address);
  return ::inet_ntop(AF_INET, &v4->sin_addr, text.data(), text.size()) == nullptr ? "" : text.data();
}

/// This machine's first IPv4 address in a private network; empty if there is none.
std::string home_address() {
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return {};
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owned(all, ::freeifaddrs);
  const networks home = home_networks();
  for (const ifaddrs* one = all; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || (one->ifa_flags & IFF_UP) == 0) continue;
    if (std::string address = numeric(one->ifa_addr); home.contains(address)) return address;
  }
  return {};
}

}  // namespace

std::string new_token() {
  constexpr std::string_view letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::array<unsigned char, 32> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
    throw std::runtime_error("the kernel gives no random bytes");
  std::string token;
  for (const unsigned char byte : bytes) token += letters[byte & 63U];
  return token;
}

result<std::string> address_for_phones(const listener_settings& listener) {
  if (is_loopback(listener.address)) {
    return error(
        errc::bad_request,
        "the gateway listens on " + listener.address +
            ", where phones do not reach it. Let \"listen\" in the file be an address of the LAN, or say "
            "with --address where they do (over USB: 127.0.0.1:PORT)");
  }
  const bool every = listener.address == "0.0.0.0" || listener.address == "::";
  const std::string host = every ? home_address() : listener.address;
  if (host.empty()) {
    return error(errc::bad_request,
                 "this machine has no address in a private network; say one with --address");
  }
  return join_host_port(host, listener.port);
}

std::string join_command(std::string_view address, std::string_view token, std::string_view model) {
  std::string url = "http://";
  url.append(address);
  return "curl -fsS " + url + "/phone_setup.sh -o phone_setup.sh && POCKETFLEET_TOKEN=" + std::string(token) +
         " bash phone_setup.sh " + std::string(model) + " --gateway " + url;
}

std::string qr_code(const std::string& text) {
  const std::unique_ptr<QRcode, void (*)(QRcode*)> code(
      QRcode_encodeString8bit(text.c_str(), 0, QR_ECLEVEL_L), QRcode_free);
  if (!code) return {};
  const auto dark = [&](int row, int column) {
    return row >= 0 && column >= 0 && row < code->width && column < code->width &&
           (code->data[row * code->width + column] & 1U) != 0;
  };
  std::string out;
  for (int row = -quiet_zone; row < code->width + quiet_zone; row += 2) {
    out += "\x1b[30;107m";  // black on white, whatever the terminal's colours are
    for (int column = -quiet_zone; column < code->width + quiet_zone; ++column) {
      const bool upper = dark(row, column);
      const bool lower = dark(row + 1, column);
      out += upper && lower ? "\u2588" : upper ? "\u2580" : lower ? "\u2584" : " ";
    }
    out += "\x1b[0m\n";
  }
  return out;
}

}  // namespace pocketfleet
