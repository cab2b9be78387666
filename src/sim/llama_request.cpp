#include "llama_request.hpp"

#include <algorithm>

namespace pocketfleet::sim {
namespace {

llama_refusal bad(std::string text) {
  return {400, std::move(text)};
}

llama_refusal wrong_type(const char* name, const char* must, const json& value) {
  return bad("Field '" + std::string(name) + "': [json.exception.type_error.302] type must be " + must +
             ", but is " + value.type_name());
}

llama_refusal read_body(std::string_view text, json& into) {
  auto body = read_json(text);
  if (!body) return bad("[json.exception.parse_error.101] parse error: syntax error while parsing value");
  into = std::move(*body);
  return {};
}

// The fields that both routes have.
llama_refusal read_common(const json& body, llama_request& into) {
  for (const char* name : {"n_predict", "max_tokens", "max_completion_tokens"}) {
    const json& limit = member(body, name);
    if (limit.is_null()) continue;
    if (!limit.is_number()) return wrong_type(name, "number", limit);
    const double value = std::clamp(limit.get<double>(), -1.0, 1e9);
    into.limit = value < 0 ? -1 : static_cast<std::int64_t>(value);
  }
  struct flag {
    const char* name;
    bool& into;
  };
  for (const flag& each :
       {flag{"stream", into.stream}, flag{"return_tokens", into.return_tokens},
        flag{"return_progress", into.return_progress}, flag{"timings_per_token", into.timings_per_token}}) {
    const json& value = member(body, each.name);
    if (value.is_null()) continue;
    if (!value.is_boolean()) return wrong_type(each.name, "boolean", value);
    each.into = value.get<bool>();
  }
  into.include_usage = bool_member(member(body, "stream_options"), "include_usage", false);
  const json& stop = member(body, "stop");
  if (stop.is_string()) into.stops.push_back(stop.get<std::string>());
  if (stop.is_array()) {
    for (const json& each : stop)
      if (each.is_string()) into.stops.push_back(each.get<std::string>());
  }
  return {};
}

bool read_prompt(const json& prompt, llama_request& into) {
  const auto add = [&](const json& part) {
    if (part.is_string()) {
      into.prompt += part.get_ref<const std::string&>();
      for (const token_id id : tokenize(part.get_ref<const std::string&>())) into.ids.push_back(id);
    } else if (part.is_number_integer()) {
      into.ids.push_back(part.get<token_id>());
      into.prompt += text_of(into.ids.back());
    } else {
      return false;
    }
    return true;
  };
  if (!prompt.is_array()) return prompt.is_string() && add(prompt);
  return std::all_of(prompt.begin(), prompt.end(), add);
}

// Text of a message: a string, or the text parts of an array.
std::string content_text(const json& content) {
  if (content.is_string()) return content.get<std::string>();
  std::string text;
  if (content.is_array())
    for (const json& part : content) text += text_member(part, "text");
  return text;
}

llama_refusal read_messages(const json& list, std::vector<message>& into) {
  if (list.is_null()) return bad("'messages' is required");
  if (!list.is_array()) return bad("Expected 'messages' to be an array");
  for (const json& each : list) {
    const std::string role = text_member(each, "role");
    if (role.empty()) return {500, "Failed to parse messages: Missing 'role' in message"};
    const json& content = member(each, "content");
    if (content.is_null() && role != "assistant")
      return bad("All non-assistant messages must contain 'content'");
    into.push_back({role, content_text(content)});
  }
  return {};
}

}  // namespace

llama_refusal read_completion(std::string_view text, llama_request& into) {
  json body;
  if (auto no = read_body(text, body)) return no;
  if (auto no = read_common(body, into)) return no;
  const json& prompt = member(body, "prompt");
  if (prompt.is_null()) return bad("[json.exception.out_of_range.403] key 'prompt' not found");
  if (!read_prompt(prompt, into))
    return bad("\"prompt\" must be a string or a mixed array of strings and token ids");
  into.from = number_at_end(into.prompt).value_or(0);
  return {};
}

llama_refusal read_chat(std::string_view text, bool continues, llama_request& into) {
  json body;
  if (auto no = read_body(text, body)) return no;
  if (auto no = read_common(body, into)) return no;
  std::vector<message> messages;
  if (auto no = read_messages(member(body, "messages"), messages)) return no;

  const json& continuing = member(body, "continue_final_message");
  const bool prompts = bool_member(body, "add_generation_prompt", true);
  into.told_to_continue = continuing.is_string() || (continuing.is_boolean() && continuing.get<bool>());
  if (into.told_to_continue && prompts)
    return bad("Cannot set both add_generation_prompt and continue_final_message to true.");

  const std::size_t size = messages.size();
  const bool prefilled = size > 0 && messages.back().role == "assistant";
  if (prefilled && size > 1 && messages[size - 2].role == "assistant")
    return bad("Cannot have 2 or more assistant messages at the end of the list.");
  const json& calls = prefilled ? member(member(body, "messages").back(), "tool_calls") : continuing;
  if (prefilled && calls.is_array() && !calls.empty())
    return bad("Cannot continue an assistant message that contains tool calls.");

  const json& thinking = member(member(body, "chat_template_kwargs"), "enable_thinking");
  if (!thinking.is_null() && !thinking.is_boolean())
    return bad("invalid type for \"enable_thinking\" (expected boolean, got " +
               std::string(thinking.type_name()) + ")");
  into.thinks =
      (thinking.is_null() || thinking.get<bool>()) && text_member(body, "reasoning_effort") != "none";

  const bool goes_on = prefilled && continues;
  if (goes_on) {
    into.prefill = messages.back().content;
    into.from = number_at_end(into.prefill).value_or(0);
    into.thinks = false;
    if (into.prefill.empty())
      messages.pop_back();  // the engine then leaves out the assistant's header altogether
  }
  into.prompt = chatml(messages, goes_on && !into.prefill.empty(), !goes_on && prompts);
  into.ids = tokenize(into.prompt);
  return {};
}

}  // namespace pocketfleet::sim
