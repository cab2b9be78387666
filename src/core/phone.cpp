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

namespace {

/// The one that the phone itself calls so.
const served_model* own_model(const phone_target& phone, std::string_view normalized) {
  const auto found = std::find_if(phone.models.begin(), phone.models.end(), [&](const served_model& m) {
    return normalized_model(m.name) == normalized;
  });
  return found == phone.models.end() ? nullptr : &*found;
}

const model_alias* alias_of(const phone_target& phone, std::string_view normalized) {
  const auto found = std::find_if(phone.aliases.begin(), phone.aliases.end(), [&](const model_alias& a) {
    return normalized_model(a.name) == normalized;
  });
  return found == phone.aliases.end() ? nullptr : &*found;
}

}  // namespace

std::vector<named_model> names_of(const phone_target& phone) {
  std::vector<named_model> out;
  if (phone.models.empty()) return out;
  out.reserve(phone.models.size() + phone.aliases.size() + 1);
  for (const auto& m : phone.models) out.push_back({m.name, normalized_model(m.name), &m});
  const bool one = phone.engine == engine_kind::llama_server;
  const auto add = [&](std::string_view name, const served_model* model) {
    std::string normalized = normalized_model(name);
    const bool there = std::any_of(out.begin(), out.end(),
                                   [&](const named_model& each) { return each.normalized == normalized; });
    if (model != nullptr && !there) out.push_back({name, std::move(normalized), model});
  };
  for (const auto& a : phone.aliases) {
    const served_model* behind = own_model(phone, normalized_model(a.behind));
    add(a.name, behind == nullptr && one ? &phone.models.front() : behind);
  }
  if (one && !phone.model.empty()) add(phone.model, &phone.models.front());
  return out;
}

std::string_view identity_of(const phone_target& phone, std::string_view normalized_name) {
  if (phone.models.empty()) return {};
  const std::string wanted =
      normalized_name.empty() ? normalized_model(phone.model) : std::string(normalized_name);
  const served_model* found = own_model(phone, wanted);
  if (const model_alias* alias = found == nullptr ? alias_of(phone, wanted) : nullptr; alias != nullptr)
    found = own_model(phone, normalized_model(alias->behind));
  if (found != nullptr) return found->identity;
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
  const std::string_view wanted = asked.empty() ? std::string_view(phone.model) : asked;
  if (phone.aliases.empty()) return wanted;
  const std::string normalized = normalized_model(wanted);
  if (own_model(phone, normalized) != nullptr) return wanted;
  const model_alias* alias = alias_of(phone, normalized);
  return alias == nullptr ? wanted : std::string_view(alias->behind);
}

}  // namespace pocketfleet
