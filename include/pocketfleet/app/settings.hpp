// Everything that phones.json and the command line can say, in one place.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pocketfleet/core/api_key.hpp"
#include "pocketfleet/core/dispatcher.hpp"
#include "pocketfleet/core/phone.hpp"
#include "pocketfleet/service/registry.hpp"
#include "pocketfleet/service/settings.hpp"
#include "pocketfleet/transport/settings.hpp"
#include "pocketfleet/transport/tls.hpp"

namespace pocketfleet {

/// journal: text with a priority for systemd's journal, which keeps the time. automatic: that where standard
/// error is the journal, otherwise text.
enum class log_format : std::uint8_t { automatic, text, objects, journal };

/// The `gateway` object. Each field's key and meaning: docs/configuration.md.
struct gateway_settings {
  listener_settings listener{};
  phone_link_settings links{};
  service_settings service{};
  dispatch_settings dispatch{};
  registration_settings registration{};
  std::string api_keys_file{};                      ///< the keys of clients; empty: none are needed
  std::vector<api_key> keys{};                      ///< read from there
  tls_files tls{};                                  ///< of the listener; an empty certificate: plain HTTP
  std::shared_ptr<const tls_context> tls_loaded{};  ///< what these files say
  std::string phone_tls_ca_file{};   ///< who vouches for phones with TLS; empty: whom the system trusts
  std::string phone_api_key_file{};  ///< the key of phones that name none of their own; empty: none
  std::string policy = "weighted_round_robin";
  bool allow_unauthenticated_lan = false;  ///< listening beyond loopback is refused without it or keys
  bool dashboard = true;
  unsigned workers = 1;
  seconds drain{120};  ///< how long running answers may go on after SIGTERM
  std::string log_level = "info";
  log_format log = log_format::automatic;
};

struct configuration {
  gateway_settings gateway{};
  std::vector<phone_config> phones{};
};

/// One thing that is wrong with a file, for a person to mend.
struct mistake {
  std::string path;      ///< JSON path, "phones[2].weight"; or "line 3, column 7" where the file is not JSON
  std::string found;     ///< what stands there, shortened
  std::string expected;  ///< what should
};

/// Reads and checks a file: the plain array of phones, or the object form. Either no mistakes and a
/// configuration, or every mistake there is.
struct loaded_configuration {
  configuration value{};
  std::vector<mistake> mistakes{};
  bool ok() const { return mistakes.empty(); }
};
///
/// With a file, paths in it count from its folder, and what it names is looked at too: the fleet's token is
/// read.
loaded_configuration load_configuration(const std::string& file);

/// The same without reading the fleet's token.
loaded_configuration load_without_token(const std::string& file);

/// A token or key from its file: one line that an HTTP field can carry, in a file that nobody else can
/// read.
struct token_or_mistake {
  std::string token{};
  std::optional<mistake> wrong{};
};
/// `path`: of what names the file, for the mistake.
token_or_mistake read_token(const std::string& file, const std::string& path = "gateway.fleet_token_file");
loaded_configuration parse_configuration(std::string_view text);

/// "FILE: phones[2].weight: found 0, expected a whole number from 1 to 1000"
std::string to_string(const mistake& m, const std::string& file);

}  // namespace pocketfleet
