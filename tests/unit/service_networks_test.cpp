#include "pocketfleet/service/networks.hpp"

#include <gtest/gtest.h>

namespace pocketfleet {
namespace {

TEST(networks, takes_networks_and_nothing_else) {
  networks all;
  for (const auto* good : {"192.168.1.0/24", "10.0.0.0/8", "fd00::/8", "127.0.0.1/32", "0.0.0.0/0"})
    EXPECT_TRUE(all.add(good)) << good;
  for (const auto* bad : {"", "192.168.1.0", "192.168.1.0/33", "fd00::/129", "a/8", "10.0.0.0/", "/8"})
    EXPECT_FALSE(all.add(bad)) << bad;
  EXPECT_EQ(all.texts().size(), 5U);
}

TEST(networks, tells_what_is_inside) {
  networks lan;
  lan.add("192.168.1.0/24");
  lan.add("fd00::/8");
  EXPECT_TRUE(lan.contains("192.168.1.1"));
  EXPECT_TRUE(lan.contains("192.168.1.255"));
  EXPECT_FALSE(lan.contains("192.168.2.1"));
  EXPECT_TRUE(lan.contains("::ffff:192.168.1.7")) << "IPv4 in IPv6's clothes";
  EXPECT_TRUE(lan.contains("fd12::5"));
  EXPECT_FALSE(lan.contains("fe80::1"));
  EXPECT_FALSE(lan.contains("pixel.lan"));
  EXPECT_FALSE(lan.contains(""));
}

TEST(networks, a_network_with_bits_behind_its_mask_means_the_network) {
  networks lan;
  ASSERT_TRUE(lan.add("192.168.1.77/24"));
  EXPECT_TRUE(lan.contains("192.168.1.1"));
  ASSERT_TRUE(lan.add("fd00::5/64"));
  EXPECT_TRUE(lan.contains("fd00::6"));
}

TEST(networks, home_is_private_and_link_local) {
  const networks home = home_networks();
  for (const auto* inside : {"10.1.2.3", "172.31.0.1", "192.168.0.1", "169.254.3.4", "fd00::1", "fe80::1%lo"})
    EXPECT_TRUE(home.contains(inside)) << inside;
  for (const auto* outside : {"8.8.8.8", "172.32.0.1", "127.0.0.1", "::1", "2001:db8::1", "0.0.0.0"})
    EXPECT_FALSE(home.contains(outside)) << outside;
}

}  // namespace
}  // namespace pocketfleet
