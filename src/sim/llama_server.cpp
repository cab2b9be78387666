// Simulated llama-server: its routes.
#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>
#include <memory>

#include "engine.hpp"
#include "generate.hpp"
#include "json.hpp"
#include "llama_request.hpp"
#include "llama_voice.hpp"

namespace pocketfleet::sim {

namespace asio = boost::asio;

namespace {

constexpr const char* json_type = "application/json; charset=utf-8";

std::string_view error_type(unsigned status) {
  switch (status) {
    case 400: return "invalid_request_error";
    case 404: return "not_found_error";
    case 501: return "not_supported_error";
    case 503: return "unavailable_error";
    default: return "server_error";
  }
}

class llama_engine final : public engine {
 public:
  asio::awaitable<void> answer(connection& client) override;

  bool generates(const request& asked) const override {
    return asked.seen.method == "POST" &&
           (asked.path == "/completion" || asked.path == "/completions" ||
            asked.path == "/v1/chat/completions" || asked.path == "/chat/completions");
  }
  std::string common_headers() const override {
    return "Server: llama.cpp\r\nAccess-Control-Allow-Origin: \r\n";
  }
  std::string error_body(unsigned status, std::string_view text) const override {
    return llama_error(status, text, error_type(status));
  }
  std::string bad_request() const override {
    return "HTTP/1.1 400 Bad Request\r\nServer: llama.cpp\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
  }
  bool always_chunks() const override { return true; }
  unsigned most_requests() const override { return 100; }
  duration idle_limit(const phone_settings& settings) const override { return settings.idle_close; }

 private:
  asio::awaitable<void> fail(connection& client, unsigned status, std::string text) const;
  asio::awaitable<void> look(connection& client);
  asio::awaitable<void> act(connection& client);
  asio::awaitable<void> complete(connection& client, llama_request asked, bool chat);
};

std::string models(const phone_settings& settings) {
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

std::string props(const phone_settings& settings) {
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

std::string slots(phone::server& server) {
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

std::string metrics(phone::server& server) {
  std::string text;
  const auto add = [&](const char* name, const char* type, double value) {
    char line[160];
    std::snprintf(line, sizeof line, "# TYPE llamacpp:%s %s\nllamacpp:%s %.10g\n", name, type, name, value);
    text += line;
  };
  const auto tokens = static_cast<double>(server.counters.tokens);
  const auto prompts = static_cast<double>(server.prompt_tokens);
  add("prompt_tokens_total", "counter", prompts);
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

// Errors close the connection.
asio::awaitable<void> llama_engine::fail(connection& client, unsigned status, std::string text) const {
  client.close_after_answer();
  std::string body = error_body(status, text);
  co_await client.reply(status, json_type, std::move(body));
}

asio::awaitable<void> llama_engine::answer(connection& client) {
  const request& asked = client.asked();
  if (!client.server().ready(clock::now())) {
    co_await fail(client, 503, "Loading model");
  } else if (asked.get()) {
    co_await look(client);
  } else if (asked.seen.method == "POST") {
    co_await act(client);
  } else {
    co_await fail(client, 404, "File Not Found");
  }
}

asio::awaitable<void> llama_engine::look(connection& client) {
  const std::string& path = client.asked().path;
  phone::server& server = client.server();
  const phone_settings& settings = server.settings;
  std::string body;
  if (path == "/health" || path == "/v1/health") {
    body = R"({"status":"ok"})";
  } else if (path == "/v1/models" || path == "/models") {
    body = models(settings);
  } else if (path == "/props") {
    body = props(settings);
  } else if (path == "/slots") {
    const bool full = server.slots.active() == server.slots.slots();
    if (full && client.asked().query.find("fail_on_no_slot=1") != std::string::npos) {
      co_await fail(client, 503, "no slot available");
      co_return;
    }
    body = slots(server);
  } else if (path == "/metrics") {
    body = metrics(server);
    co_await client.reply(200, "text/plain; version=0.0.4", std::move(body));
    co_return;
  } else {
    co_await fail(client, 404, "File Not Found");
    co_return;
  }
  co_await client.reply(200, json_type, std::move(body));
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

asio::awaitable<void> llama_engine::act(connection& client) {
  const request& asked = client.asked();
  const std::string& path = asked.path;
  llama_request wanted;
  llama_refusal no;
  std::string body;
  if (path == "/tokenize" || path == "/detokenize") {
    const auto read = read_json(asked.seen.body);
    if (!read) {
      co_await fail(client, 400,
                    "[json.exception.parse_error.101] parse error: syntax error while parsing value");
      co_return;
    }
    body = path == "/tokenize" ? tokens_answer(*read) : text_answer(*read);
    co_await client.reply(200, json_type, std::move(body));
    co_return;
  }
  const bool chat = path == "/v1/chat/completions" || path == "/chat/completions";
  if (chat || path == "/apply-template") {
    no = read_chat(asked.seen.body, client.server().settings.continues, wanted);
  } else if (path == "/completion" || path == "/completions") {
    no = read_completion(asked.seen.body, wanted);
  } else if (path == "/v1/embeddings" || path == "/embeddings" || path == "/embedding") {
    no = {501, "This server does not support embeddings. Start it with `--embeddings`"};
  } else {
    no = {404, "File Not Found"};
  }
  if (no) {
    co_await fail(client, no.status, no.text);
  } else if (path == "/apply-template") {
    body = write_json(ordered{{"prompt", wanted.prompt}});
    co_await client.reply(200, json_type, std::move(body));
  } else {
    co_await complete(client, std::move(wanted), chat);
  }
}

std::string too_long(std::size_t tokens, unsigned context) {
  ordered inside{{"code", 400}};
  inside["message"] = "request (" + std::to_string(tokens) + " tokens) exceeds the available context size (" +
                      std::to_string(context) + " tokens), try increasing it";
  inside["type"] = "exceed_context_size_error";
  inside["n_prompt_tokens"] = tokens;
  inside["n_ctx"] = context;
  ordered outside;
  outside["error"] = inside;
  return write_json(outside);
}

std::string chat_id(std::uint64_t number) {
  std::string id = std::to_string(number);
  return "chatcmpl-" + std::string(32 - std::min<std::size_t>(id.size(), 32), '0') + id;
}

asio::awaitable<void> llama_engine::complete(connection& client, llama_request asked, bool chat) {
  phone::server& server = client.server();
  const phone_settings& settings = server.settings;
  const std::size_t tokens = asked.ids.size();
  if (tokens >= settings.context) {
    client.close_after_answer();
    std::string body = too_long(tokens, settings.context);
    co_await client.reply(400, json_type, std::move(body));
    co_return;
  }
  job what;
  what.model = settings.model;
  what.prompt_tokens = tokens;
  what.from = asked.from;
  if (asked.limit >= 0) what.limit = static_cast<std::uint64_t>(std::max<std::int64_t>(asked.limit, 1));
  what.room = settings.context - tokens;
  what.stops = asked.stops;
  what.stream = asked.stream;
  if (chat && settings.thinking && asked.thinks) what.reasoning = settings.reasoning_tokens;
  if (chat && settings.echoes_prefill && !asked.told_to_continue) what.echo = asked.prefill;
  if (asked.stream) client.close_after_stream();
  if (chat) {
    chat_voice::wishes wishes{settings.model,      chat_id(++server.answers), asked.prefill,
                              asked.include_usage, asked.return_progress,     asked.timings_per_token};
    chat_voice speaker(std::move(wishes));
    co_await generate(client, std::move(what), speaker);
  } else {
    completion_voice::wishes wishes{
        settings.model,        asked.prompt,           asked.limit, asked.stops, asked.return_tokens,
        asked.return_progress, asked.timings_per_token};
    completion_voice speaker(std::move(wishes));
    co_await generate(client, std::move(what), speaker);
  }
}

}  // namespace

std::unique_ptr<engine> make_llama_server() {
  return std::make_unique<llama_engine>();
}

}  // namespace pocketfleet::sim
