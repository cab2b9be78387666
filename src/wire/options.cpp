#include "pocketfleet/wire/options.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace pocketfleet {
namespace {

enum class option_type : std::uint8_t { integer, number, boolean, strings };

struct option_rule {
  std::string_view name;
  option_type type;
  bool reloads = false;  // Ollama unloads and loads the model again when it changes
};
constexpr std::array<option_rule, 26> option_rules{{
    {"num_predict", option_type::integer},
    {"num_keep", option_type::integer},
    {"seed", option_type::integer},
    {"stop", option_type::strings},
    {"temperature", option_type::number},
    {"top_k", option_type::integer},
    {"top_p", option_type::number},
    {"min_p", option_type::number},
    {"typical_p", option_type::number},
    {"tfs_z", option_type::number},
    {"repeat_last_n", option_type::integer},
    {"repeat_penalty", option_type::number},
    {"presence_penalty", option_type::number},
    {"frequency_penalty", option_type::number},
    {"mirostat", option_type::integer},
    {"mirostat_tau", option_type::number},
    {"mirostat_eta", option_type::number},
    {"penalize_newline", option_type::boolean},
    {"num_ctx", option_type::integer, true},
    {"num_batch", option_type::integer, true},
    {"num_gpu", option_type::integer, true},
    {"main_gpu", option_type::integer, true},
    {"use_mmap", option_type::boolean, true},
    {"use_mlock", option_type::boolean, true},
    {"num_thread", option_type::integer, true},
    {"draft_num_predict", option_type::integer, true},
}};

struct option_name {
  std::string_view ollama;
  std::string_view openai;
};
constexpr std::array<option_name, 17> shared{{
    {"num_predict", "max_tokens"},
    {"num_keep", "n_keep"},
    {"seed", "seed"},
    {"stop", "stop"},
    {"temperature", "temperature"},
    {"top_k", "top_k"},
    {"top_p", "top_p"},
    {"min_p", "min_p"},
    {"typical_p", "typical_p"},
    {"repeat_last_n", "repeat_last_n"},
    {"repeat_penalty", "repeat_penalty"},
    {"presence_penalty", "presence_penalty"},
    {"frequency_penalty", "frequency_penalty"},
    {"mirostat", "mirostat"},
    {"mirostat_tau", "mirostat_tau"},
    {"mirostat_eta", "mirostat_eta"},
    {"tfs_z", "tfs_z"},
}};

constexpr std::uint64_t largest_integer = 4294967295;  // engines keep seeds in 32 bits

bool fits(const json& value, option_type type) {
  switch (type) {
    case option_type::integer:
      if (value.is_number_unsigned()) return value.get<std::uint64_t>() <= largest_integer;
      return value.is_number_integer() && value.get<std::int64_t>() >= -1 &&
             value.get<std::int64_t>() <= static_cast<std::int64_t>(largest_integer);
    case option_type::number: return value.is_number() && std::isfinite(value.get<double>());
    case option_type::boolean: return value.is_boolean();
    case option_type::strings:
      if (!value.is_array() || value.size() > 16) return false;
      for (const auto& s : value) {
        if (!s.is_string() || s.get_ref<const std::string&>().empty()) return false;
      }
      return true;
  }
  return false;
}

std::string_view expected(option_type type) {
  switch (type) {
    case option_type::integer: return "a whole number";
    case option_type::number: return "a number";
    case option_type::boolean: return "true or false";
    case option_type::strings: return "a string or up to 16 strings, none empty";
  }
  return {};
}

const option_rule* rule_of(std::string_view name) {
  const auto* const found =
      std::find_if(option_rules.begin(), option_rules.end(), [&](const auto& r) { return r.name == name; });
  return found == option_rules.end() ? nullptr : found;
}

}  // namespace

std::string_view openai_name(std::string_view ollama) {
  for (const auto& o : shared) {
    if (o.ollama == ollama) return o.openai;
  }
  return {};
}

std::string_view ollama_name(std::string_view openai) {
  if (openai == "max_completion_tokens") return "num_predict";
  for (const auto& o : shared) {
    if (o.openai == openai) return o.ollama;
  }
  return {};
}

std::vector<std::string_view> ollama_options() {
  std::vector<std::string_view> names;
  names.reserve(option_rules.size());
  for (const auto& r : option_rules) names.push_back(r.name);
  return names;
}

bool is_ollama_option(std::string_view name) {
  return rule_of(name) != nullptr;
}

bool reloads_model(std::string_view option) {
  const option_rule* const rule = rule_of(option);
  return rule != nullptr && rule->reloads;
}

result<json> read_option(std::string_view name, const json& value) {
  const option_rule* const rule = rule_of(name);
  if (rule == nullptr) return error(errc::bad_request, "unknown option");
  json checked = rule->type == option_type::strings && value.is_string() ? json::array({value}) : value;
  if (!fits(checked, rule->type))
    return error(errc::bad_request, "expected " + std::string(expected(rule->type)));
  return checked;
}

bool unloads(const json& keep_alive) {
  if (keep_alive.is_number()) return keep_alive.get<double>() == 0.0;
  return keep_alive.is_string() &&
         keep_alive.get_ref<const std::string&>().find_first_of("123456789") == std::string::npos;
}

}  // namespace pocketfleet
