// Reading /ask, /ask_stream and /ask_batch.
#include <array>
#include <cmath>
#include <initializer_list>

#include "pocketfleet/wire/ask.hpp"
#include "pocketfleet/wire/nearest.hpp"

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

constexpr std::array<std::string_view, 12> ask_keys{"prompt",     "messages", "system", "model",
                                                    "options",    "images",   "format", "think",
                                                    "keep_alive", "cache",    "stream", "rescue"};
constexpr std::array<std::string_view, 10> shared_keys{
    "requests", "prompts", "system", "model", "options", "format", "think", "keep_alive", "cache", "rescue"};

error bad(std::string text) {
  return {errc::bad_request, std::move(text)};
}

error unknown_field(std::string_view where, std::string_view name, std::span<const std::string_view> known) {
  // The name is the client's own text: it is given back only where it is short and plain.
  bool plain = name.size() <= 40;
  for (const char c : name) plain = plain && c > ' ' && c < 0x7f && c != '"' && c != '\\';
  std::string text = "unknown " + std::string(where);
  if (plain) text.append(" \"").append(name).append("\"");
  if (const auto meant = nearest(name, known); !meant.empty()) {
    text.append("; did you mean \"").append(meant).append("\"?");
  }
  return bad(std::move(text));
}

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

result<json> read_options(const json& given, const ask_rules& rules) {
  if (!given.is_object()) return bad("options: expected an object");
  json options = json::object();
  for (const auto& [name, value] : given.items()) {
    const auto* rule =
        std::find_if(option_rules.begin(), option_rules.end(), [&](const auto& r) { return r.name == name; });
    if (rule == option_rules.end()) {
      std::array<std::string_view, option_rules.size()> names;
      std::transform(option_rules.begin(), option_rules.end(), names.begin(),
                     [](const auto& r) { return r.name; });
      return unknown_field("option", name, names);
    }
    if (value.is_null()) continue;
    if (rule->reloads && !rules.pass_load_options) {
      return bad("options." + name +
                 ": would make the phone load its model anew; set it on the phone instead " +
                 "(or \"load_options\": \"pass\" in the gateway's file)");
    }
    json checked = rule->type == option_type::strings && value.is_string() ? json::array({value}) : value;
    if (!fits(checked, rule->type))
      return bad("options." + name + ": expected " + std::string(expected(rule->type)));
    options[name] = std::move(checked);
  }
  return options;
}

result<json> read_images(const json& images, const std::string& where) {
  if (!images.is_array() || images.empty()) return bad(where + ": expected an array of base64 strings");
  for (const auto& image : images) {
    if (!image.is_string() || image.get_ref<const std::string&>().empty() ||
        image.get_ref<const std::string&>().starts_with("data:")) {
      return bad(where + ": expected base64 strings, without \"data:\" before them");
    }
  }
  return images;
}

result<json> read_messages(json& given, bool& has_images) {
  if (!given.is_array() || given.empty()) return bad("messages: expected an array with at least one message");
  for (std::size_t i = 0; i < given.size(); ++i) {
    const std::string where = "messages[" + std::to_string(i) + "]";
    const json& m = given[i];
    if (!m.is_object()) return bad(where + ": expected an object");
    const auto role = m.find("role");
    if (role == m.end() || (*role != "system" && *role != "user" && *role != "assistant")) {
      return bad(where + ".role: expected \"system\", \"user\" or \"assistant\"");
    }
    const auto content = m.find("content");
    if (content == m.end() || !content->is_string()) return bad(where + ".content: expected a string");
    for (const auto& [name, value] : m.items()) {
      constexpr std::array<std::string_view, 3> keys{"role", "content", "images"};
      if (std::find(keys.begin(), keys.end(), name) == keys.end())
        return unknown_field("field in " + where, name, keys);
    }
    if (const auto images = m.find("images"); images != m.end()) {
      if (auto checked = read_images(*images, where + ".images"); !checked) return checked.error();
      has_images = true;
    }
  }
  return std::move(given);
}

/// A number of seconds, or Go's notation: "10m", "1h30m", "-1m".
bool is_keep_alive(const json& value) {
  if (value.is_number()) return std::isfinite(value.get<double>());
  if (!value.is_string()) return false;
  std::string_view text = value.get_ref<const std::string&>();
  if (text.starts_with('-')) text.remove_prefix(1);
  bool any = false;
  while (!text.empty()) {
    const auto digits = text.find_first_not_of("0123456789.");
    if (digits == 0 || digits == std::string_view::npos) return false;
    text.remove_prefix(digits);
    std::size_t unit = 0;
    for (const std::string_view known : {"ms", "us", "ns", "h", "m", "s"}) {
      if (text.starts_with(known)) {
        unit = known.size();
        break;
      }
    }
    if (unit == 0) return false;
    text.remove_prefix(unit);
    any = true;
  }
  return any;
}

bool is_think(const json& value) {
  if (value.is_boolean()) return true;
  return value == "low" || value == "medium" || value == "high" || value == "max";
}

/// The field if it is there and not null.
json* find(json& object, std::string_view name) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

/// Takes the content.
void add_message(json& messages, const char* role, json& content) {
  json message = json::object();
  message["role"] = role;
  message["content"] = std::move(content);
  messages.push_back(std::move(message));
}

/// prompt or messages, with the system text and the images that stand beside them.
result<void> read_conversation(json& body, question& q) {
  json* prompt = find(body, "prompt");
  json* messages = find(body, "messages");
  if ((prompt == nullptr) == (messages == nullptr)) return bad("expected either \"prompt\" or \"messages\"");
  if (messages != nullptr) {
    auto read = read_messages(*messages, q.has_images);
    if (!read) return read.error();
    q.messages = std::move(*read);
  } else {
    if (!prompt->is_string() || prompt->get_ref<const std::string&>().empty()) {
      return bad("prompt: expected a string that is not empty");
    }
    add_message(q.messages, "user", *prompt);
  }
  if (const json* images = find(body, "images")) {
    if (prompt == nullptr) return bad("images: with \"messages\" they belong into the message");
    auto read = read_images(*images, "images");
    if (!read) return read.error();
    q.messages[0]["images"] = std::move(*read);
    q.has_images = true;
  }
  if (json* system = find(body, "system")) {
    if (!system->is_string()) return bad("system: expected a string");
    if (q.messages[0]["role"] == "system") return bad("system: there is a system message already");
    if (!system->get_ref<const std::string&>().empty()) {
      json all;
      add_message(all, "system", *system);
      for (json& m : q.messages) all.push_back(std::move(m));
      q.messages = std::move(all);
    }
  }
  return {};
}

constexpr std::size_t longest_pattern = 512;

/// Engines turn a schema's patterns into grammars by recursion: thousands of brackets end the phone's process
/// (llama.cpp #26600).
bool has_long_pattern(const json& schema) {
  if (schema.is_array()) return std::any_of(schema.begin(), schema.end(), has_long_pattern);
  if (!schema.is_object()) return false;
  for (const auto& [name, value] : schema.items()) {
    if (name == "pattern" && value.is_string() &&
        value.get_ref<const std::string&>().size() > longest_pattern)
      return true;
    if (has_long_pattern(value)) return true;
  }
  return false;
}

/// As Ollama has it, an empty format is none.
bool is_empty_string(const json& value) {
  return value.is_string() && value.get_ref<const std::string&>().empty();
}

result<void> read_settings(json& body, ask_request& request, const ask_rules& rules) {
  question& q = request.what;
  if (const json* model = find(body, "model")) {
    if (!model->is_string() || model->get_ref<const std::string&>().size() > 256)
      return bad("model: expected a name");
    q.model = model->get<std::string>();
  }
  if (const json* options = find(body, "options")) {
    auto read = read_options(*options, rules);
    if (!read) return read.error();
    q.options = std::move(*read);
  }
  if (const json* format = find(body, "format"); format != nullptr && !is_empty_string(*format)) {
    if (*format != "json" && !format->is_object())
      return bad("format: expected \"json\" or a JSON Schema object");
    if (has_long_pattern(*format))
      return bad("format: a pattern is longer than " + std::to_string(longest_pattern) + " bytes");
    q.format = *format;
  }
  if (const json* think = find(body, "think")) {
    if (!is_think(*think))
      return bad("think: expected true, false, \"low\", \"medium\", \"high\" or \"max\"");
    q.think = *think;
  }
  if (const json* keep_alive = find(body, "keep_alive")) {
    if (!is_keep_alive(*keep_alive)) {
      return bad("keep_alive: expected seconds as a number, or a time with its unit, as \"10m\"");
    }
    q.keep_alive = *keep_alive;
  }
  if (const json* cache = find(body, "cache")) {
    if (!cache->is_boolean()) return bad("cache: expected true or false");
    request.use_cache = cache->get<bool>();
  }
  if (const json* rescue = find(body, "rescue")) {
    if (!rescue->is_boolean()) return bad("rescue: expected true or false");
    request.rescue = rescue->get<bool>();
  }
  if (const json* stream = find(body, "stream")) {
    if (!stream->is_boolean()) return bad("stream: expected true or false");
    if (stream->get<bool>() != rules.stream_route) {
      return bad(rules.stream_route ? "stream: /ask_stream always streams; for a whole answer use /ask"
                                    : "stream: /ask never streams; for a stream use /ask_stream");
    }
  }
  return {};
}

}  // namespace

result<ask_request> read_ask(json body, const ask_rules& rules) {
  if (!body.is_object()) return bad("expected a JSON object");
  for (const auto& [name, value] : body.items()) {
    if (std::find(ask_keys.begin(), ask_keys.end(), name) == ask_keys.end())
      return unknown_field("field", name, ask_keys);
  }
  ask_request request;
  if (auto read = read_conversation(body, request.what); !read) return read.error();
  if (auto read = read_settings(body, request, rules); !read) return read.error();
  return request;
}

result<ask_request> parse_ask(std::string_view body, const ask_rules& rules) {
  auto parsed = parse_json(body);
  if (!parsed) return parsed.error();
  return read_ask(std::move(*parsed), rules);
}

result<std::vector<result<ask_request>>> parse_batch(std::string_view text, std::size_t most,
                                                     const ask_rules& rules) {
  auto parsed = parse_json(text);
  if (!parsed) return parsed.error();
  const json& body = *parsed;
  if (!body.is_object()) return bad("expected a JSON object");
  const bool prompts = body.contains("prompts");
  if (prompts == body.contains("requests")) return bad("expected either \"requests\" or \"prompts\"");
  for (const auto& [name, value] : body.items()) {
    if (std::find(shared_keys.begin(), shared_keys.end(), name) == shared_keys.end()) {
      return unknown_field("field", name, shared_keys);
    }
  }
  const json& items = body[prompts ? "prompts" : "requests"];
  if (!items.is_array() || items.empty() || items.size() > most) {
    return bad(std::string(prompts ? "prompts" : "requests") + ": expected an array of 1 to " +
               std::to_string(most) + " items");
  }
  // What stands beside the items holds for each that does not say otherwise.
  json shared = body;
  shared.erase(prompts ? "prompts" : "requests");
  std::vector<result<ask_request>> out;
  out.reserve(items.size());
  for (const json& item : items) {
    json one = shared;
    if (prompts) {
      one["prompt"] = item;
    } else if (item.is_object()) {
      one.update(item);
    } else {
      out.emplace_back(bad("expected an object"));
      continue;
    }
    out.push_back(read_ask(std::move(one), rules));
  }
  return out;
}

}  // namespace pocketfleet
