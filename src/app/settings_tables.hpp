// The two tables that read phones.json.
#pragma once

#include <vector>

#include "config_reader.hpp"
#include "pocketfleet/app/settings.hpp"

namespace pocketfleet {

/// Every key of the `gateway` object. A new setting is one line there; docs/configuration.md and
/// config/phones.schema.json name it too, and a test says so if they do not.
const std::vector<setting<gateway_settings>>& gateway_table();

/// Reads the `gateway` object: each key by the table, then what depends on several.
void read_gateway(gateway_settings& into, const place& from);

void read_id(std::string& into, const place& from);
void read_token_digest(std::string& into, const place& from);

/// A phone's "group".
void read_group(phone_config& into, const place& from);

/// What is wrong with a group by itself: a member that is named twice, or is the master.
void check_own_members(const phone_config& phone, const place& from);

/// A member is in one group, and no phone of its own beside: what is at `at` of each of these phones.
void check_groups(const place& phones, const std::vector<phone_config>& read,
                  const std::vector<std::size_t>& at);

/// Every key of a phone.
const std::vector<setting<phone_config>>& phone_table();

/// Reads one phone; without a name it is called by its address.
phone_config read_phone(const place& from);

/// Reads the array of phones; it may be empty only if others may join.
std::vector<phone_config> read_phones(const place& from, bool others_may_join);

}  // namespace pocketfleet
