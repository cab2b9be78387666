// One round of smooth weighted round robin, for the policies that are built on it.
#pragma once

#include "pocketfleet/core/policy.hpp"

namespace pocketfleet {

/// Index of the candidate whose turn it is. Never called with none.
std::size_t weighted_round(std::span<const candidate> candidates);

}  // namespace pocketfleet
