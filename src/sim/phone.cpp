#include "pocketfleet/sim/phone.hpp"

#include <utility>

#include "engine.hpp"
#include "server.hpp"

namespace pocketfleet::sim {

phone::phone(boost::asio::io_context& context, phone_settings settings)
    : server_(std::make_shared<server>(context, std::move(settings))) {}

phone::phone(phone&&) noexcept = default;

phone& phone::operator=(phone&& other) noexcept {
  if (server_ && server_ != other.server_) server_->stop();
  server_ = std::move(other.server_);
  return *this;
}

phone::~phone() {
  if (server_) server_->stop();
}

void phone::start() {
  server_->start();
}
void phone::stop() {
  server_->stop();
}
std::uint16_t phone::port() const {
  return server_->port();
}
const phone_settings& phone::settings() const {
  return server_->settings;
}

phone_config phone::config() const {
  phone_config result;
  result.name = server_->settings.name;
  result.host = server_->settings.address;
  result.port = server_->port();
  result.model = server_->settings.model;
  result.max_concurrency = server_->settings.slots;
  result.engine = server_->settings.engine;
  return result;
}

void phone::set(const fault& what) {
  server_->set(what);
}
void phone::clear_fault() {
  server_->set(fault{});
}
phone_state phone::state() const {
  return server_->state();
}
seen_request phone::last_request() const {
  return server_->last;
}

}  // namespace pocketfleet::sim
