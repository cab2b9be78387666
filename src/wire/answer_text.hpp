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

/// A call of a tool, put together from its deltas.
struct whole_call {
  std::string id;
  std::string name;
  std::string arguments;  ///< JSON text, as the model wrote it
};
std::vector<whole_call> calls_of(const answer& a);

}  // namespace pocketfleet
