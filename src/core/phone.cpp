#include "pocketfleet/core/phone.hpp"

namespace pocketfleet {

std::string_view to_string(engine_kind kind) {
  switch (kind) {
    case engine_kind::ollama: return "ollama";
    case engine_kind::llama_server: return "llama-server";
    case engine_kind::unknown: break;
  }
  return "unknown";
}

std::optional<engine_kind> engine_from_string(std::string_view name) {
  for (const auto kind : {engine_kind::ollama, engine_kind::llama_server}) {
    if (name == to_string(kind)) return kind;
  }
  return std::nullopt;
}

std::string_view to_string(health state) {
  switch (state) {
    case health::up: return "up";
    case health::loading: return "loading";
    case health::down: return "down";
    case health::unknown: break;
  }
  return "unknown";
}

}  // namespace pocketfleet
