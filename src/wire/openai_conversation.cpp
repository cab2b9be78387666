// Reading the messages of OpenAI's /v1/chat/completions.
#include <array>

#include "request_parts.hpp"

namespace pocketfleet {
namespace {

/// A part of a message's content: text behind text, and images beside it.
result<void> read_part(const json& part, const std::string& where, json& message, question& q) {
  if (!part.is_object()) return bad(where + ": expected an object");
  const json* const type = find(part, "type");
  if (type == nullptr || !type->is_string()) return bad(where + ".type: expected a string");
  if (*type == "text" || *type == "refusal") {
    const json* const text = find(part, type->get_ref<const std::string&>());
    if (text == nullptr || !text->is_string()) return bad(where + ".text: expected a string");
    auto& content = message["content"].get_ref<std::string&>();
    if (!content.empty()) content += '\n';  // as llama-server joins them
    content += text->get_ref<const std::string&>();
    return {};
  }
  if (*type != "image_url") {
    only_native(q, where);
    return {};
  }
  const json* image = find(part, "image_url");
  if (image != nullptr && image->is_object()) image = find(*image, "url");
  if (image == nullptr || !image->is_string()) return bad(where + ".image_url.url: expected a string");
  q.has_images = q.rich = true;
  const std::string_view url = image->get_ref<const std::string&>();
  const auto data = url.find(";base64,");
  if (url.starts_with("data:") && data != std::string_view::npos) {
    message["images"].push_back(url.substr(data + 8));
  } else {
    only_native(q, where + ".image_url.url");
  }
  return {};
}

result<void> read_content(const json& given, const std::string& where, json& message, question& q) {
  message["content"] = "";
  const json* const content = find(given, "content");
  if (content == nullptr) {
    if (message["role"] == "assistant") return {};
    return bad(where + ".content: expected a string or an array of parts");
  }
  if (content->is_string()) {
    message["content"] = *content;
    return {};
  }
  if (!content->is_array()) return bad(where + ".content: expected a string or an array of parts");
  for (std::size_t i = 0; i < content->size(); ++i) {
    auto read = read_part((*content)[i], where + ".content[" + std::to_string(i) + "]", message, q);
    if (!read) return read;
  }
  return {};
}

/// Calls that the model has made: OpenAI has their arguments as text, Ollama as an object.
result<void> read_calls(const json& calls, const std::string& where, json& message, question& q) {
  if (!calls.is_array()) return bad(where + ": expected an array");
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const std::string here = where + "[" + std::to_string(i) + "]";
    const json* const function = calls[i].is_object() ? find(calls[i], "function") : nullptr;
    const json* const name = function != nullptr && function->is_object() ? find(*function, "name") : nullptr;
    if (name == nullptr || !name->is_string()) return bad(here + ".function.name: expected a name");
    json arguments = json::object();
    if (const json* const text = find(*function, "arguments"); text != nullptr) {
      if (!text->is_string()) return bad(here + ".function.arguments: expected a string");
      const auto& written = text->get_ref<const std::string&>();
      auto parsed = written.empty() ? result<json>(json::object()) : parse_json(written);
      if (parsed && parsed->is_object()) {
        arguments = std::move(*parsed);
      } else {
        only_native(q, here + ".function.arguments");
      }
    }
    json call{{"function", {{"name", *name}, {"arguments", std::move(arguments)}}}};
    if (const json* const id = find(calls[i], "id"); id != nullptr && id->is_string()) call["id"] = *id;
    message["tool_calls"].push_back(std::move(call));
  }
  q.rich = q.rich || !calls.empty();
  return {};
}

/// The name of the tool whose call has that id.
std::string called(const json& messages, const json& id) {
  for (const json& m : messages) {
    const json* const calls = find(m, "tool_calls");
    if (calls == nullptr) continue;
    for (const json& call : *calls) {
      if (call.value("id", json()) == id) return call["function"]["name"].get<std::string>();
    }
  }
  return {};
}

result<json> read_message(const json& given, const std::string& where, question& q) {
  if (!given.is_object()) return bad(where + ": expected an object");
  const json* const role = find(given, "role");
  constexpr std::array<std::string_view, 5> roles{"system", "developer", "user", "assistant", "tool"};
  if (role == nullptr || !role->is_string() || !is_one_of(role->get_ref<const std::string&>(), roles))
    return bad(where + ".role: expected \"system\", \"developer\", \"user\", \"assistant\" or \"tool\"");
  json message{{"role", *role == "developer" ? json("system") : *role}};
  if (auto read = read_content(given, where, message, q); !read) return read.error();
  for (const auto& [name, value] : given.items()) {
    if (name == "role" || name == "content" || is_empty(value)) continue;
    if (name == "tool_calls") {
      if (auto read = read_calls(value, where + ".tool_calls", message, q); !read) return read.error();
    } else if (name == "tool_call_id") {
      if (!value.is_string()) return bad(where + ".tool_call_id: expected a string");
      message["tool_call_id"] = value;
      if (const std::string tool = called(q.messages, value); !tool.empty()) message["tool_name"] = tool;
      q.rich = true;
    } else if (name == "name" && *role == "tool") {
      if (!value.is_string()) return bad(where + ".name: expected a string");
      message["tool_name"] = value;
      q.rich = true;
    } else if (name == "reasoning_content") {
      if (!value.is_string()) return bad(where + ".reasoning_content: expected a string");
      message["thinking"] = value;
      q.rich = true;
    } else {
      only_native(q, native_name(where + ".", name));
    }
  }
  return message;
}

}  // namespace

result<void> read_openai_messages(const json& body, question& q) {
  const json* const messages = find(body, "messages");
  if (messages == nullptr || !messages->is_array() || messages->empty())
    return bad("messages: expected an array with at least one message");
  q.messages = json::array();
  for (std::size_t i = 0; i < messages->size(); ++i) {
    auto read = read_message((*messages)[i], "messages[" + std::to_string(i) + "]", q);
    if (!read) return read.error();
    q.messages.push_back(std::move(*read));
  }
  return {};
}

}  // namespace pocketfleet
