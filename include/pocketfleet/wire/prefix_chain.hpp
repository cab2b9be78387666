// A question's prompt as marks, by which it is known which phone has read its beginning before.
#pragma once

#include <cstdint>
#include <string_view>

#include "pocketfleet/core/prefix.hpp"
#include "pocketfleet/wire/question.hpp"

namespace pocketfleet {

/// Over what reaches the model, in the order in which templates have it: tools and format, then message by
/// message. A mark stands behind each message and at growing distances, from 1 KiB on, within long ones; the
/// last is the end of all. Where the marks are depends only on what is before them: a conversation that goes
/// on has those that it had, but for the end of a very long one. Bytes are those of the text, with a flat
/// amount for an image.
prefix_chain prefix_of(const question& q);

/// A number for a name, to tell apart those who bear one; of nothing 0, and of nothing else. `within`: names
/// of different groups are different names.
std::uint64_t name_hash(std::string_view name, std::uint64_t within = 0);

}  // namespace pocketfleet
