#include "pocketfleet/transport/phone_pool.hpp"

#include "name_lookup.hpp"
#include "phone_exchange.hpp"

namespace pocketfleet {

phone_pool::phone_pool(executor where, std::shared_ptr<watchdog> dog, const phone_link_settings& settings)
    : executor_(where), dog_(std::move(dog)), settings_(settings) {}

phone_pool::~phone_pool() = default;

std::unique_ptr<phone_exchange> phone_pool::open(std::shared_ptr<const phone_target> phone,
                                                 std::string traceparent) {
  return std::make_unique<pooled_exchange>(shared_from_this(), std::move(phone), std::move(traceparent));
}

std::unique_ptr<phone_connection> phone_pool::make() const {
  return std::make_unique<phone_connection>(executor_, settings_.buffer_bytes);
}

std::unique_ptr<phone_connection> phone_pool::take(const phone_target& phone) {
  const auto found = idle_.find(phone.host_header);
  if (found == idle_.end()) return nullptr;
  auto& connections = found->second;
  const milliseconds most =
      phone.engine == engine_kind::ollama ? settings_.idle_ollama : settings_.idle_llama_server;
  std::unique_ptr<phone_connection> taken;
  if (!connections.empty() && clock::now() - connections.back()->idle_since < most) {
    taken = std::move(connections.back());
    connections.pop_back();
  } else {
    connections.clear();  // the youngest is too old: so are all
  }
  if (connections.empty()) idle_.erase(found);
  // What came behind the last response would be read as the next one's.
  boost::system::error_code failed;
  if (taken && (taken->socket.available(failed) > 0 || failed)) return nullptr;
  if (taken && taken->tls.has_value() != phone.tls) return nullptr;  // the file has changed
  return taken;
}

std::shared_ptr<name_lookup> phone_pool::look_up(const std::string& host) {
  std::erase_if(lookups_, [](const auto& each) { return each.second->done(); });
  auto& one = lookups_[host];
  if (!one) one = name_lookup::start(host);
  return one;
}

void phone_pool::give_back(const phone_target& phone, std::unique_ptr<phone_connection> connection) {
  connection->idle_since = clock::now();
  auto& connections = idle_[phone.host_header];
  connections.push_back(std::move(connection));
  if (connections.size() > settings_.idle_per_phone) connections.pop_front();
}

}  // namespace pocketfleet
