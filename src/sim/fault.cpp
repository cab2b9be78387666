#include "pocketfleet/sim/fault.hpp"

#include <array>
#include <utility>

namespace pocketfleet::sim {
namespace {

constexpr std::array<std::pair<fault_kind, std::string_view>, 17> names{{
    {fault_kind::none, "none"},
    {fault_kind::refuse, "refuse"},
    {fault_kind::crash, "crash"},
    {fault_kind::hang, "hang"},
    {fault_kind::error_500, "error_500"},
    {fault_kind::busy_503, "busy_503"},
    {fault_kind::loading_503, "loading_503"},
    {fault_kind::html, "html"},
    {fault_kind::reset_after, "reset_after"},
    {fault_kind::close_after, "close_after"},
    {fault_kind::truncated, "truncated"},
    {fault_kind::silent_after, "silent_after"},
    {fault_kind::end_without_done, "end_without_done"},
    {fault_kind::error_in_stream, "error_in_stream"},
    {fault_kind::garbage, "garbage"},
    {fault_kind::huge_line, "huge_line"},
    {fault_kind::slow, "slow"},
}};

}  // namespace

std::string_view to_string(fault_kind kind) {
  for (const auto& [each, name] : names)
    if (each == kind) return name;
  return "none";
}

std::optional<fault_kind> fault_from_string(std::string_view name) {
  for (const auto& [kind, each] : names)
    if (each == name) return kind;
  return std::nullopt;
}

}  // namespace pocketfleet::sim
