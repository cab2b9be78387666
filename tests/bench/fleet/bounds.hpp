// How soon a batch could be done at best.
#pragma once

#include "workload.hpp"

namespace pocketfleet::fleet {

/// Of requests that come at once and differ in their last message only. No schedule, not even one that knows
/// everything, is done sooner. Seconds.
double lower_bound(const std::vector<phone_spec>& phones, const std::vector<request>& batch);

/// Done by somebody who knows all lengths beforehand: longest first, each where it is done soonest, one at a
/// time. The optimum lies between the two.
double clairvoyant(const std::vector<phone_spec>& phones, const std::vector<request>& batch);

}  // namespace pocketfleet::fleet
