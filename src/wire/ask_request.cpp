// Reading /ask, /ask_stream and /ask_batch.
#include <algorithm>
#include <array>

#include "pocketfleet/wire/ask.hpp"
#include "pocketfleet/wire/options.hpp"
#include "request_parts.hpp"

namespace pocketfleet {
namespace {

constexpr std::array<std::string_view, 12> ask_keys{"prompt",     "messages", "system", "model",
                                                    "options",    "images",   "format", "think",
                                                    "keep_alive", "cache",    "stream", "rescue"};
constexpr std::array<std::string_view, 10> shared_keys{
    "requests", "prompts", "system", "model", "options", "format", "think", "keep_alive", "cache", "rescue"};

result<json> read_options(const json& given, const ask_rules& rules) {
  if (!given.is_object()) return bad("options: expected an object");
  json options = json::object();
  for (const auto& [name, value] : given.get_ref<const json::object_t&>()) {
    if (!is_ollama_option(name)) return unknown_field("option", name, ollama_options());
    if (value.is_null()) continue;
    if (reloads_model(name) && !rules.pass_load_options) {
      return bad("options." + name +
                 ": would make the phone load its model anew; set it on the phone instead " +
                 "(or \"load_options\": \"pass\" in the gateway's file)");
    }
    auto read = read_option(name, value);
    if (!read) return bad("options." + name + ": " + read.error().message);
    options[name] = std::move(*read);
  }
  return options;
}

result<json> read_messages(json& given, question& q) {
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
    for (const auto& [name, value] : m.get_ref<const json::object_t&>()) {
      constexpr std::array<std::string_view, 3> keys{"role", "content", "images"};
      if (std::find(keys.begin(), keys.end(), name) == keys.end())
        return unknown_field("field in " + where, name, keys);
    }
    if (const auto images = m.find("images"); images != m.end()) {
      if (auto checked = read_images(*images, where + ".images"); !checked) return checked.error();
      q.has_images = q.rich = true;
    }
  }
  return std::move(given);
}

/// prompt or messages, with the system text and the images that stand beside them.
result<void> read_conversation(json& body, question& q) {
  json* prompt = find(body, "prompt");
  json* messages = find(body, "messages");
  if ((prompt == nullptr) == (messages == nullptr)) return bad("expected either \"prompt\" or \"messages\"");
  if (messages != nullptr) {
    auto read = read_messages(*messages, q);
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
    q.has_images = q.rich = true;
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

result<void> read_settings(json& body, ask_request& request, const ask_rules& rules) {
  question& q = request.what;
  if (const json* model = find(body, "model")) {
    auto read = read_model(*model);
    if (!read) return read.error();
    q.model = std::move(*read);
  }
  if (const json* options = find(body, "options")) {
    auto read = read_options(*options, rules);
    if (!read) return read.error();
    q.options = std::move(*read);
  }
  if (auto read = read_shape(body, q); !read) return read;
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
  // Not items(): that makes a text of each index, whether it is one or not.
  for (const auto& [name, value] : body.get_ref<const json::object_t&>()) {
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
