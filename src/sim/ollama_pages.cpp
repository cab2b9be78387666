#include "ollama_pages.hpp"

#include <algorithm>
#include <vector>

#include "ollama_request.hpp"

namespace pocketfleet::sim {
namespace {

constexpr const char* modified = "2026-01-02T03:04:05.678901234Z";

// The same name has the same digest on every phone, as the same model has.
std::string digest(std::string_view name) {
  std::uint64_t hash = 14695981039346656037ULL;
  for (const char c : model_key(name)) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  std::string text;
  for (int i = 0; i < 64; ++i) {
    text += "0123456789abcdef"[hash >> 60];
    hash = hash * 6364136223846793005ULL + 1442695040888963407ULL;
  }
  return text;
}

ordered details() {
  return {{"parent_model", ""},       {"format", "gguf"},
          {"family", "qwen2"},        {"families", ordered::array({"qwen2"})},
          {"parameter_size", "1.5B"}, {"quantization_level", "Q4_K_M"},
          {"context_length", 32768},  {"embedding_length", 1536}};
}

ordered capabilities(const phone_settings& settings) {
  ordered list = ordered::array({"completion"});
  if (settings.tools) list.push_back("tools");
  list.push_back("insert");
  if (settings.embedding) list.push_back("embedding");
  if (settings.thinking) list.push_back("thinking");
  return list;
}

}  // namespace

bool has_model(const phone_settings& settings, std::string_view name) {
  if (name.empty()) return false;
  const std::string key = model_key(name);
  return key == model_key(settings.model) ||
         std::any_of(settings.other_models.begin(), settings.other_models.end(),
                     [&](const std::string& each) { return model_key(each) == key; });
}

std::string tags_page(const phone_settings& settings) {
  std::vector<std::string> names{settings.model};
  names.insert(names.end(), settings.other_models.begin(), settings.other_models.end());
  ordered list = ordered::array();
  for (const std::string& name : names) {
    list.push_back({{"name", name},
                    {"model", name},
                    {"modified_at", modified},
                    {"size", 986061892},
                    {"digest", digest(name)},
                    {"details", details()},
                    {"capabilities", capabilities(settings)}});
  }
  return write_json(ordered{{"models", list}});
}

std::string show_page(const phone_settings& settings, const std::string& name) {
  ordered answer{{"license", "Apache License 2.0"}, {"modelfile", "FROM " + name + "\n"}};
  answer["parameters"] = "stop                           \"<|im_end|>\"";
  answer["template"] = "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}";
  answer["details"] = details();
  answer["model_info"] = ordered{{"general.architecture", "qwen2"},   {"general.parameter_count", 1543714304},
                                 {"general.quantization_version", 2}, {"qwen2.block_count", 28},
                                 {"qwen2.context_length", 32768},     {"qwen2.embedding_length", 1536}};
  answer["capabilities"] = capabilities(settings);
  answer["modified_at"] = modified;
  return write_json(answer);
}

std::string processes_page(phone::server& server) {
  const time_point now = clock::now();
  const std::string name = server.slots.loaded(now);
  ordered list = ordered::array();
  if (!name.empty()) {
    const duration left = server.slots.expires_in(now).value_or(std::chrono::hours(24 * 365 * 100));
    list.push_back({{"name", name},
                    {"model", name},
                    {"size", 1200000000},
                    {"digest", digest(name)},
                    {"details", details()},
                    {"expires_at", utc_now(left)},
                    {"size_vram", 0},
                    {"context_length", server.settings.context}});
  }
  return write_json(ordered{{"models", list}});
}

}  // namespace pocketfleet::sim
