#include "llama_voice.hpp"

#include <ctime>
#include <utility>

namespace pocketfleet::sim {
namespace {

constexpr const char* fingerprint = "b11669-sim";

double in_ms(nanoseconds time) {
  return static_cast<double>(time.count()) / 1e6;
}

ordered progress_object(const tally& so_far, std::size_t processed, nanoseconds passed) {
  return {{"total", so_far.prompt_tokens},
          {"cache", so_far.cached},
          {"processed", processed},
          {"time_ms", std::chrono::duration_cast<milliseconds>(passed).count()}};
}

const char* finish_reason(const tally& all) {
  return all.called ? "tool_calls" : all.limited ? "length" : "stop";
}

}  // namespace

std::string llama_error(unsigned status, std::string_view text, std::string_view type) {
  const ordered inside{{"code", status}, {"message", text}, {"type", type}};
  ordered outside;
  outside["error"] = inside;
  return write_json(outside);
}

std::string llama_voice::error_event() const {
  return "data: " + llama_error(500, "simulated failure of the engine", "server_error") + "\n\n";
}

ordered llama_voice::timings(const tally& all) {
  const auto side = [](ordered& into, const std::string& name, std::uint64_t count, double ms) {
    into[name + "_n"] = count;
    into[name + "_ms"] = ms;
    into[name + "_per_token_ms"] = count != 0 ? ms / static_cast<double>(count) : 0.0;
    into[name + "_per_second"] = ms > 0 ? static_cast<double>(count) / ms * 1000 : 0.0;
  };
  ordered result{{"cache_n", all.cached}};
  side(result, "prompt", all.prompt_tokens - all.cached, in_ms(all.prefill));
  side(result, "predicted", all.tokens, in_ms(all.decode));
  return result;
}

std::string completion_voice::progress(const tally& so_far, std::size_t processed, nanoseconds passed) {
  if (!wishes_.return_progress) return {};
  ordered data{{"index", 0}, {"content", ""}, {"tokens", ordered::array()}, {"stop", false}, {"id_slot", -1}};
  data["tokens_predicted"] = 0;
  data["tokens_evaluated"] = so_far.prompt_tokens;
  data["prompt_progress"] = progress_object(so_far, processed, passed);
  return event(data);
}

std::string completion_voice::say(const piece& what, const tally& so_far) {
  ordered data{{"index", 0}, {"content", what.text}};
  data["tokens"] = ordered::array();
  if (what.part != part::reasoning) data["tokens"].push_back(what.id);
  data["stop"] = false;
  data["id_slot"] = -1;
  data["tokens_predicted"] = so_far.tokens;
  data["tokens_evaluated"] = so_far.prompt_tokens;
  if (wishes_.timings_per_token) data["timings"] = timings(so_far);
  return event(data);
}

ordered completion_voice::last(const tally& all, bool streamed) const {
  ordered data{{"index", 0}, {"content", streamed ? std::string() : all.reasoning + all.text}};
  data["tokens"] = ordered::array();
  if (!streamed && wishes_.return_tokens) data["tokens"] = all.ids;
  data["id_slot"] = all.slot;
  data["stop"] = all.done;
  data["model"] = wishes_.model;
  data["tokens_predicted"] = all.tokens;
  data["tokens_evaluated"] = all.prompt_tokens;
  data["generation_settings"] = ordered{{"temperature", 0.8},
                                        {"stop", wishes_.stops},
                                        {"max_tokens", wishes_.limit},
                                        {"n_predict", wishes_.limit},
                                        {"stream", streamed}};
  data["prompt"] = wishes_.prompt;
  data["has_new_line"] = false;
  data["truncated"] = all.out_of_room;
  data["stop_type"] = !all.done ? "none" : !all.word.empty() ? "word" : all.limited ? "limit" : "eos";
  data["stopping_word"] = all.word;
  data["tokens_cached"] = all.prompt_tokens + all.tokens;
  data["timings"] = timings(all);
  return data;
}

std::vector<std::string> completion_voice::finish(const tally& all) {
  return {event(last(all, true))};
}
std::string completion_voice::whole(const tally& all) {
  return write_json(last(all, false));
}

chat_voice::chat_voice(wishes what) : wishes_(std::move(what)), created_(std::time(nullptr)) {}

ordered chat_voice::chunk(ordered choices) const {
  ordered result;
  result["choices"] = std::move(choices);
  result["created"] = created_;
  result["id"] = wishes_.id;
  result["model"] = wishes_.model;
  result["system_fingerprint"] = fingerprint;
  result["object"] = "chat.completion.chunk";
  return result;
}

ordered chat_voice::call(std::string_view arguments, bool whole) const {
  ordered one;
  if (!whole) one["index"] = 0;
  if (!whole && !called_) one["id"] = wishes_.tool.id;
  if (whole || !called_) one["type"] = "function";
  if (whole || !called_) one["function"]["name"] = wishes_.tool.name;
  one["function"]["arguments"] = arguments;
  if (whole) one["id"] = wishes_.tool.id;
  ordered list = ordered::array();
  list.push_back(std::move(one));
  return list;
}

ordered chat_voice::choice(ordered delta, const char* finish_reason) {
  ordered one;
  one["finish_reason"] = finish_reason == nullptr ? ordered() : ordered(finish_reason);
  one["index"] = 0;
  one["delta"] = std::move(delta);
  ordered list = ordered::array();
  list.push_back(std::move(one));
  return list;
}

ordered llama_voice::usage(const tally& all) {
  ordered result{{"completion_tokens", all.tokens},
                 {"prompt_tokens", all.prompt_tokens},
                 {"total_tokens", all.tokens + all.prompt_tokens}};
  result["prompt_tokens_details"]["cached_tokens"] = all.cached;
  return result;
}

std::string chat_voice::progress(const tally& so_far, std::size_t processed, nanoseconds passed) {
  if (!wishes_.return_progress) return {};
  ordered data = chunk(choice(ordered{{"role", "assistant"}, {"content", nullptr}}, nullptr));
  data["prompt_progress"] = progress_object(so_far, processed, passed);
  return event(data);
}

std::string chat_voice::say(const piece& what, const tally& so_far) {
  std::string bytes;  // the role goes out in one chunk with the first token, as two events
  if (what.first) bytes = event(chunk(choice(ordered{{"role", "assistant"}, {"content", nullptr}}, nullptr)));
  if (what.text.empty()) return bytes;
  ordered delta;
  if (what.part == part::call) {
    if (!called_) {
      ordered named;
      named["tool_calls"] = call({}, false);
      bytes += event(chunk(choice(std::move(named), nullptr)));
      called_ = true;
    }
    delta["tool_calls"] = call(what.text, false);
  } else {
    delta[what.part == part::reasoning ? "reasoning_content" : "content"] = what.text;
  }
  ordered data = chunk(choice(std::move(delta), nullptr));
  if (wishes_.logprobs && !what.tokens.empty())
    data["choices"][0]["logprobs"]["content"] = logprob_entries(what.tokens, *wishes_.logprobs, true);
  if (wishes_.timings_per_token) data["timings"] = timings(so_far);
  return bytes + event(data);
}

std::vector<std::string> chat_voice::finish(const tally& all) {
  ordered end = chunk(choice(ordered::object(), finish_reason(all)));
  std::string bytes;
  if (wishes_.include_usage) {
    ordered last = chunk(ordered::array());
    last["usage"] = usage(all);
    last["timings"] = timings(all);
    bytes = event(end) + event(last);
  } else {
    end["timings"] = timings(all);
    bytes = event(end);
  }
  return {bytes, "data: [DONE]\n\n"};
}

std::string chat_voice::whole(const tally& all) {
  ordered said{{"role", "assistant"}, {"content", wishes_.prefill + all.text}};
  if (!all.reasoning.empty()) said["reasoning_content"] = all.reasoning;
  if (all.called) said["tool_calls"] = call(all.arguments, true);
  ordered one;
  one["finish_reason"] = !all.done ? ordered() : ordered(finish_reason(all));
  one["index"] = 0;
  one["message"] = std::move(said);
  if (wishes_.logprobs && !all.said.empty())
    one["logprobs"]["content"] = logprob_entries(all.said, *wishes_.logprobs, true);
  ordered result;
  result["choices"] = ordered::array();
  result["choices"].push_back(std::move(one));
  result["created"] = created_;
  result["model"] = wishes_.model;
  result["system_fingerprint"] = fingerprint;
  result["object"] = "chat.completion";
  result["usage"] = usage(all);
  result["id"] = wishes_.id;
  result["timings"] = timings(all);
  return write_json(result);
}

text_voice::text_voice(wishes what) : wishes_(std::move(what)), created_(std::time(nullptr)) {}

ordered text_voice::object(std::string_view text, const std::vector<std::string>& tokens,
                           const char* finish) const {
  ordered one{{"text", text}, {"index", 0}, {"logprobs", nullptr}};
  if (wishes_.logprobs && !tokens.empty()) {
    one["logprobs"] = ordered::object();
    one["logprobs"]["content"] = logprob_entries(tokens, *wishes_.logprobs, true);
  }
  one["finish_reason"] = finish == nullptr ? ordered() : ordered(finish);
  ordered result;
  result["choices"] = ordered::array();
  result["choices"].push_back(std::move(one));
  result["created"] = created_;
  result["model"] = wishes_.model;
  result["system_fingerprint"] = fingerprint;
  result["object"] = "text_completion";
  return result;
}

std::string text_voice::progress(const tally& so_far, std::size_t processed, nanoseconds passed) {
  if (!wishes_.return_progress) return {};
  ordered data = object({}, {}, nullptr);
  data["id"] = wishes_.id;
  data["prompt_progress"] = progress_object(so_far, processed, passed);
  return event(data);
}

std::string text_voice::say(const piece& what, const tally& so_far) {
  if (what.text.empty()) return {};
  ordered data = object(what.text, what.tokens, nullptr);
  data["id"] = wishes_.id;
  if (wishes_.timings_per_token) data["timings"] = timings(so_far);
  return event(data);
}

// The last chunk has `usage` whether it was asked for or not.
std::vector<std::string> text_voice::finish(const tally& all) {
  ordered last = object({}, {}, finish_reason(all));
  last["usage"] = usage(all);
  last["id"] = wishes_.id;
  last["timings"] = timings(all);
  return {event(last), "data: [DONE]\n\n"};
}

std::string text_voice::whole(const tally& all) {
  ordered one = object(all.reasoning + all.text, all.said, all.done ? finish_reason(all) : nullptr);
  one["usage"] = usage(all);
  one["id"] = wishes_.id;
  one["timings"] = timings(all);
  return write_json(one);
}

}  // namespace pocketfleet::sim
