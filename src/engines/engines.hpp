// The engines there are; private to this layer.
#pragma once

#include "pocketfleet/engines/codec.hpp"

namespace pocketfleet {

const engine& ollama_engine();
const engine& llama_server_engine();

/// Errors inside a stream that are the request's fault, not the phone's.
error stream_failure(std::string_view text, int status = 500);

}  // namespace pocketfleet
