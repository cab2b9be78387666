// What those who watch the fleet are sent: a whole picture, and what has changed between two.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {

/// The fleet at one moment. Every object is flat or compared as a whole member by member.
struct fleet_picture {
  std::string at{};               ///< RFC 3339
  json gateway = json::object();  ///< the fleet's numbers together
  std::vector<json> phones{};     ///< objects with a "name" each that no other has, in the file's order
};

/// A phone's tokens by the second, the oldest first.
using token_history = std::map<std::string, std::vector<std::uint32_t>, std::less<>>;

/// An event `fleet`: everything. Phones without a history get none.
std::string render_fleet(const fleet_picture& now, const token_history& tokens);

/// An event `change`: the members that differ, of a new phone all, and the names of those that are gone.
/// A comment if nothing differs, so that whoever listens knows that the stream lives.
std::string render_change(const fleet_picture& before, const fleet_picture& now);

}  // namespace pocketfleet
