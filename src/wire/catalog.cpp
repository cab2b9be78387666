#include "pocketfleet/wire/catalog.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <map>

#include "pocketfleet/core/model_name.hpp"
#include "pocketfleet/wire/digest.hpp"
#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {
namespace {

// llama-server keeps its model for as long as it runs. Far enough to be shown as "Forever", and inside the
// years that every client's calendar has.
constexpr const char* never = "2999-01-01T00:00:00Z";

struct entry {
  std::string_view name;
  const served_model* model = nullptr;
  engine_kind engine = engine_kind::unknown;
};

/// By normalized name. Views into the phones.
std::map<std::string, entry> entries_of(const catalog_phones& phones) {
  std::map<std::string, entry> out;
  for (const auto& phone : phones) {
    for (auto& each : names_of(*phone))
      out.try_emplace(std::move(each.normalized), entry{each.name, each.model, phone->engine});
  }
  return out;
}

/// All that the phone says of the model; an empty object if that is not known.
json about(const served_model& model) {
  if (model.about) {
    if (auto read = parse_json(*model.about); read && read->is_object()) return std::move(*read);
  }
  return json::object();
}

/// The member if it is of that kind, else null.
json member(const json& object, const char* name, json::value_t kind) {
  const auto found = object.is_object() ? object.find(name) : object.end();
  return object.is_object() && found != object.end() && found->type() == kind ? *found : json();
}

std::uint64_t whole(const json& object, const char* name) {
  const json value = member(object, name, json::value_t::number_unsigned);
  return value.is_null() ? 0 : value.get<std::uint64_t>();
}

std::string text(const json& object, const char* name) {
  const json value = member(object, name, json::value_t::string);
  return value.is_null() ? std::string{} : value.get<std::string>();
}

/// Seconds since 1970 of "2026-01-02T03:04:05.678+01:00"; 0 if it is none.
std::int64_t unix_time(const std::string& rfc3339) {
  std::tm t{};
  int read = 0;
  if (std::sscanf(rfc3339.c_str(), "%4d-%2d-%2dT%2d:%2d:%2d%n", &t.tm_year, &t.tm_mon, &t.tm_mday, &t.tm_hour,
                  &t.tm_min, &t.tm_sec, &read) != 6) {
    return 0;
  }
  t.tm_year -= 1900;
  t.tm_mon -= 1;
  std::int64_t seconds = timegm(&t);
  const auto zone = rfc3339.find_first_of("+-", static_cast<std::size_t>(read));
  int hours = 0;
  int minutes = 0;
  if (zone != std::string::npos &&
      std::sscanf(rfc3339.c_str() + zone + 1, "%2d:%2d", &hours, &minutes) == 2) {
    seconds -= (rfc3339[zone] == '-' ? -1 : 1) * (std::int64_t{hours} * 3600 + std::int64_t{minutes} * 60);
  }
  return std::max<std::int64_t>(seconds, 0);
}

std::string rfc3339(std::uint64_t seconds) {
  const auto when = static_cast<std::time_t>(std::min<std::uint64_t>(seconds, 253'402'300'799));
  std::tm parts{};
  gmtime_r(&when, &parts);
  std::array<char, 32> out{};
  return {out.data(), std::strftime(out.data(), out.size(), "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

/// "1.5B", "494.03M": as Ollama writes a number of parameters.
std::string size_label(std::uint64_t parameters) {
  const auto n = static_cast<double>(parameters);
  std::array<char, 32> out{};
  const auto print = [&](double value, const char* form, char unit) {
    const bool round = value == std::floor(value);
    std::snprintf(out.data(), out.size(), round ? "%.0f%c" : form, value, unit);
  };
  if (n >= 1e9) {
    print(n / 1e9, "%.1f%c", 'B');
  } else if (n >= 1e6) {
    print(n / 1e6, "%.2f%c", 'M');
  } else if (n >= 1e3) {
    print(std::floor(n / 1e3), "%.0f%c", 'K');
  } else if (parameters > 0) {
    return std::to_string(parameters);
  }
  return out.data();
}

/// llama-server does not say of which family its model is.
json details_of(const json& meta) {
  return {{"parent_model", ""},
          {"format", "gguf"},
          {"family", ""},
          {"families", json::array()},
          {"parameter_size", size_label(whole(meta, "n_params"))},
          {"quantization_level", text(meta, "ftype")}};
}

/// What Ollama would say of it in /api/tags. There is always a digest: Ollama's own client cuts twelve digits
/// from it without a look.
json made_entry(const entry& of, const json& said) {
  const json meta = member(said, "meta", json::value_t::object);
  const bool ollamas = of.engine == engine_kind::ollama && !of.model->identity.empty();
  return {{"modified_at", rfc3339(whole(said, "created"))},
          {"size", whole(meta, "size")},
          {"digest", ollamas ? of.model->identity
                             : sha256_hex(of.model->identity.empty() ? of.model->name : of.model->identity)},
          {"details", details_of(meta)}};
}

json ollama_entry(const entry& of) {
  json said = about(*of.model);
  json out = of.engine == engine_kind::ollama && !said.empty() ? std::move(said) : made_entry(of, said);
  out["name"] = of.name;
  out["model"] = of.name;
  return out;
}

json openai_entry(const entry& of) {
  const json said = about(*of.model);
  std::uint64_t created = whole(said, "created");
  if (created == 0) created = static_cast<std::uint64_t>(unix_time(text(said, "modified_at")));
  json out{{"id", of.name}, {"object", "model"}, {"created", created}, {"owned_by", "pocketfleet"}};
  if (json meta = member(said, "meta", json::value_t::object); !meta.is_null()) out["meta"] = std::move(meta);
  return out;
}

bool shows(model_filter only, std::string_view normalized) {
  return only.empty() || std::find(only.begin(), only.end(), normalized) != only.end();
}

json running_entry(const entry& of) {
  json out = ollama_entry(of);
  if (of.engine == engine_kind::ollama) return out;
  const json meta = member(about(*of.model), "meta", json::value_t::object);
  out.erase("modified_at");
  out["expires_at"] = never;
  out["size_vram"] = 0;
  if (const auto context = whole(meta, "n_ctx"); context > 0) out["context_length"] = context;
  return out;
}

}  // namespace

std::string openai_models(const catalog_phones& phones, model_filter only) {
  json data = json::array();
  for (const auto& [name, each] : entries_of(phones)) {
    if (shows(only, name)) data.push_back(openai_entry(each));
  }
  return dump_json({{"object", "list"}, {"data", std::move(data)}});
}

std::optional<std::string> openai_model(const catalog_phones& phones, std::string_view id,
                                        model_filter only) {
  const auto all = entries_of(phones);
  const auto found = all.find(normalized_model(id));
  if (found == all.end() || !shows(only, found->first)) return std::nullopt;
  return dump_json(openai_entry(found->second));
}

std::string ollama_tags(const catalog_phones& phones, model_filter only) {
  json models = json::array();
  for (const auto& [name, each] : entries_of(phones)) {
    if (shows(only, name)) models.push_back(ollama_entry(each));
  }
  return dump_json({{"models", std::move(models)}});
}

std::string ollama_ps(const catalog_phones& phones, model_filter only) {
  std::map<std::string, std::pair<entry, json>> all;  // with the names of the phones that have it
  for (const auto& phone : phones) {
    for (const auto& m : phone->in_memory) {
      const entry its{m.name, &m, phone->engine};
      const auto at = all.try_emplace(normalized_model(m.name), its, json::array()).first;
      at->second.second.push_back(phone->name);
      if (phone->engine == engine_kind::llama_server) break;  // the others are names for the same
    }
  }
  json models = json::array();
  for (auto& [name, each] : all) {
    if (!shows(only, name)) continue;
    json one = running_entry(each.first);
    one["pocketfleet"] = {{"phones", std::move(each.second)}};
    models.push_back(std::move(one));
  }
  return dump_json({{"models", std::move(models)}});
}

result<show_request> parse_show(std::string_view body) {
  const auto parsed = parse_json(body);
  if (!parsed) return parsed.error();
  if (!parsed->is_object()) return error(errc::bad_request, "expected a JSON object");
  show_request out;
  for (const char* field : {"model", "name"}) {  // the old name of the field
    const auto found = parsed->find(field);
    if (found == parsed->end() || !out.model.empty()) continue;
    const auto* name = found->get_ptr<const std::string*>();
    if (name == nullptr || name->size() > 512)
      return error(errc::bad_request, std::string(field) + ": expected a model's name, at most 512 bytes");
    out.model = *name;
  }
  if (out.model.empty()) return error(errc::bad_request, "model: expected a model's name");
  if (const auto verbose = parsed->find("verbose"); verbose != parsed->end() && !verbose->is_null()) {
    if (!verbose->is_boolean()) return error(errc::bad_request, "verbose: expected true or false");
    out.verbose = verbose->get<bool>();
  }
  return out;
}

std::string render_show(std::string_view model, bool verbose) {
  json out{{"model", model}};
  if (verbose) out["verbose"] = true;
  return dump_json(out);
}

result<std::string> ollama_show(const served_model& model, std::string_view props) {
  const auto read = parse_json(props);
  if (!read || !read->is_object()) return error(errc::bad_response, "not in the engine's form");
  const json said = about(model);
  const json meta = member(said, "meta", json::value_t::object);
  // It does not say which architecture it runs; clients need the name only to find the keys that begin so.
  json info{{"general.architecture", "llama"}};
  for (const auto& [key, field] :
       {std::pair{"general.parameter_count", "n_params"}, std::pair{"llama.context_length", "n_ctx_train"},
        std::pair{"llama.embedding_length", "n_embd"}, std::pair{"llama.vocab_size", "n_vocab"}}) {
    if (const auto value = whole(meta, field); value > 0) info[key] = value;
  }
  const auto says = [&](const char* object, const char* field) {
    return member(member(*read, object, json::value_t::object), field, json::value_t::boolean) == json(true);
  };
  json capabilities{"completion"};
  if (says("modalities", "vision")) capabilities.push_back("vision");
  if (says("chat_template_caps", "supports_tools")) capabilities.push_back("tools");
  const auto context = whole(member(*read, "default_generation_settings", json::value_t::object), "n_ctx");
  return dump_json({{"modelfile", ""},
                    {"parameters", context > 0 ? "num_ctx " + std::to_string(context) : std::string{}},
                    {"template", text(*read, "chat_template")},
                    {"details", details_of(meta)},
                    {"model_info", std::move(info)},
                    {"capabilities", std::move(capabilities)},
                    {"modified_at", rfc3339(whole(said, "created"))}});
}

}  // namespace pocketfleet
