#include "pocketfleet/engines/probe.hpp"

#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {
namespace {

constexpr std::size_t most_models = 1000;  // a phone that names more is not one of ours

error odd() {
  return {errc::bad_response, "not in the engine's form"};
}

void add(std::vector<std::string>& names, const json& object, const char* field) {
  const auto found = object.find(field);
  if (found == object.end() || !found->is_string()) return;
  auto name = found->get<std::string>();
  if (name.empty() || name.size() > 512 || names.size() >= most_models) return;
  if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(std::move(name));
}

}  // namespace

engine_kind identify(std::string_view server_field, std::string_view body) {
  if (server_field.find("llama.cpp") != std::string_view::npos) return engine_kind::llama_server;
  if (body.find("Ollama is running") != std::string_view::npos) return engine_kind::ollama;
  return engine_kind::unknown;
}

result<std::vector<std::string>> read_ollama_models(std::string_view body) {
  const auto parsed = parse_json(body);
  if (!parsed || !parsed->is_object()) return odd();
  const auto list = parsed->find("models");
  if (list == parsed->end() || !(list->is_array() || list->is_null())) return odd();
  std::vector<std::string> names;
  for (const auto& model : *list) {
    if (model.is_object()) add(names, model, "name");
  }
  return names;
}

result<std::vector<std::string>> read_llama_models(std::string_view body) {
  const auto parsed = parse_json(body);
  if (!parsed || !parsed->is_object()) return odd();
  const auto list = parsed->find("data");
  if (list == parsed->end() || !list->is_array()) return odd();
  std::vector<std::string> names;
  for (const auto& model : *list) {
    if (!model.is_object()) continue;
    add(names, model, "id");
    if (const auto aliases = model.find("aliases"); aliases != model.end() && aliases->is_array()) {
      for (const auto& alias : *aliases) add(names, json{{"alias", alias}}, "alias");
    }
  }
  return names;
}

result<llama_props> read_llama_props(std::string_view body) {
  const auto parsed = parse_json(body);
  if (!parsed || !parsed->is_object()) return odd();
  llama_props out;
  if (const auto slots = parsed->find("total_slots"); slots != parsed->end() && slots->is_number_unsigned()) {
    out.slots = static_cast<std::uint32_t>(std::min<std::uint64_t>(slots->get<std::uint64_t>(), 1024));
  }
  if (const auto modalities = parsed->find("modalities");
      modalities != parsed->end() && modalities->is_object()) {
    const auto vision = modalities->find("vision");
    if (vision != modalities->end() && vision->is_boolean()) out.vision = vision->get<bool>();
  }
  return out;
}

}  // namespace pocketfleet
