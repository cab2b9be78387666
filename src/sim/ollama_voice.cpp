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

// A call is never told in parts.
void ollama_voice::add_call(ordered& into, const tally& all) const {
  if (!all.called) return;
  ordered function{{"index", 0}, {"name", tool_}};
  function["arguments"] = ordered::parse(all.arguments, nullptr, false);
  ordered one;
  one["id"] = "call_" + std::to_string(call_);
  one["function"] = std::move(function);
  into["message"]["tool_calls"] = ordered::array();
  into["message"]["tool_calls"].push_back(std::move(one));
}

std::string ollama_voice::say(const piece& what, const tally& so_far) {
  if (what.text.empty() || (what.part == part::call && !so_far.called)) return {};
  const bool shows = what.part == part::answer;
  const bool thinks = what.part == part::reasoning;
  ordered line = object(shows ? std::string_view(what.text) : std::string_view(),
                        thinks ? std::string_view(what.text) : std::string_view());
  if (what.part == part::call) add_call(line, so_far);
  line["done"] = false;
  if (top_ && !what.tokens.empty()) line["logprobs"] = logprob_entries(what.tokens, *top_, false);
  return write_json(line) + '\n';
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
  add_call(one, all);
  close(one, all);
  if (top_ && !all.said.empty()) one["logprobs"] = logprob_entries(all.said, *top_, false);
  return write_json(one);
}

std::string ollama_voice::error_event() const {
  return write_json(
             ordered{{"error", "an error was encountered while running the model: simulated failure"}}) +
         '\n';
}

}  // namespace pocketfleet::sim
