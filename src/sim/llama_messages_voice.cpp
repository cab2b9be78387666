#include <algorithm>

#include "llama_voice.hpp"

namespace pocketfleet::sim {
namespace {

std::string named_event(const ordered& data) {
  return "event: " + data["type"].get<std::string>() + "\ndata: " + write_json(data) + "\n\n";
}

ordered of_type(const char* type) {
  ordered result;
  result["type"] = type;
  return result;
}

std::string delta_event(std::size_t block, const char* type, const char* field, std::string_view text) {
  ordered data = of_type("content_block_delta");
  data["index"] = block;
  data["delta"] = of_type(type);
  data["delta"][field] = text;
  return named_event(data);
}

ordered usage_object(const tally& all, std::uint64_t said) {
  return {{"cache_read_input_tokens", all.cached},
          {"input_tokens", all.prompt_tokens - all.cached},
          {"output_tokens", said}};
}

}  // namespace

std::string messages_voice::start(const tally& so_far) const {
  ordered inside{{"id", wishes_.id}, {"type", "message"}, {"role", "assistant"}};
  inside["content"] = ordered::array();
  inside["model"] = wishes_.model;
  inside["stop_reason"] = nullptr;
  inside["stop_sequence"] = nullptr;
  inside["usage"] = usage_object(so_far, 0);
  ordered data = of_type("message_start");
  data["message"] = std::move(inside);
  return named_event(data);
}

// The index of the block, which is begun if it is new.
std::size_t messages_voice::block(part which, std::string& bytes) {
  const auto found = std::find(blocks_.begin(), blocks_.end(), which);
  const auto index = static_cast<std::size_t>(found - blocks_.begin());
  if (found != blocks_.end()) return index;
  blocks_.push_back(which);
  ordered inside;
  switch (which) {
    case part::reasoning:
      inside = of_type("thinking");
      inside["thinking"] = "";
      break;
    case part::answer:
      inside = of_type("text");
      inside["text"] = "";
      break;
    case part::call:  // without the `input` that Anthropic's own has
      inside = of_type("tool_use");
      inside["id"] = wishes_.tool.id;
      inside["name"] = wishes_.tool.name;
      break;
  }
  ordered data = of_type("content_block_start");
  data["index"] = index;
  data["content_block"] = std::move(inside);
  bytes += named_event(data);
  return index;
}

std::string messages_voice::say(const piece& what, const tally& so_far) {
  std::string bytes;
  if (what.first) bytes = start(so_far);
  started_ = started_ || what.first;
  if (what.text.empty()) return bytes;
  const std::size_t index = block(what.part, bytes);
  switch (what.part) {
    case part::reasoning: return bytes + delta_event(index, "thinking_delta", "thinking", what.text);
    case part::call: return bytes + delta_event(index, "input_json_delta", "partial_json", what.text);
    case part::answer: break;
  }
  return bytes + delta_event(index, "text_delta", "text", what.text);
}

// Why it ended, and the stop string: a model that met one has ended its turn, in this engine's words.
ordered messages_voice::reason(const tally& all) const {
  ordered result{{"stop_reason", nullptr}, {"stop_sequence", nullptr}};
  if (all.done) result["stop_reason"] = all.called ? "tool_use" : all.limited ? "max_tokens" : "end_turn";
  if (!all.word.empty()) result["stop_sequence"] = all.word;
  return result;
}

std::vector<std::string> messages_voice::finish(const tally& all) {
  std::string bytes = started_ ? std::string() : start(all);
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    if (blocks_[i] == part::reasoning) bytes += delta_event(i, "signature_delta", "signature", "");
    ordered stop = of_type("content_block_stop");
    stop["index"] = i;
    bytes += named_event(stop);
  }
  ordered last = of_type("message_delta");
  last["delta"] = reason(all);
  last["usage"]["output_tokens"] = all.tokens;
  return {bytes + named_event(last) + named_event(of_type("message_stop"))};
}

std::string messages_voice::whole(const tally& all) {
  ordered content = ordered::array();
  if (!all.reasoning.empty())
    content.push_back({{"type", "thinking"}, {"thinking", all.reasoning}, {"signature", ""}});
  if (const std::string text = wishes_.prefill + all.text; !text.empty())
    content.push_back({{"type", "text"}, {"text", text}});
  if (all.called) {
    ordered call{{"type", "tool_use"}, {"id", wishes_.tool.id}, {"name", wishes_.tool.name}};
    call["input"] = ordered::parse(all.arguments, nullptr, false);
    content.push_back(std::move(call));
  }
  ordered one{{"id", wishes_.id}, {"type", "message"}, {"role", "assistant"}};
  one["content"] = std::move(content);
  one["model"] = wishes_.model;
  one.update(reason(all));
  one["usage"] = usage_object(all, all.tokens);
  return write_json(one);
}

// The error without the envelope it has elsewhere. Nothing follows it.
std::string messages_voice::error_event() const {
  const ordered data{{"code", 500}, {"message", "simulated failure of the engine"}, {"type", "server_error"}};
  return "event: error\ndata: " + write_json(data) + "\n\n";
}

}  // namespace pocketfleet::sim
