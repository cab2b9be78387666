// Pieces of JSON that answers are written with; private to this layer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "pocketfleet/wire/answer.hpp"

namespace pocketfleet {

void append_number(std::string& out, std::int64_t value);

/// ,"name":value
void append_field(std::string& out, std::string_view name, std::int64_t value);

/// The entries of a piece of logprobs, without the brackets round them; appended to those before.
void add_logprobs(std::string& entries, std::string_view piece);

/// The entries of all of them.
std::string all_logprobs(const answer& a);

/// The entries of those behind the last text: of calls, and of the end.
std::string last_logprobs(const answer& a);

/// A call of a tool, put together from its deltas.
struct whole_call {
  std::string id;
  std::string name;
  std::string arguments;  ///< JSON text, as the model wrote it
};
std::vector<whole_call> calls_of(const answer& a);

/// The same for clients that take arguments for an object: one that the end of the answer has cut is no call.
std::vector<whole_call> sound_calls_of(const answer& a);

}  // namespace pocketfleet
