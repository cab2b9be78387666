// A list of networks, as 192.168.0.0/16, and whether an address is in one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pocketfleet {

class networks {
 public:
  /// Adds "192.168.1.0/24" or "fd00::/8". False: that is not a network.
  bool add(std::string_view text);

  /// An IPv4 address may be written as IPv6 ("::ffff:10.0.0.1"). False for what is no address.
  bool contains(const std::string& address) const;

  const std::vector<std::string>& texts() const { return texts_; }
  bool operator==(const networks& other) const { return texts_ == other.texts_; }

 private:
  std::vector<std::string> texts_;
};

/// Private and link-local ones (RFC 1918, RFC 4193, RFC 3927, RFC 4291).
networks home_networks();

}  // namespace pocketfleet
