// Connections of one worker to its phones.
#pragma once

#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>

#include "pocketfleet/service/ports.hpp"
#include "pocketfleet/transport/settings.hpp"
#include "pocketfleet/transport/watchdog.hpp"

namespace pocketfleet {

struct phone_connection;
class name_lookup;

/// Used on its worker's thread only. Shared by the exchanges, which bring their connections back.
class phone_pool final : public phone_client, public std::enable_shared_from_this<phone_pool> {
 public:
  phone_pool(executor where, std::shared_ptr<watchdog> dog, const phone_link_settings& settings);
  ~phone_pool() override;

  std::unique_ptr<phone_exchange> open(std::shared_ptr<const phone_target> phone,
                                       std::string traceparent) override;

  // for the exchanges

  /// An idle connection to that phone, the one used last; null if there is none young enough.
  std::unique_ptr<phone_connection> take(const phone_target& phone);
  void give_back(const phone_target& phone, std::unique_ptr<phone_connection> connection);
  std::unique_ptr<phone_connection> make() const;

  /// The question for that name's addresses that is under way, or a new one.
  std::shared_ptr<name_lookup> look_up(const std::string& host);

  /// Where decoded bytes of a response are put: one for all exchanges, since what it holds is used before any
  /// of them reads on.
  std::span<char> scratch() { return scratch_; }

  const phone_link_settings& settings() const { return settings_; }
  const std::shared_ptr<watchdog>& dog() const { return dog_; }
  const executor& executor_of() const { return executor_; }

 private:
  executor executor_;
  std::shared_ptr<watchdog> dog_;
  const phone_link_settings settings_;
  std::unordered_map<std::string, std::deque<std::unique_ptr<phone_connection>>> idle_;  // by host:port
  std::unordered_map<std::string, std::shared_ptr<name_lookup>> lookups_;                // under way, by name
  std::array<char, 16384> scratch_{};
};

}  // namespace pocketfleet
