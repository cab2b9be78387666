// Simulated llama-server: its routes.
#include <algorithm>
#include <initializer_list>
#include <memory>

#include "embed.hpp"
#include "engine.hpp"
#include "generate.hpp"
#include "json.hpp"
#include "llama_pages.hpp"
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

enum class route : std::uint8_t {
  none,
  tokens,
  text,
  render,
  completion,
  openai_text,
  chat,
  messages,
  count,
  embed
};

route route_of(std::string_view path) {
  struct known {
    std::string_view path;
    route leads_to;
  };
  for (const known& each : std::initializer_list<known>{{"/tokenize", route::tokens},
                                                        {"/detokenize", route::text},
                                                        {"/apply-template", route::render},
                                                        {"/completion", route::completion},
                                                        {"/completions", route::completion},
                                                        {"/v1/completions", route::openai_text},
                                                        {"/v1/chat/completions", route::chat},
                                                        {"/chat/completions", route::chat},
                                                        {"/v1/messages", route::messages},
                                                        {"/v1/messages/count_tokens", route::count},
                                                        {"/v1/embeddings", route::embed}})
    if (each.path == path) return each.leads_to;
  return route::none;
}

class llama_engine final : public engine {
 public:
  asio::awaitable<void> answer(connection& client) override;

  bool generates(const request& asked) const override {
    const route where = route_of(asked.path);
    return asked.seen.method == "POST" && (where >= route::completion);
  }
  std::string common_headers() const override {
    return "Server: llama.cpp\r\nAccess-Control-Allow-Origin: \r\n";
  }
  std::string error_body(const request&, unsigned status, std::string_view text) const override {
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
  asio::awaitable<void> tell(connection& client, route where);
  asio::awaitable<void> count(connection& client, const llama_request& asked);
  asio::awaitable<void> embed_texts(connection& client);
  asio::awaitable<void> complete(connection& client, llama_request asked, route where);
  asio::awaitable<void> speak(connection& client, job what, const llama_request& asked, route where);
};

// Errors close the connection.
asio::awaitable<void> llama_engine::fail(connection& client, unsigned status, std::string text) const {
  client.close_after_answer();
  std::string body = error_body(client.asked(), status, text);
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
    body = models_page(settings);
  } else if (path == "/props") {
    body = props_page(settings);
  } else if (path == "/slots") {
    const bool full = server.slots.active() == server.slots.slots();
    if (full && client.asked().query.find("fail_on_no_slot=1") != std::string::npos) {
      co_await fail(client, 503, "no slot available");
      co_return;
    }
    body = slots_page(server);
  } else if (path == "/metrics") {
    body = metrics_page(server);
    co_await client.reply(200, "text/plain; version=0.0.4", std::move(body));
    co_return;
  } else {
    co_await fail(client, 404, "File Not Found");
    co_return;
  }
  co_await client.reply(200, json_type, std::move(body));
}

// /tokenize and /detokenize.
asio::awaitable<void> llama_engine::tell(connection& client, route where) {
  const auto read = read_json(client.asked().seen.body);
  if (!read) {
    co_await fail(client, 400,
                  "[json.exception.parse_error.101] parse error: syntax error while parsing value");
    co_return;
  }
  std::string body = where == route::tokens ? tokens_answer(*read) : text_answer(*read);
  co_await client.reply(200, json_type, std::move(body));
}

asio::awaitable<void> llama_engine::act(connection& client) {
  const request& asked = client.asked();
  const phone_settings& settings = client.server().settings;
  const route where = route_of(asked.path);
  llama_request wanted;
  llama_refusal no;
  const bool generates = where >= route::completion && where != route::count && where != route::embed;
  if (where == route::none) {
    no = {404, "File Not Found"};
  } else if (generates && settings.embedding) {
    no = {501, "This server does not support completions. Start it without `--embeddings` or `--reranking`"};
  } else if (where == route::chat || where == route::render) {
    no = read_chat(asked.seen.body, settings.continues, wanted);
  } else if (where == route::messages || where == route::count) {
    no = read_anthropic(asked.seen.body, settings.continues, wanted);
  } else if (generates) {
    no = read_completion(asked.seen.body, where == route::openai_text, wanted);
  }
  if (no) {
    co_await fail(client, no.status, no.text);
  } else if (where == route::tokens || where == route::text) {
    co_await tell(client, where);
  } else if (where == route::embed) {
    co_await embed_texts(client);
  } else if (where == route::count) {
    co_await count(client, wanted);
  } else if (where == route::render) {
    std::string body = write_json(ordered{{"prompt", wanted.prompt}});
    co_await client.reply(200, json_type, std::move(body));
  } else {
    co_await complete(client, std::move(wanted), where);
  }
}

// Takes no slot, but faults may hit it.
asio::awaitable<void> llama_engine::count(connection& client, const llama_request& asked) {
  phone::server& server = client.server();
  const fault shown = server.take_fault();
  ++server.counters.requests;
  if (co_await fault_answers(client, shown)) {
    ++(shown.kind == fault_kind::none ? server.counters.cancelled : server.counters.failed);
    co_return;
  }
  ++server.counters.completed;
  std::string body = write_json(ordered{{"input_tokens", asked.ids.size()}});
  co_await client.reply(200, json_type, std::move(body));
}

asio::awaitable<void> llama_engine::embed_texts(connection& client) {
  phone::server& server = client.server();
  constexpr std::size_t batch = 512;  // -ub
  llama_texts texts;
  llama_refusal no;
  if (!server.settings.embedding) {
    no = {501, "This server does not support embeddings. Start it with `--embeddings`"};
  } else {
    no = read_texts(client.asked().seen.body, texts);
  }
  for (const std::string& each : texts.list) {
    if (const std::size_t size = tokenize(each).size(); !no && size > batch)
      no = {500,
            "input (" + std::to_string(size) +
                " tokens) is too large to process. increase the physical batch size (current batch size: " +
                std::to_string(batch) + ")"};
  }
  if (no) {
    co_await fail(client, no.status, no.text);
    co_return;
  }
  job what;
  what.model = server.settings.model;
  const embedded cost = co_await embed(client, what, texts.list);
  if (!cost.done) co_return;
  ordered answer{{"model", server.settings.model}, {"object", "list"}};
  answer["usage"] = ordered{{"prompt_tokens", cost.tokens}, {"total_tokens", cost.tokens}};
  answer["data"] = ordered::array();
  for (std::size_t i = 0; i < texts.list.size(); ++i) {
    ordered one;
    const std::vector<double> values = vector_of(texts.list[i]);
    one["embedding"] = texts.base64 ? ordered(base64_of(values)) : ordered(values);
    one["index"] = i;
    one["object"] = "embedding";
    if (texts.base64) one["encoding_format"] = "base64";
    answer["data"].push_back(std::move(one));
  }
  ++server.counters.completed;
  std::string body = write_json(answer);
  co_await client.reply(200, json_type, std::move(body));
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

asio::awaitable<void> llama_engine::complete(connection& client, llama_request asked, route where) {
  const phone_settings& settings = client.server().settings;
  const std::size_t tokens = asked.ids.size();
  if (tokens >= settings.context) {
    client.close_after_answer();
    std::string body = too_long(tokens, settings.context);
    co_await client.reply(400, json_type, std::move(body));
    co_return;
  }
  const bool templated = where == route::chat || where == route::messages;
  job what;
  what.model = settings.model;
  what.prompt_tokens = tokens;
  if (asked.cache_prompt) what.prompt = asked.ids;
  what.from = asked.from;
  if (asked.limit >= 0) what.limit = static_cast<std::uint64_t>(std::max<std::int64_t>(asked.limit, 1));
  what.room = settings.context - tokens;
  what.stops = asked.stops;
  what.script = asked.script;
  what.logprobs = asked.logprobs.has_value();
  what.stream = asked.stream;
  if (templated && settings.thinking && asked.thinks) what.reasoning = settings.reasoning_tokens;
  if (templated && settings.echoes_prefill && !asked.told_to_continue) what.echo = asked.prefill;
  if (asked.stream) client.close_after_stream();
  co_await speak(client, std::move(what), asked, where);
}

asio::awaitable<void> llama_engine::speak(connection& client, job what, const llama_request& asked,
                                          route where) {
  const std::string& model = client.server().settings.model;
  const std::uint64_t number = ++client.server().answers;
  const called_tool tool{what.script.tool, "call_" + std::to_string(number)};
  if (where == route::chat) {
    chat_voice::wishes wishes{
        model,          chat_id(number),     asked.prefill,         tool,
        asked.logprobs, asked.include_usage, asked.return_progress, asked.timings_per_token};
    chat_voice speaker(std::move(wishes));
    co_await generate(client, std::move(what), speaker);
  } else if (where == route::messages) {
    messages_voice::wishes wishes{model, chat_id(number), asked.prefill, tool};
    messages_voice speaker(std::move(wishes));
    co_await generate(client, std::move(what), speaker);
  } else if (where == route::openai_text) {
    text_voice::wishes wishes{model, chat_id(number), asked.logprobs, asked.return_progress,
                              asked.timings_per_token};
    text_voice speaker(std::move(wishes));
    co_await generate(client, std::move(what), speaker);
  } else {
    completion_voice::wishes wishes{model,
                                    asked.prompt,
                                    asked.limit,
                                    asked.stops,
                                    asked.return_tokens,
                                    asked.return_progress,
                                    asked.timings_per_token};
    completion_voice speaker(std::move(wishes));
    co_await generate(client, std::move(what), speaker);
  }
}

}  // namespace

std::unique_ptr<engine> make_llama_server() {
  return std::make_unique<llama_engine>();
}

}  // namespace pocketfleet::sim
