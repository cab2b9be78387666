// A phone: what the file says of it, what a probe has found out, and what an attempt needs to know.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pocketfleet/core/phone_group.hpp"

namespace pocketfleet {

/// What serves the model on a phone.
enum class engine_kind : std::uint8_t { unknown, ollama, llama_server };

std::string_view to_string(engine_kind kind);  ///< "ollama", "llama-server", "unknown"
std::optional<engine_kind> engine_from_string(std::string_view name);  ///< the two names that a file may say

/// A set of engines, one bit each.
using engine_mask = std::uint8_t;
constexpr engine_mask mask_of(engine_kind kind) {
  return kind == engine_kind::unknown ? engine_mask{0}
                                      : static_cast<engine_mask>(1U << static_cast<unsigned>(kind));
}
inline constexpr engine_mask any_engine = mask_of(engine_kind::ollama) | mask_of(engine_kind::llama_server);

/// A public name for a model that a phone has under another one.
struct model_alias {
  std::string name;    ///< for clients
  std::string behind;  ///< the phone's own

  bool operator==(const model_alias&) const = default;
};

/// One entry of phones.json, or a phone that has registered itself. Its id, or else host and port, identify
/// it across a change.
struct phone_config {
  std::string name;  ///< unique; "host:port" unless the file says otherwise
  std::string host;  ///< IP literal or DNS name, without scheme or brackets
  std::uint16_t port = 11434;
  std::string model;  ///< default model; empty: the engine's own
  std::uint32_t weight = 1;
  std::uint32_t max_concurrency = 1;          ///< permits
  engine_kind engine = engine_kind::unknown;  ///< unknown: detected by the prober
  std::string serial{};                       ///< adb serial, for the tools around the gateway
  std::string id{};            ///< the phone's own, by which its heartbeats are known; empty: it sends none
  std::string token_sha256{};  ///< hex; heartbeats in its name need this token; empty: the fleet's will do
  bool tls = false;            ///< its engine is spoken to by HTTPS
  bool confined = false;       ///< its name may lead to this machine only if phone_networks says so
  std::string api_key_file{};  ///< what the gateway has to show to its engine; empty: the fleet's, or nothing
  std::string api_key{};       ///< read from there
  std::vector<model_alias> aliases{};
  phone_group group{};

  bool operator==(const phone_config&) const = default;
};

/// Index of a phone in the dispatcher; never reused for another phone while the process lives.
enum class phone_id : std::uint32_t {};

/// A model as a phone has it.
struct served_model {
  served_model(std::string as_spelled, std::string what = {})
      : name(std::move(as_spelled)), identity(std::move(what)) {}
  served_model(const char* as_spelled) : name(as_spelled) {}

  std::string name;      ///< as the phone spells it
  std::string identity;  ///< equal on two phones only if the model is the very same; empty: not known
  /// All that the phone says of it, a JSON object; null: nothing, or too much to keep.
  std::shared_ptr<const std::string> about{};

  /// What is said of a model may change while it is the same (when it was looked at, until when it is
  /// loaded).
  bool operator==(const served_model& other) const {
    return name == other.name && identity == other.identity;
  }
};

/// What an attempt needs to talk to a phone. Immutable and shared: a change makes a new one.
struct phone_target {
  phone_id id{};
  std::string name;
  std::string host;
  std::uint16_t port = 0;
  std::string host_header;  ///< "host:port", with brackets round an IPv6 literal
  std::string api_key;      ///< for its engine; empty: none
  bool tls = false;
  bool confined = false;
  std::string model;  ///< used when the request names none
  engine_kind engine = engine_kind::unknown;
  bool loads_on_demand = false;       ///< a model that is not in `loaded` is read into memory first
  std::vector<std::string> loaded{};  ///< normalized names, as of the last look
  std::vector<served_model> models{};
  std::vector<served_model> in_memory{};  ///< as `loaded`, with what the phone says of each
  std::vector<model_alias> aliases{};
  phone_group group{};
};

/// A name under which a phone serves a model.
struct named_model {
  std::string_view name;  ///< as the phone or the file spells it
  std::string normalized;
  const served_model* model = nullptr;  ///< never null
};

/// Every name under which the phone serves a model, its own ones first: aliases whose model it has, and for
/// llama-server, which answers with its one model whatever it is called, all that the file calls it. Views
/// and pointers into the phone.
std::vector<named_model> names_of(const phone_target& phone);

/// What the phone calls the model that a client asked for: its default if the client named none. A model
/// that the phone has under that very name goes before an alias.
std::string_view model_for(const phone_target& phone, std::string_view asked);

/// What the phone's model of that name or alias (empty: its default) is; empty if that is not known.
std::string_view identity_of(const phone_target& phone, std::string_view normalized_name);

/// The name under which the phone has that very model; nothing if it has not.
const std::string* name_of(const phone_target& phone, std::string_view identity);

enum class health : std::uint8_t {
  unknown,  ///< not probed yet
  up,
  loading,  ///< answers, but its model is still being read
  down,
};
std::string_view to_string(health state);

/// What one look of the prober has found. An absent optional means "not looked at" and leaves what was known.
struct phone_report {
  health state = health::down;
  std::string reason{};  ///< why it is not up; short, for people
  engine_kind engine = engine_kind::unknown;
  std::optional<std::vector<served_model>> models{};  ///< what it can serve
  std::optional<std::vector<served_model>> loaded{};  ///< what is in its memory now
  std::optional<std::uint32_t> slots{};               ///< requests it can run at once
  std::optional<bool> vision{};                       ///< takes images
  std::optional<bool> messages{};                     ///< serves Anthropic's Messages API
  std::optional<group_report> group{};                ///< what its supervisor says
};

}  // namespace pocketfleet
