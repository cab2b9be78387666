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
        flag{"cache_prompt", into.cache_prompt}, flag{"return_progress", into.return_progress},
        flag{"timings_per_token", into.timings_per_token}}) {
    const json& value = member(body, each.name);
    if (value.is_null()) continue;
    if (!value.is_boolean()) return wrong_type(each.name, "boolean", value);
    each.into = value.get<bool>();
  }
  into.include_usage = bool_member(member(body, "stream_options"), "include_usage", false);
  const json& format = member(member(body, "response_format"), "type");
  if (format == "json_object" || format == "json_schema" || member(body, "json_schema").is_object())
    into.script = json_script();
  const json& stop = member(body, "stop");
  if (stop.is_string()) into.stops.push_back(stop.get<std::string>());
  if (stop.is_array()) {
    for (const json& each : stop)
      if (each.is_string()) into.stops.push_back(each.get<std::string>());
  }
  return {};
}

unsigned read_top(const json& number) {
  return number.is_number_integer() && number > 0 && number <= 20 ? number.get<unsigned>() : 0;
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

// The tools are part of the prompt, as with a template that knows them.
void show_tools(const json& tools, std::vector<message>& into) {
  if (tools.is_array() && !tools.empty()) into.push_back({"system", "# Tools\n" + write_json(tools)});
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

llama_refusal read_completion(std::string_view text, bool openai, llama_request& into) {
  json body;
  if (auto no = read_body(text, body)) return no;
  if (auto no = read_common(body, into)) return no;
  const json& prompt = member(body, "prompt");
  if (prompt.is_null()) return bad("[json.exception.out_of_range.403] key 'prompt' not found");
  if (!read_prompt(prompt, into))
    return bad("\"prompt\" must be a string or a mixed array of strings and token ids");
  into.from = number_at_end(into.prompt).value_or(0);
  const json& logprobs = member(body, "logprobs");
  if (openai && logprobs.is_number_integer() && logprobs > 0) into.logprobs = read_top(logprobs);
  return {};
}

namespace {

llama_refusal read_conversation(const json& body, bool continues, llama_request& into) {
  if (auto no = read_common(body, into)) return no;
  std::vector<message> messages;
  show_tools(member(body, "tools"), messages);
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
  const json& called = prefilled ? member(member(body, "messages").back(), "tool_calls") : continuing;
  if (prefilled && called.is_array() && !called.empty())
    return bad("Cannot continue an assistant message that contains tool calls.");

  const bool answered = !messages.empty() && messages.back().role == "tool";
  const bool calls = member(body, "tool_choice") != "none";
  into.script = script_for(calls ? member(body, "tools") : json(), answered, !into.script.pieces.empty());
  const json& top = member(body, "top_logprobs");
  if (bool_member(body, "logprobs", false) && (top.is_null() || top != 0)) into.logprobs = read_top(top);

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

// What of a message is calls and results of tools becomes what OpenAI has for it. Results come first, as
// messages of their own.
void add_anthropic_message(const json& from, json& into) {
  const std::string role = text_member(from, "role");
  const json& content = member(from, "content");
  if (!content.is_array()) {
    into.push_back(from);
    return;
  }
  json calls = json::array();
  std::string text;
  bool says = false;
  for (const json& block : content) {
    const std::string type = text_member(block, "type");
    if (type == "tool_use") {
      json function{{"name", text_member(block, "name")}, {"arguments", write_json(member(block, "input"))}};
      calls.push_back(json{{"id", text_member(block, "id")}, {"type", "function"}, {"function", function}});
    } else if (type == "tool_result") {
      into.push_back(json{{"role", "tool"}, {"content", content_text(member(block, "content"))}});
    } else if (type == "text") {
      text += text_member(block, "text");
      says = true;
    }
  }
  if (!says && calls.empty()) return;
  json one{{"role", role}, {"content", text}};
  if (!calls.empty()) one["tool_calls"] = std::move(calls);
  into.push_back(std::move(one));
}

}  // namespace

llama_refusal read_chat(std::string_view text, bool continues, llama_request& into) {
  json body;
  if (auto no = read_body(text, body)) return no;
  return read_conversation(body, continues, into);
}

llama_refusal read_anthropic(std::string_view text, bool continues, llama_request& into) {
  json body;
  if (auto no = read_body(text, body)) return no;
  if (!member(body, "messages").is_array()) return {500, "'messages' is required"};
  json messages = json::array();
  const std::string system = content_text(member(body, "system"));
  if (!system.empty()) messages.push_back(json{{"role", "system"}, {"content", system}});
  for (const json& each : member(body, "messages")) add_anthropic_message(each, messages);
  body["messages"] = std::move(messages);
  if (const json stops = member(body, "stop_sequences"); !stops.is_null()) body["stop"] = stops;
  body["tool_choice"] = text_member(member(body, "tool_choice"), "type", "auto");
  // Of what switches thinking off only the template's own parameter is heeded on this route.
  body.erase("reasoning_effort");
  body.erase("logprobs");
  return read_conversation(body, continues, into);
}

llama_refusal read_texts(std::string_view text, llama_texts& into) {
  json body;
  if (auto no = read_body(text, body)) return no;
  const json& format = member(body, "encoding_format");
  into.base64 = format == "base64";
  if (!format.is_null() && format != "float" && !into.base64)
    return bad("The format to return the embeddings in. Can be either float or base64");
  const json& input = member(body, "input");
  if (input.is_null()) return bad("\"input\" or \"content\" must be provided");
  if (input.is_array() && input.empty()) return bad("\"input\" must not be empty");
  const bool one = !input.is_array() || input[0].is_number();
  const json list = one ? json::array({input}) : input;
  for (const json& each : list) {
    llama_request read;
    if (!read_prompt(each, read))
      return bad(
          "\"prompt\" elements must be a string, a list of tokens, a JSON object containing a prompt "
          "string, or a list of mixed strings & tokens.");
    into.list.push_back(std::move(read.prompt));
  }
  return {};
}

}  // namespace pocketfleet::sim
