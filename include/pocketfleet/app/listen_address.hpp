// Where the gateway listens, as phones.json and the command line spell it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pocketfleet {

struct listen_address {
  std::string address;  ///< IP literal, without brackets
  std::uint16_t port = 0;
};

/// What parse_listen_address() takes, for messages.
inline constexpr std::string_view listen_address_form =
    R"(an IP address and a port, as "127.0.0.1:8000", "[::1]:8000" or "0.0.0.0:80")";

/// "127.0.0.1:8000", "[::1]:8000"; "localhost" stands for 127.0.0.1, and port 0 for any free one. Other names
/// are refused: what they resolve to may change, and with it who can reach the gateway.
std::optional<listen_address> parse_listen_address(std::string_view text);

/// The other direction, with brackets where they belong.
std::string to_string(const listen_address& listen);

/// True for 127.0.0.0/8 and ::1: only this machine can reach it.
bool is_loopback(std::string_view address);

}  // namespace pocketfleet
