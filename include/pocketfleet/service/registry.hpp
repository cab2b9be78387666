// Where the phones are: those of the file, and those that have said of themselves where they are.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "pocketfleet/core/error.hpp"
#include "pocketfleet/core/phone.hpp"
#include "pocketfleet/core/time.hpp"
#include "pocketfleet/service/networks.hpp"
#include "pocketfleet/service/roster.hpp"
#include "pocketfleet/wire/heartbeat.hpp"

namespace pocketfleet {

enum class registration_mode : std::uint8_t {
  off,    ///< heartbeats tell how a phone is, and change nothing else
  known,  ///< phones whose id is in the file are followed to another address
  open,   ///< and whoever has the token may join
};

struct registration_settings {
  registration_mode mode = registration_mode::off;
  std::string token_file{};    ///< the fleet's token, one line; empty: only phones with a token of their own
  std::string token_sha256{};  ///< hex; of what is in that file
  std::string registered_file{};  ///< where the gateway keeps what it has learned; empty: nowhere
  std::string api_key{};          ///< for the engines of phones that are not in the file; empty: none
  networks from = home_networks();
  std::uint16_t first_tunnel_port = 20000;
  std::uint16_t last_tunnel_port = 20999;
  std::size_t most = 256;  ///< phones that are not in the file
};

/// A member of a group is heard, and is nowhere but there: it neither joins nor moves.
///
/// Identity is the id, never the address: who has a phone's address has nothing, and who has its id and token
/// may say where it is. Owned by the application, used from every worker; one lock, never held across I/O.
class registry {
 public:
  /// Replaces settings and the file's phones. What phones have said stays, but for one whose address has been
  /// changed in the file: that is newer.
  void configure(const registration_settings& settings, std::vector<phone_config> of_file);

  /// The same with the settings as they are.
  void configure(std::vector<phone_config> of_file);

  /// By hand, of a phone that has joined. False: there is none with that name.
  bool change(std::string_view name, const phone_change& what);
  /// By hand: what a phone has said is forgotten; the next heartbeat is its first. False: there is nothing.
  bool forget(const std::string& id);

  /// Takes over what registered() gave before a restart.
  void restore(std::vector<phone_config> registered);

  /// True if somebody may send heartbeats at all.
  bool listens() const;
  bool lets_join() const;  ///< phones that are not in the file

  /// True if the token is the fleet's or that of some phone. Digests are compared, not tokens: the time that
  /// takes tells nothing about a token.
  bool knows(const std::string& token_sha256) const;

  struct taken {
    std::string phone{};    ///< its name in the fleet; empty: it is not in it
    std::string remark{};   ///< why it is not in the fleet, or not at this address; for the phone's log
    bool joined = false;    ///< it is new
    bool moved = false;     ///< it has another address now
    std::string address{};  ///< of a phone that joined or moved
  };
  /// `token_sha256`: of the token that came along, hex. `peer`: where the heartbeat came from. Errors:
  /// unauthorized, forbidden.
  result<taken> take(const heartbeat& h, const std::string& peer, const std::string& token_sha256,
                     time_point now);

  std::vector<phone_config> fleet() const;  ///< file and registered, each where it is now
  /// What is to be kept: id, name, address, engine, weight and permits.
  std::vector<phone_config> registered() const;

 private:
  struct place {
    std::string host{};
    std::uint16_t port = 0;
    bool operator==(const place&) const = default;
  };
  struct found {
    std::string name{};
    engine_kind engine = engine_kind::unknown;
    std::uint32_t weight = 1;
    std::uint32_t max_concurrency = 1;
    place at{};  // empty host: another phone has its address now
    time_point moved{};
  };

  template <class Is>
  bool has_token(Is is) const;
  void take_file(std::vector<phone_config> of_file);
  const phone_config* of_file(const std::string& id) const;
  const phone_config* group_with(const std::string& member_id) const;
  result<place> where(const heartbeat& h, const std::string& peer) const;
  const phone_config* group_at(const place& at) const;
  result<void> make_room(const place& at, const std::string& id);
  std::string free_name(const std::string& wish, const std::string& id) const;
  bool follows(const std::string& id) const;
  place place_of(const phone_config& p) const;

  mutable std::mutex mutex_;
  // guarded by mutex_
  registration_settings settings_{};
  std::vector<phone_config> file_{};
  std::map<std::string, found> found_{};  // by id
};

}  // namespace pocketfleet
