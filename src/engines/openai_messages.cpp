// A conversation in Ollama's form, turned into OpenAI's.
#include <deque>

#include "streams.hpp"

namespace pocketfleet {
namespace {

/// Content with images as OpenAI has it: parts, each image a data URI.
json image_parts(const json& message) {
  json parts = json::array();
  if (const auto text = message.find("content");
      text != message.end() && !text->get_ref<const std::string&>().empty()) {
    parts.push_back({{"type", "text"}, {"text", *text}});
  }
  for (const auto& image : message["images"]) {
    const auto& data = image.get_ref<const std::string&>();
    // The first characters of base64 tell the format.
    const std::string_view type = data.starts_with("iVBOR")    ? "png"
                                  : data.starts_with("UklGR")  ? "webp"
                                  : data.starts_with("R0lGOD") ? "gif"
                                                               : "jpeg";
    parts.push_back({{"type", "image_url"},
                     {"image_url", {{"url", "data:image/" + std::string(type) + ";base64," + data}}}});
  }
  return parts;
}

/// Ollama's calls may have no ids; OpenAI's results are joined to them by nothing else.
json openai_calls(const json& calls, std::deque<std::string>& open, std::size_t& made) {
  json out = json::array();
  for (const json& call : calls) {
    const json& function = call["function"];
    std::string id = call.contains("id") && call["id"].is_string() ? call["id"].get<std::string>()
                                                                   : "call_" + std::to_string(made++);
    out.push_back({{"id", id},
                   {"type", "function"},
                   {"function",
                    {{"name", function["name"]},
                     {"arguments", dump_json(function.value("arguments", json::object()))}}}});
    open.push_back(std::move(id));
  }
  return out;
}

}  // namespace

json openai_messages(const question& q) {
  if (q.spoken == dialect::openai_chat) return q.native["messages"];
  if (!q.rich) return q.messages;
  json out = json::array();
  std::deque<std::string> open;  // calls whose results have not come yet
  std::size_t made = 0;
  for (const json& m : q.messages) {
    json message{{"role", m["role"]}, {"content", m.contains("images") ? image_parts(m) : m["content"]}};
    if (m.contains("thinking")) message["reasoning_content"] = m["thinking"];
    if (m.contains("tool_calls")) message["tool_calls"] = openai_calls(m["tool_calls"], open, made);
    if (m["role"] == "tool") {
      if (m.contains("tool_call_id")) {
        message["tool_call_id"] = m["tool_call_id"];
      } else if (!open.empty()) {
        message["tool_call_id"] = open.front();
      }
      if (!open.empty()) open.pop_front();
    }
    out.push_back(std::move(message));
  }
  return out;
}

}  // namespace pocketfleet
