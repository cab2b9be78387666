// Every route there is goes through the same guards.
#include <set>

#include "gateway_helpers.hpp"
#include "pocketfleet/wire/digest.hpp"

namespace pocketfleet::testing_gateway {
namespace {

class guarded_gateway : public testing::Test {
 protected:
  void SetUp() override {
    configuration c;
    c.gateway.listener.port = 0;
    for (const auto& [text, role] :
         {std::pair{"for clients", key_role::client}, {"for admins", key_role::admin}}) {
      api_key key;
      key.digest = sha256(text);
      key.terms.name = text;
      key.terms.role = role;
      c.gateway.keys.push_back(key);
    }
    phone_config nobody;
    nobody.name = "nobody";
    nobody.host = "127.0.0.1";
    nobody.port = 1;
    c.phones.push_back(nobody);
    gateway_ = std::make_unique<gateway>(c);
    port_ = *gateway_->listen();
    thread_ = std::thread([this] { gateway_->run(); });
  }
  void TearDown() override {
    gateway_->stop();
    thread_.join();
  }

  static std::string path_of(const route& r) {
    std::string path(r.path);
    if (path.ends_with('*')) path.back() = 'x';
    return path;
  }

  int ask(const route& r, const std::string& headers) {
    http_client client(port_);
    client.send_bytes(std::string(r.method) + " " + path_of(r) + " HTTP/1.1\r\n" + headers + "\r\n");
    return client.read_lines(0).status;
  }

  std::unique_ptr<gateway> gateway_;
  std::uint16_t port_ = 0;
  std::thread thread_;
};

constexpr const char* here = "Host: localhost\r\nContent-Length: 0\r\n";
// A body that is announced and never sent: it is not waited for.
constexpr const char* with_a_body = "Host: localhost\r\nContent-Length: 1000000\r\n";

TEST_F(guarded_gateway, names_of_others_and_pages_of_others_are_refused_first) {
  ASSERT_GT(gateway_->all_routes().size(), 20U);
  for (const route& r : gateway_->all_routes()) {
    const std::string key = "Authorization: Bearer for admins\r\n";
    EXPECT_EQ(ask(r, "Host: evil.example\r\n" + key), 403) << r.path;
    EXPECT_EQ(ask(r, here + key + "Origin: https://evil.example\r\n"), 403) << r.path;
    EXPECT_EQ(ask(r, here + key + "Origin: null\r\n"), 403) << r.path;
    EXPECT_EQ(ask(r, here + key + "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n"), 403)
        << r.path;
  }
}

TEST_F(guarded_gateway, without_a_key_there_is_nothing_but_what_is_said_to_be_open) {
  std::set<std::string> open;
  for (const route& r : gateway_->all_routes()) {
    if (r.access == access_level::open) {
      open.insert(path_of(r));
      continue;
    }
    EXPECT_EQ(ask(r, with_a_body), 401) << r.path;
    EXPECT_EQ(ask(r, std::string(with_a_body) + "Authorization: Basic Zm9yIGNsaWVudHM=\r\n"), 401) << r.path;
    if (r.access != access_level::admin) continue;
    EXPECT_EQ(ask(r, std::string(with_a_body) + "X-API-Key: for clients\r\n"), 403) << r.path;
  }
  // What anybody may have. A new one is a decision: it is to be made here too.
  const std::set<std::string> decided{"/",    "/fleet/heartbeat", "/healthz", "/phone_setup.sh", "/readyz",
                                      "/ui/x"};
  EXPECT_EQ(open, decided);
}

TEST_F(guarded_gateway, with_the_key_every_route_is_reached) {
  for (const route& r : gateway_->all_routes()) {
    if (r.path == "/fleet/heartbeat") continue;  // it has tokens of its own
    const int status = ask(r, std::string(here) + "X-API-Key: for admins\r\n");
    EXPECT_NE(status, 401) << r.path;
    EXPECT_NE(status, 0) << r.path;
    EXPECT_NE(status, 405) << r.path;
  }
  const route nowhere{"/nowhere", "GET", {}};
  EXPECT_EQ(ask(nowhere, here), 401) << "strangers do not learn what there is";
  EXPECT_EQ(ask(nowhere, std::string(here) + "X-API-Key: for clients\r\n"), 404);
}

}  // namespace
}  // namespace pocketfleet::testing_gateway
