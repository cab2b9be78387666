#include "pocketfleet/core/phone.hpp"

#include <algorithm>

#include "pocketfleet/core/model_name.hpp"

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

std::string_view identity_of(const phone_target& phone, std::string_view normalized_name) {
  if (phone.models.empty()) return {};
  const std::string wanted =
      normalized_name.empty() ? normalized_model(phone.model) : std::string(normalized_name);
  const auto found = std::find_if(phone.models.begin(), phone.models.end(),
                                  [&](const served_model& m) { return normalized_model(m.name) == wanted; });
  if (found != phone.models.end()) return found->identity;
  // llama-server answers with the model it has, whatever it is called.
  return phone.engine == engine_kind::llama_server ? std::string_view(phone.models.front().identity)
                                                   : std::string_view{};
}

const std::string* name_of(const phone_target& phone, std::string_view identity) {
  if (identity.empty()) return nullptr;
  const auto found = std::find_if(phone.models.begin(), phone.models.end(),
                                  [&](const served_model& m) { return m.identity == identity; });
  return found == phone.models.end() ? nullptr : &found->name;
}

std::string_view model_for(const phone_target& phone, std::string_view asked) {
  return asked.empty() ? std::string_view(phone.model) : asked;
}

}  // namespace pocketfleet
