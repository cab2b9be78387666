#include "ollama_voice.hpp"

namespace pocketfleet::sim {

ordered ollama_voice::object(std::string_view text, std::string_view thinking) const {
  ordered result{{"model", model_}, {"created_at", utc_now()}};
  if (chat_) {
    result["message"] = ordered{{"role", "assistant"}, {"content", text}};
    if (!thinking.empty()) result["message"]["thinking"] = thinking;
  } else {
    result["response"] = text;
    if (!thinking.empty()) result["thinking"] = thinking;
  }
  return result;
}

std::string ollama_voice::say(const piece& what, const tally&) {
  if (what.text.empty()) return {};
  ordered part = what.reasoning ? object({}, what.text) : object(what.text, {});
  part["done"] = false;
  return write_json(part) + '\n';
}

void ollama_voice::close(ordered& last, const tally& all) const {
  last["done"] = all.done;
  if (all.done) {
    last["done_reason"] = all.limited ? "length" : "stop";
    if (!chat_ && !context_.empty()) {
      std::vector<token_id> context = context_;
      context.insert(context.end(), all.ids.begin(), all.ids.end());
      last["context"] = context;
    }
  }
  const auto count = [&](const char* name, auto value) {
    if (value != 0) last[name] = value;  // left out when 0
  };
  count("total_duration", all.total.count());
  count("load_duration", all.load.count());
  count("prompt_eval_count", all.prompt_tokens);
  count("prompt_eval_duration", all.prefill.count());
  count("eval_count", all.tokens);
  count("eval_duration", all.decode.count());
}

std::vector<std::string> ollama_voice::finish(const tally& all) {
  ordered last = object({}, {});
  close(last, all);
  return {write_json(last) + '\n'};
}

std::string ollama_voice::whole(const tally& all) {
  ordered one = object(all.text, all.reasoning);
  close(one, all);
  return write_json(one);
}

std::string ollama_voice::error_event() const {
  return write_json(
             ordered{{"error", "an error was encountered while running the model: simulated failure"}}) +
         '\n';
}

}  // namespace pocketfleet::sim
