// Reading Ollama's /api/chat and /api/generate.
#include <algorithm>
#include <array>

#include "pocketfleet/wire/dialects.hpp"
#include "pocketfleet/wire/options.hpp"
#include "request_parts.hpp"

namespace pocketfleet {
namespace {

constexpr std::array<std::string_view, 8> shared_fields{"model", "stream",     "options",  "format",
                                                        "think", "keep_alive", "truncate", "shift"};

// ---- messages

result<void> read_calls(const json& calls, const std::string& where) {
  if (!calls.is_array()) return bad(where + ": expected an array");
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const std::string here = where + "[" + std::to_string(i) + "].function";
    const json* const function = calls[i].is_object() ? find(calls[i], "function") : nullptr;
    const json* const name = function != nullptr && function->is_object() ? find(*function, "name") : nullptr;
    if (name == nullptr || !name->is_string()) return bad(here + ".name: expected a name");
    const json* const arguments = find(*function, "arguments");
    if (arguments != nullptr && !arguments->is_object()) return bad(here + ".arguments: expected an object");
  }
  return {};
}

result<void> read_message(json& m, const std::string& where, question& q) {
  if (!m.is_object()) return bad(where + ": expected an object");
  const json* const role = find(m, "role");
  std::string lower = role != nullptr && role->is_string() ? role->get<std::string>() : std::string{};
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  if (lower != "system" && lower != "user" && lower != "assistant" && lower != "tool")
    return bad(where + ".role: expected \"system\", \"user\", \"assistant\" or \"tool\"");
  json out{{"role", lower}, {"content", ""}};
  for (auto& [name, value] : m.items()) {
    if (name == "role" || value.is_null() || (value.is_array() && value.empty())) continue;
    if (name == "content" || name == "thinking" || name == "tool_name" || name == "tool_call_id") {
      if (!value.is_string())
        return bad(std::string(where).append(".").append(name).append(": expected a string"));
      q.rich = q.rich || name != "content";
    } else if (name == "images") {
      if (auto read = read_images(value, where + ".images"); !read) return read.error();
      q.has_images = q.rich = true;
    } else if (name == "tool_calls") {
      if (auto read = read_calls(value, where + ".tool_calls"); !read) return read;
      q.rich = true;
    } else {
      only_native(q, native_name(where + ".", name));
      continue;
    }
    out[name] = value;
  }
  q.messages.push_back(std::move(out));
  return {};
}

// ---- the fields beside them

/// What the phone gets, and what it does not: see parse_ollama_chat().
result<void> read_options(json& given, bool pass_load_options, generation_request& request, question& q) {
  if (!given.is_object()) return bad("options: expected an object");
  json kept = json::object();
  for (const auto& [name, value] : given.items()) {
    if (value.is_null()) continue;
    if (!is_ollama_option(
            name)) {  // a newer release's, or a mistake: Ollama passes over what it does not know
      kept[name] = value;
      only_native(q, native_name("options.", name));
      continue;
    }
    auto read = read_option(name, value);
    if (!read) return bad("options." + name + ": " + read.error().message);
    if (reloads_model(name) && !pass_load_options) {
      request.ignored.push_back(name);
      continue;
    }
    q.options[name] = kept[name] = std::move(*read);
  }
  given = std::move(kept);
  return {};
}

/// The fields that both routes have, but for the conversation.
result<void> read_fields(json& body, std::span<const std::string_view> own, bool pass_load_options,
                         generation_request& request, question& q) {
  if (const json* const model = find(body, "model")) {
    auto read = read_model(*model);
    if (!read) return read.error();
    q.model = std::move(*read);
  }
  const auto stream = read_flag(body, "stream", true);
  if (!stream) return stream.error();
  request.stream = *stream;
  if (json* const options = find(body, "options")) {
    if (auto read = read_options(*options, pass_load_options, request, q); !read) return read;
  }
  if (auto read = read_shape(body, q); !read) return read;
  for (const char* const flag : {"truncate", "shift"}) {  // false is what llama-server does anyway
    const auto set = read_flag(body, flag, false);
    if (!set) return set.error();
    if (*set) only_native(q, flag);
  }
  for (const auto& [name, value] : body.items()) {
    if (name == "_debug_render_only" && value != false)
      return bad("_debug_render_only: the gateway does not pass this on");
    const auto is_name = [&, &name = name](std::string_view known) { return known == name; };
    if (std::any_of(own.begin(), own.end(), is_name) ||
        std::any_of(shared_fields.begin(), shared_fields.end(), is_name))
      continue;
    if (value.is_null() || value == false || (value.is_structured() && value.empty())) continue;
    only_native(q, native_name("", name));
  }
  return {};
}

result<json> read_body(std::string_view text) {
  if (text.empty()) return bad("missing request body");  // in Ollama's words
  return read_object(text);
}

void finish(generation_request& request, question q, json body) {
  body.erase("model");
  body.erase("stream");
  if (const json* const options = find(body, "options"); options != nullptr && options->empty())
    body.erase("options");
  q.native = std::move(body);
  request.choices.push_back(std::move(q));
}

/// The conversation that a prompt stands for.
result<void> read_prompt(const json& body, question& q) {
  const json* const prompt = find(body, "prompt");
  if (prompt != nullptr && !prompt->is_string()) return bad("prompt: expected a string");
  const json* const system = find(body, "system");
  if (system != nullptr && !system->is_string()) return bad("system: expected a string");
  std::string text = prompt != nullptr ? prompt->get<std::string>() : std::string{};
  if (q.raw) {
    q.prompt = std::move(text);
    return {};
  }
  q.messages = json::array();
  if (system != nullptr && !system->get_ref<const std::string&>().empty())
    q.messages.push_back({{"role", "system"}, {"content", *system}});
  json message{{"role", "user"}, {"content", std::move(text)}};
  if (const json* const images = find(body, "images"); images != nullptr && !images->empty()) {
    auto read = read_images(*images, "images");
    if (!read) return read.error();
    message["images"] = std::move(*read);
    q.has_images = q.rich = true;
  }
  q.messages.push_back(std::move(message));
  return {};
}

}  // namespace

result<generation_request> parse_ollama_chat(std::string_view text, bool pass_load_options) {
  auto body = read_body(text);
  if (!body) return body.error();
  generation_request request;
  question q;
  q.spoken = dialect::ollama_chat;
  constexpr std::array<std::string_view, 2> own{"messages", "tools"};
  if (auto read = read_fields(*body, own, pass_load_options, request, q); !read) return read.error();
  json* const messages = find(*body, "messages");
  if (messages != nullptr && !messages->is_array()) return bad("messages: expected an array");
  q.messages = json::array();
  request.load = messages == nullptr || messages->empty();
  for (std::size_t i = 0; !request.load && i < messages->size(); ++i) {
    auto read = read_message((*messages)[i], "messages[" + std::to_string(i) + "]", q);
    if (!read) return read.error();
  }
  if (const json* const tools = find(*body, "tools"); tools != nullptr && !tools->empty()) {
    auto read = read_tools(*tools);
    if (!read) return read.error();
    q.tools = std::move(*read);
    q.resumable = false;
  }
  finish(request, std::move(q), std::move(*body));
  return request;
}

result<generation_request> parse_ollama_generate(std::string_view text, bool pass_load_options) {
  auto body = read_body(text);
  if (!body) return body.error();
  generation_request request;
  question q;
  q.spoken = dialect::ollama_generate;
  constexpr std::array<std::string_view, 7> own{"prompt", "system",  "images",  "raw",
                                                "suffix", "context", "template"};
  if (auto read = read_fields(*body, own, pass_load_options, request, q); !read) return read.error();
  const auto raw = read_flag(*body, "raw", false);
  if (!raw) return raw.error();
  q.raw = *raw;
  for (const char* const name : {"suffix", "template"}) {
    const json* const value = find(*body, name);
    if (value != nullptr && !value->is_string()) return bad(std::string(name) + ": expected a string");
    if (value != nullptr && !value->get_ref<const std::string&>().empty()) only_native(q, name);
  }
  if (const json* const context = find(*body, "context"); context != nullptr && !context->empty()) {
    const bool tokens =
        context->is_array() &&
        std::all_of(context->begin(), context->end(), [](const json& t) { return t.is_number_integer(); });
    if (!tokens) return bad("context: expected an array of whole numbers");
    only_native(q, "context");
  }
  for (const char* const name : {"system", "template", "context"}) {
    const json* const value = find(*body, name);
    if (q.raw && value != nullptr && !value->empty() && !is_empty_string(*value))
      return bad(std::string(name) + ": raw mode does not support template, system, or context");
  }
  if (auto read = read_prompt(*body, q); !read) return read.error();
  const json* const prompt = find(*body, "prompt");
  request.load =
      (prompt == nullptr || is_empty_string(*prompt)) && !q.has_images && q.native_only != "suffix";
  finish(request, std::move(q), std::move(*body));
  return request;
}

}  // namespace pocketfleet
