#include "llama_pages.hpp"

#include <algorithm>
#include <cstdio>
#include <ctime>

#include "text.hpp"

namespace pocketfleet::sim {

std::string models_page(const phone_settings& settings) {
  const ordered meta{{"vocab_type", 2},      {"n_vocab", 151936}, {"n_ctx", settings.context},
                     {"n_ctx_train", 32768}, {"n_embd", 1536},    {"n_params", 1543714304},
                     {"size", 986061892},    {"ftype", "Q4_K_M"}};
  const ordered small{{"name", settings.model}, {"model", settings.model},
                      {"modified_at", ""},      {"size", ""},
                      {"digest", ""},           {"type", "model"},
                      {"description", ""},      {"capabilities", ordered::array({"completion"})}};
  ordered one{
      {"id", settings.model}, {"aliases", ordered::array({settings.model})}, {"tags", ordered::array()}};
  one["object"] = "model";
  one["created"] = std::time(nullptr);
  one["owned_by"] = "llamacpp";
  one["meta"] = meta;
  ordered result;
  result["models"] = ordered::array();
  result["models"].push_back(small);
  result["object"] = "list";
  result["data"] = ordered::array();
  result["data"].push_back(one);
  return write_json(result);
}

std::string props_page(const phone_settings& settings) {
  ordered result;
  result["default_generation_settings"]["params"] =
      ordered{{"temperature", 0.8}, {"top_k", 40}, {"top_p", 0.95}, {"n_predict", -1}, {"stream", false}};
  result["default_generation_settings"]["n_ctx"] = settings.context;
  result["total_slots"] = settings.slots;
  result["model_alias"] = settings.model;
  result["model_ftype"] = "Q4_K_M";
  result["model_path"] = "/data/models/" + settings.model + ".gguf";
  result["modalities"] = ordered{{"vision", false}, {"video", false}, {"audio", false}};
  result["endpoint_slots"] = true;
  result["endpoint_props"] = false;
  result["endpoint_metrics"] = true;
  result["chat_template"] =
      "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
      "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
  result["bos_token"] = "<s>";
  result["eos_token"] = "<|im_end|>";
  result["build_info"] = "b11669-sim";
  result["is_sleeping"] = false;
  return write_json(result);
}

std::string slots_page(phone::server& server) {
  ordered list = ordered::array();
  for (unsigned i = 0; i < server.slots.slots(); ++i) {
    const gate::slot_view& slot = server.slots.slot(i);
    ordered one{
        {"id", i}, {"n_ctx", server.settings.context}, {"speculative", false}, {"is_processing", slot.busy}};
    if (slot.busy) {
      one["id_task"] = slot.task;
      one["n_prompt_tokens"] = slot.prompt_tokens;
      ordered next{{"has_next_token", true}, {"n_remain", slot.remain}, {"n_decoded", slot.decoded}};
      one["next_token"] = ordered::array();
      one["next_token"].push_back(next);
    }
    list.push_back(one);
  }
  return write_json(list);
}

std::string metrics_page(phone::server& server) {
  std::string text;
  const auto add = [&](const char* name, const char* type, double value) {
    char line[160];
    std::snprintf(line, sizeof line, "# TYPE llamacpp:%s %s\nllamacpp:%s %.10g\n", name, type, name, value);
    text += line;
  };
  const auto tokens = static_cast<double>(server.counters.tokens);
  const auto prompts = static_cast<double>(server.counters.prompt_tokens);
  add("prompt_tokens_total", "counter", prompts);
  add("prompt_tokens_cached_total", "counter", static_cast<double>(server.counters.cached_tokens));
  add("prompt_seconds_total", "counter", server.prefilled.count());
  add("tokens_predicted_total", "counter", tokens);
  add("tokens_predicted_seconds_total", "counter", server.decoded.count());
  add("prompt_tokens_seconds", "gauge",
      server.prefilled.count() > 0 ? prompts / server.prefilled.count() : 0);
  add("predicted_tokens_seconds", "gauge", server.decoded.count() > 0 ? tokens / server.decoded.count() : 0);
  add("requests_processing", "gauge", server.slots.active());
  add("requests_deferred", "gauge", server.counters.waiting);
  return text;
}

std::string tokens_answer(const json& body) {
  ordered list = ordered::array();
  const bool pieces = bool_member(body, "with_pieces", false);
  for (const token_id id : tokenize(text_member(body, "content"))) {
    if (pieces) {
      const std::string text = text_of(id);
      const bool ascii = std::all_of(text.begin(), text.end(), [](char c) { return c >= 0; });
      ordered one{{"id", id}};
      one["piece"] = ascii ? ordered(text) : ordered::array({static_cast<unsigned char>(text[0])});
      list.push_back(one);
    } else {
      list.push_back(id);
    }
  }
  ordered result;
  result["tokens"] = std::move(list);
  return write_json(result);
}

std::string text_answer(const json& body) {
  std::string text;
  const json& ids = member(body, "tokens");
  if (ids.is_array())
    for (const json& id : ids) text += id.is_number_integer() ? text_of(id.get<token_id>()) : std::string();
  return write_json(ordered{{"content", text}});
}

}  // namespace pocketfleet::sim
