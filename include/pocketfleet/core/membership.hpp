// A member of a group is no phone by itself, and in no second group.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "pocketfleet/core/phone.hpp"

namespace pocketfleet {

/// Names of hosts are the same in either case.
bool same_host(std::string_view one, std::string_view other);
std::string address_text(std::string_view host, std::uint16_t port);  ///< "[fd00::1]:11434"

/// The phone's member that is there; null: it has none.
const group_member* member_at(const phone_config& phone, std::string_view host, std::uint16_t port);

/// The phone's member with that id, which is not empty; null: it has none.
const group_member* member_with(const phone_config& phone, std::string_view id);

/// Why the two cannot be in one fleet, for people: the one, or a member of it, is a member of the other.
/// Empty: they can.
std::string in_both(const phone_config& one, const phone_config& other);

}  // namespace pocketfleet
