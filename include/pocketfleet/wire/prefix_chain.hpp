// A question's prompt as marks, by which it is known which phone has read its beginning before.
#pragma once

#include <cstdint>
#include <string_view>

#include "pocketfleet/core/prefix.hpp"
#include "pocketfleet/wire/answer.hpp"
#include "pocketfleet/wire/question.hpp"

namespace pocketfleet {

/// Where a conversation's last message ends: what follows it is marked from there on. Of other prompts: all
/// 0.
struct prompt_end {
  std::uint64_t hash = 0;   ///< of all that was said
  std::uint64_t bytes = 0;  ///< of it
  std::uint32_t marks = 0;  ///< so many of the prompt's stay when more follows
};

/// Over what reaches the model, in the order in which templates have it: tools and format, then message by
/// message. A mark stands behind each message and at growing distances, from 1 KiB on, within long ones; the
/// last is the end of all. Where the marks are depends only on what is before them: a conversation that goes
/// on has those that it had, but for the end of a very long one. Bytes are those of the text, with a flat
/// amount for an image.
///
/// `end`: for prefix_with().
prefix_chain prefix_of(const question& q, prompt_end* end = nullptr);

/// As prefix_of() the same conversation with the answer as its last message: with what the next turn will
/// begin. Only the answer is read. Empty where the next turn is not known to begin so: a prompt that is no
/// conversation; an answer with reasoning, which templates leave out later, or with calls of tools, which
/// clients send back in words of their own; one without text.
prefix_chain prefix_with(const prefix_chain& prompt, const prompt_end& end, const answer& said);

/// A number for a name, to tell apart those who bear one; of nothing 0, and of nothing else. `within`: names
/// of different groups are different names.
std::uint64_t name_hash(std::string_view name, std::uint64_t within = 0);

}  // namespace pocketfleet
