// "did you mean": the known name nearest to a misspelt one.
#pragma once

#include <span>
#include <string_view>

namespace pocketfleet {

/// The nearest of `known` by edit distance, if it is near enough to be meant; empty otherwise.
std::string_view nearest(std::string_view name, std::span<const std::string_view> known);

}  // namespace pocketfleet
