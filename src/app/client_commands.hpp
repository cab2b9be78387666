// What the subcommands that talk to a gateway do; private to this layer. Each prints, and throws
// client_failure where it cannot.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "client_http.hpp"
#include "client_text.hpp"

namespace pocketfleet {

struct client_arguments {
  client_where where{};
  bool as_json = false;  ///< what the API says, as it is
  std::string name{};    ///< of the phone
  unsigned weight = 0;   ///< 0: not said
  unsigned permits = 0;
  bool wait = false;
  unsigned timeout = 900;  ///< seconds to wait
  std::string state{};     ///< of a breaker
  std::string host{};      ///< of a phone to be added, like the rest
  unsigned port = 0;
  std::string model{};
  std::string engine{};
  std::string id{};
};

void show_phones(const client_arguments& given);
void drain_phone(const client_arguments& given);
void undrain_phone(const client_arguments& given);
void set_phone(const client_arguments& given);
void add_phone(const client_arguments& given);
void remove_phone(const client_arguments& given);
void steer_breaker(const client_arguments& given);
void clear_cache(const client_arguments& given);
void reload_file(const client_arguments& given);
void save_file(const client_arguments& given);
void show_top(const client_arguments& given);  ///< client_top.cpp

/// What a table of phones says of one, from /admin/phones or /health.
std::string state_word(const json& phone);
tint state_tint(const json& phone);
std::string text_of(const json& phone, const char* key);
std::uint64_t number_of(const json& phone, const char* key);
std::string address_of(const json& phone);
std::string learned_speed_of(const json& phone);  ///< "11.3/s", "6.1/s (54 %)"; empty: not known

}  // namespace pocketfleet
