#include "pocketfleet/engines/probe.hpp"

#include <charconv>

#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {
namespace {

constexpr std::size_t most_models = 1000;  // a phone that names more is not one of ours

error odd() {
  return {errc::bad_response, "not in the engine's form"};
}

using about_model = std::shared_ptr<const std::string>;

about_model about(const json& entry) {
  std::string text = dump_json(entry);
  return text.size() > most_about ? nullptr : std::make_shared<const std::string>(std::move(text));
}

void add(std::vector<served_model>& models, const json& name, const std::string& identity,
         const about_model& said) {
  if (!name.is_string()) return;
  const auto& text = name.get_ref<const std::string&>();
  if (text.empty() || text.size() > 512 || models.size() >= most_models) return;
  if (std::any_of(models.begin(), models.end(), [&](const auto& m) { return m.name == text; })) return;
  models.emplace_back(text, identity);
  models.back().about = said;
}

/// The member, or null.
const json& member(const json& object, const char* name) {
  static const json none;
  const auto found = object.find(name);
  return found == object.end() ? none : *found;
}

/// Empty if the phone does not say enough to tell two models apart.
std::string identity_from_meta(const json& meta) {
  if (!meta.is_object()) return {};
  std::string out = "gguf";
  for (const char* field : {"size", "n_params", "n_vocab"}) {
    const json& value = member(meta, field);
    if (!value.is_number_unsigned()) return {};
    out.append(" ").append(std::to_string(value.get<std::uint64_t>()));
  }
  const json& ftype = member(meta, "ftype");
  if (ftype.is_string() && ftype.get_ref<const std::string&>().size() <= 64)
    out.append(" ").append(ftype.get_ref<const std::string&>());
  return out;
}

}  // namespace

engine_kind identify(std::string_view server_field, std::string_view body) {
  if (server_field.find("llama.cpp") != std::string_view::npos) return engine_kind::llama_server;
  if (body.find("Ollama is running") != std::string_view::npos) return engine_kind::ollama;
  return engine_kind::unknown;
}

result<std::vector<served_model>> read_ollama_models(std::string_view body) {
  const auto parsed = parse_json(body);
  if (!parsed || !parsed->is_object()) return odd();
  const auto list = parsed->find("models");
  if (list == parsed->end() || !(list->is_array() || list->is_null())) return odd();
  std::vector<served_model> models;
  for (const auto& model : *list) {
    if (!model.is_object()) continue;
    const json& digest = member(model, "digest");
    const bool sound = digest.is_string() && digest.get_ref<const std::string&>().size() <= 256;
    add(models, member(model, "name"), sound ? digest.get<std::string>() : std::string{}, about(model));
  }
  return models;
}

std::optional<bool> serves_messages(std::string_view body) {
  const auto parsed = parse_json(body);
  if (!parsed || !parsed->is_object()) return std::nullopt;
  const json& version = member(*parsed, "version");
  if (!version.is_string()) return std::nullopt;
  const auto& text = version.get_ref<const std::string&>();
  unsigned major = 0;
  unsigned minor = 0;
  const char* const end = text.data() + text.size();
  const auto [dot, no_major] = std::from_chars(text.data(), end, major);
  if (no_major != std::errc() || dot == end || *dot != '.') return std::nullopt;
  const auto [rest, no_minor] = std::from_chars(dot + 1, end, minor);
  if (no_minor != std::errc() || (major == 0 && minor == 0)) return std::nullopt;
  return major > 0 || minor >= 14;
}

result<std::vector<served_model>> read_llama_models(std::string_view body) {
  const auto parsed = parse_json(body);
  if (!parsed || !parsed->is_object()) return odd();
  const auto list = parsed->find("data");
  if (list == parsed->end() || !list->is_array()) return odd();
  std::vector<served_model> models;
  for (const auto& model : *list) {
    if (!model.is_object()) continue;
    const std::string identity = identity_from_meta(member(model, "meta"));
    const about_model said = about(model);
    add(models, member(model, "id"), identity, said);
    if (const json& aliases = member(model, "aliases"); aliases.is_array()) {
      for (const auto& alias : aliases) add(models, alias, identity, said);
    }
  }
  return models;
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
  if (const json& path = member(*parsed, "model_path"); path.is_string()) {
    const std::string_view text = path.get_ref<const std::string&>();
    out.file = text.substr(text.rfind('/') + 1).substr(0, 256);
  }
  return out;
}

namespace {

/// For /health and logs.
std::string plain(const json& value, std::size_t longest = 160) {
  if (!value.is_string()) return {};
  std::string text = value.get_ref<const std::string&>().substr(0, longest);
  for (char& c : text) {
    if (c < ' ' || c > '~') c = '?';
  }
  return text;
}

}  // namespace

result<group_report> read_group_status(std::string_view body) {
  constexpr std::size_t most_members = 65;
  const auto parsed = parse_json(body);
  if (!parsed || !parsed->is_object() || !parsed->contains("state")) return odd();
  group_report out;
  const std::string state = plain(member(*parsed, "state"));
  if (std::find(group_states.begin(), group_states.end(), state) != group_states.end()) out.state = state;
  out.usable = member(*parsed, "usable") == json(true);
  out.fault = plain(member(*parsed, "fault"));
  if (out.fault == "none") out.fault.clear();
  out.reason = plain(member(*parsed, "reason"));
  if (const json& members = member(*parsed, "members"); members.is_array()) {
    for (const auto& m : members) {
      if (!m.is_object() || out.members.size() == most_members) continue;
      out.members.push_back({plain(member(m, "name"), 64), plain(member(m, "state"), 16)});
    }
  }
  return out;
}

void name_file(std::vector<served_model>& models, std::string_view file) {
  for (auto& m : models) {
    if (file.empty()) m.identity.clear();
    if (!m.identity.empty()) m.identity.append(" ").append(file);
  }
}

}  // namespace pocketfleet
