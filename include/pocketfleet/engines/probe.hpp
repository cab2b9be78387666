// What a phone's own pages say about it: which engine, which models, how many at once. No I/O.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/core/error.hpp"
#include "pocketfleet/core/phone.hpp"

namespace pocketfleet {

/// From GET /: llama-server names itself in the Server field of every response, Ollama says so in the text.
engine_kind identify(std::string_view server_field, std::string_view body);

/// Ollama: names in GET /api/tags or GET /api/ps.
result<std::vector<std::string>> read_ollama_models(std::string_view body);

/// llama-server: ids and aliases in GET /v1/models.
result<std::vector<std::string>> read_llama_models(std::string_view body);

/// llama-server: GET /props.
struct llama_props {
  std::optional<std::uint32_t> slots{};
  std::optional<bool> vision{};
};
result<llama_props> read_llama_props(std::string_view body);

}  // namespace pocketfleet
