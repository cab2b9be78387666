// Reading Anthropic's /v1/messages.
#include <array>

#include "pocketfleet/wire/dialects.hpp"
#include "pocketfleet/wire/options.hpp"
#include "request_parts.hpp"

namespace pocketfleet {
namespace {

/// Text, or blocks of which all are text. Nothing: there is something else among them.
result<std::optional<std::string>> read_text(const json& given, const std::string& where) {
  if (given.is_string()) return std::optional(given.get<std::string>());
  if (!given.is_array()) return bad(where + ": expected a string or an array of blocks");
  std::optional<std::string> text(std::string{});
  for (std::size_t i = 0; i < given.size(); ++i) {
    const std::string here = where + "[" + std::to_string(i) + "]";
    const json* const type = given[i].is_object() ? find(given[i], "type") : nullptr;
    if (type == nullptr || !type->is_string()) return bad(here + ".type: expected a string");
    const json* const part = find(given[i], "text");
    if (*type != "text") {
      text.reset();
    } else if (part == nullptr || !part->is_string()) {
      return bad(here + ".text: expected a string");
    } else if (text) {
      if (!text->empty()) *text += '\n';
      *text += part->get_ref<const std::string&>();
    }
  }
  return text;
}

result<void> read_messages(const json& body, question& q) {
  const json* const messages = find(body, "messages");
  if (messages == nullptr || !messages->is_array() || messages->empty())
    return bad("messages: expected an array with at least one message");
  q.messages = json::array();
  const auto add = [&](const json& role, const json& content, const std::string& where) -> result<void> {
    auto text = read_text(content, where);
    if (!text) return text.error();
    q.resumable = q.resumable && text->has_value();
    q.messages.push_back({{"role", role}, {"content", text->value_or(std::string{})}});
    return {};
  };
  if (const json* const system = find(body, "system")) {
    if (auto read = add("system", *system, "system"); !read) return read;
  }
  for (std::size_t i = 0; i < messages->size(); ++i) {
    const std::string where = "messages[" + std::to_string(i) + "]";
    const json& m = (*messages)[i];
    const json* const role = m.is_object() ? find(m, "role") : nullptr;
    if (role == nullptr || (*role != "user" && *role != "assistant" && *role != "system"))
      return bad(where + ".role: expected \"user\" or \"assistant\"");
    const json* const content = find(m, "content");
    if (content == nullptr) return bad(where + ".content: expected a string or an array of blocks");
    if (auto read = add(*role, *content, where + ".content"); !read) return read;
  }
  // The answer goes on with the last message: the template would have to be left open there.
  if (q.messages.back()["role"] == "assistant") q.resumable = false;
  return {};
}

}  // namespace

result<generation_request> parse_anthropic(std::string_view text) {
  auto body = read_object(text);
  if (!body) return body.error();
  generation_request request;
  question q;
  q.spoken = dialect::anthropic;
  q.native_only = "the Messages API";
  if (const json* const model = find(*body, "model")) {
    auto read = read_model(*model);
    if (!read) return read.error();
    q.model = std::move(*read);
  }
  const auto stream = read_flag(*body, "stream", false);
  if (!stream) return stream.error();
  request.stream = *stream;
  if (auto read = read_messages(*body, q); !read) return read.error();
  constexpr std::array<std::array<const char*, 2>, 5> options{{{"max_tokens", "num_predict"},
                                                               {"stop_sequences", "stop"},
                                                               {"temperature", "temperature"},
                                                               {"top_p", "top_p"},
                                                               {"top_k", "top_k"}}};
  for (const auto& [theirs, ours] : options) {
    const json* const value = find(*body, theirs);
    if (value == nullptr) continue;
    auto read = read_option(ours, *value);
    if (!read) return bad(std::string(theirs) + ": " + read.error().message);
    q.options[ours] = std::move(*read);
  }
  if (find(*body, "max_tokens") == nullptr) return bad("max_tokens: expected a whole number");
  if (const json* const tools = find(*body, "tools"); tools != nullptr && !tools->empty()) {
    if (!tools->is_array()) return bad("tools: expected an array");
    q.resumable = false;
  }
  if (find(*body, "thinking") != nullptr) q.resumable = false;
  body->erase("model");
  body->erase("stream");
  q.native = std::move(*body);
  request.choices.push_back(std::move(q));
  return request;
}

}  // namespace pocketfleet
