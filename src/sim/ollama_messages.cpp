#include "ollama_messages.hpp"

namespace pocketfleet::sim {
namespace {

std::string event(const ordered& data) {
  return "event: " + data["type"].get<std::string>() + "\ndata: " + write_json(data) + "\n\n";
}

ordered of_type(const char* type) {
  ordered result;
  result["type"] = type;
  return result;
}

std::string text_of_blocks(const json& content) {
  if (content.is_string()) return content.get<std::string>();
  std::string text;
  if (!content.is_array()) return text;
  for (const json& block : content) {
    if (text_member(block, "type") == "text") text += text_member(block, "text");
  }
  return text;
}

void add_message(const json& from, json& into) {
  const json& content = member(from, "content");
  bool calls = false;
  if (content.is_array()) {
    for (const json& block : content) {
      calls = calls || text_member(block, "type") == "tool_use";
      if (text_member(block, "type") != "tool_result") continue;
      into.push_back(json{{"role", "tool"}, {"content", text_of_blocks(member(block, "content"))}});
    }
  }
  const std::string text = text_of_blocks(content);
  if (!text.empty() || calls) into.push_back(json{{"role", text_member(from, "role")}, {"content", text}});
}

refusal wrong_source(const json& body) {
  for (const json& each : member(body, "messages")) {
    const json& content = member(each, "content");
    if (!content.is_array()) continue;
    for (const json& block : content) {
      if (text_member(block, "type") != "image") continue;
      const std::string kind = text_member(member(block, "source"), "type");
      if (kind != "base64")
        return {400, "invalid image source type: " + kind + ". Only base64 images are supported."};
    }
  }
  return {};
}

const char* stop_reason(const tally& all) {
  return all.called ? "tool_use" : all.limited ? "max_tokens" : "end_turn";
}

}  // namespace

refusal read_ollama_messages(std::string_view text, bool thinks, ollama_request& into) {
  const auto body = read_json(text);
  if (!body || !body->is_object()) return {400, "invalid character in request body"};
  if (text_member(*body, "model").empty()) return {400, "model is required"};
  const json& limit = member(*body, "max_tokens");
  if (!limit.is_number_integer() || limit <= 0) return {400, "max_tokens is required and must be positive"};
  if (!member(*body, "messages").is_array() || member(*body, "messages").empty())
    return {400, "messages is required"};
  if (refusal no = wrong_source(*body)) return no;

  json chat{{"model", member(*body, "model")}, {"stream", bool_member(*body, "stream", false)}};
  chat["messages"] = json::array();
  const std::string system = text_of_blocks(member(*body, "system"));
  if (!system.empty()) chat["messages"].push_back(json{{"role", "system"}, {"content", system}});
  for (const json& each : member(*body, "messages")) add_message(each, chat["messages"]);
  chat["options"]["num_predict"] = limit;
  for (const char* name : {"temperature", "top_p", "top_k"}) {
    if (const json& value = member(*body, name); !value.is_null()) chat["options"][name] = value;
  }
  if (const json& stops = member(*body, "stop_sequences"); stops.is_array() && !stops.empty())
    chat["options"]["stop"] = stops;
  const std::string thinking = text_member(member(*body, "thinking"), "type");
  if (thinks && (thinking == "enabled" || thinking == "disabled")) chat["think"] = thinking == "enabled";
  chat["tools"] = member(*body, "tools");
  return read_ollama(write_json(chat), into);
}

std::string ollama_messages_error(unsigned status, std::string_view text, std::uint64_t id) {
  ordered inside;
  switch (status) {
    case 400: inside["type"] = "invalid_request_error"; break;
    case 404: inside["type"] = "not_found_error"; break;
    case 503: inside["type"] = "overloaded_error"; break;
    default: inside["type"] = "api_error";
  }
  inside["message"] = text;
  ordered outside = of_type("error");
  outside["error"] = std::move(inside);
  outside["request_id"] = "req_" + std::to_string(id);
  return write_json(outside) + '\n';
}

ollama_messages_voice::ollama_messages_voice(std::string model, std::uint64_t number)
    : model_(std::move(model)), id_(std::to_string(number)) {}

void ollama_messages_voice::start(std::string& bytes, const tally& so_far) {
  if (std::exchange(started_, true)) return;
  ordered inside{{"id", "msg_" + id_}, {"type", "message"}, {"role", "assistant"}, {"model", model_}};
  inside["content"] = ordered::array();
  // What the prompt has is not known yet; the layer guesses.
  inside["usage"] = ordered{{"input_tokens", so_far.prompt_tokens / 2 + 1}, {"output_tokens", 0}};
  ordered data = of_type("message_start");
  data["message"] = std::move(inside);
  bytes += event(data);
}

void ollama_messages_voice::close(std::string& bytes) {
  if (!std::exchange(open_, false)) return;
  ordered data = of_type("content_block_stop");
  data["index"] = index_++;
  bytes += event(data);
}

void ollama_messages_voice::open(std::string& bytes, part which) {
  if (open_ && block_ == which) return;
  close(bytes);
  open_ = true;
  block_ = which;
  ordered data = of_type("content_block_start");
  data["index"] = index_;
  const char* const name = which == part::reasoning ? "thinking" : "text";
  data["content_block"] = which == part::call ? tool_use() : of_type(name);
  data["content_block"][which == part::call ? "input" : name] =
      which == part::call ? ordered(ordered::object()) : ordered("");
  bytes += event(data);
}

ordered ollama_messages_voice::tool_use() const {
  ordered block = of_type("tool_use");
  block["id"] = "call_" + id_;
  block["name"] = tool_;
  return block;
}

std::string ollama_messages_voice::say(const piece& what, const tally& so_far) {
  std::string bytes;
  const bool call = what.part == part::call;
  if (what.text.empty() || (call && !so_far.called)) return bytes;  // a call is never told in parts
  start(bytes, so_far);
  open(bytes, what.part);
  const bool thinks = what.part == part::reasoning;
  ordered data = of_type("content_block_delta");
  data["index"] = index_;
  data["delta"] = of_type(call ? "input_json_delta" : thinks ? "thinking_delta" : "text_delta");
  data["delta"][call     ? "partial_json"
                : thinks ? "thinking"
                         : "text"] = call ? std::string_view(so_far.arguments) : std::string_view(what.text);
  bytes += event(data);
  if (call) close(bytes);
  return bytes;
}

std::vector<std::string> ollama_messages_voice::finish(const tally& all) {
  std::string bytes;
  start(bytes, all);
  close(bytes);
  ordered last = of_type("message_delta");
  last["delta"] = ordered{{"stop_reason", stop_reason(all)}};
  last["usage"] = ordered{{"input_tokens", all.prompt_tokens}, {"output_tokens", all.tokens}};
  return {bytes + event(last) + event(of_type("message_stop"))};
}

std::string ollama_messages_voice::whole(const tally& all) {
  ordered content = ordered::array();
  const auto add = [&](const char* type, std::string_view text) {
    if (text.empty()) return;
    content.push_back(of_type(type));
    content.back()[type] = text;
  };
  add("thinking", all.reasoning);
  add("text", all.text);
  if (all.called) {
    content.push_back(tool_use());
    content.back()["input"] = ordered::parse(all.arguments, nullptr, false);
  }
  ordered one{{"id", "msg_" + id_}, {"type", "message"}, {"role", "assistant"}, {"model", model_}};
  one["content"] = std::move(content);
  one["stop_reason"] = stop_reason(all);
  one["usage"] = ordered{{"input_tokens", all.prompt_tokens}, {"output_tokens", all.tokens}};
  return write_json(one) + '\n';
}

}  // namespace pocketfleet::sim
