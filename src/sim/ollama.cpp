// Simulated Ollama: its routes under /api, and /v1/messages.
#include <algorithm>
#include <ctime>
#include <memory>

#include "embed.hpp"
#include "engine.hpp"
#include "generate.hpp"
#include "json.hpp"
#include "ollama_messages.hpp"
#include "ollama_pages.hpp"
#include "ollama_request.hpp"
#include "ollama_voice.hpp"

namespace pocketfleet::sim {

namespace asio = boost::asio;

namespace {

constexpr const char* json_type = "application/json; charset=utf-8";
constexpr const char* text_type = "text/plain; charset=utf-8";
constexpr std::string_view version = "0.33.0";
constexpr std::string_view version_without_messages = "0.13.5";
constexpr std::string_view messages_path = "/v1/messages";

class ollama_engine final : public engine {
 public:
  asio::awaitable<void> answer(connection& client) override;

  bool generates(const request& asked) const override {
    return asked.seen.method == "POST" &&
           (asked.path == "/api/chat" || asked.path == "/api/generate" || asked.path == "/api/embed" ||
            asked.path == "/api/embeddings" || asked.path == messages_path);
  }
  std::string common_headers() const override {
    const std::time_t now = std::time(nullptr);
    std::tm parts{};
    gmtime_r(&now, &parts);
    char text[64];
    return {text, std::strftime(text, sizeof text, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &parts)};
  }
  std::string error_body(const request& asked, unsigned status, std::string_view text) const override {
    if (asked.path == messages_path) return ollama_messages_error(status, text, 1);
    return write_json(ordered{{"error", text}});
  }
  std::string bad_request() const override {
    return "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
           "400 Bad Request";
  }
  bool always_chunks() const override { return false; }
  unsigned most_requests() const override { return 0; }
  duration idle_limit(const phone_settings&) const override { return std::chrono::hours(1); }

 private:
  asio::awaitable<void> fail(connection& client, unsigned status, std::string text) const;
  asio::awaitable<void> chat(connection& client, ollama_request asked);
  asio::awaitable<void> generate_text(connection& client, ollama_request asked);
  asio::awaitable<void> embed_texts(connection& client, ollama_request asked, bool old_route);
  asio::awaitable<void> load(connection& client, ollama_request asked, ordered start);
  asio::awaitable<void> render(connection& client, ollama_request asked, std::string prompt);
  asio::awaitable<void> processes(connection& client);
  asio::awaitable<void> show(connection& client);
};

std::uint64_t room(const phone_settings& settings) {
  return std::uint64_t{10} * settings.context;
}

asio::awaitable<void> ollama_engine::fail(connection& client, unsigned status, std::string text) const {
  std::string body = error_body(client.asked(), status, text);
  co_await client.reply(status, json_type, std::move(body));
}

asio::awaitable<void> ollama_engine::answer(connection& client) {
  const request& asked = client.asked();
  const std::string& path = asked.path;
  const auto is_one_of = [&](std::initializer_list<std::string_view> list) {
    return std::find(list.begin(), list.end(), path) != list.end();
  };
  const bool head_too = is_one_of({"/", "/api/version", "/api/tags"});
  if (head_too || path == "/api/ps") {
    if (asked.seen.method != "GET" && !(head_too && asked.seen.method == "HEAD")) {
      co_await client.reply(405, text_type, "405 method not allowed");
    } else if (path == "/") {
      co_await client.reply(200, text_type, "Ollama is running");
    } else if (path == "/api/version") {
      std::string body = write_json(
          ordered{{"version", client.server().settings.messages ? version : version_without_messages}});
      co_await client.reply(200, json_type, std::move(body));
    } else if (path == "/api/tags") {
      std::string body = tags_page(client.server().settings);
      co_await client.reply(200, json_type, std::move(body));
    } else {
      co_await processes(client);
    }
    co_return;
  }
  const bool messages = path == messages_path && client.server().settings.messages;
  if (!messages && !is_one_of({"/api/show", "/api/chat", "/api/generate", "/api/embed", "/api/embeddings"})) {
    co_await client.reply(404, text_type, "404 page not found");
    co_return;
  }
  if (asked.seen.method != "POST") {
    co_await client.reply(405, text_type, "405 method not allowed");
    co_return;
  }
  if (path == "/api/show") {
    co_await show(client);
    co_return;
  }
  ollama_request wanted;
  refusal no = messages ? read_ollama_messages(asked.seen.body, client.server().settings.thinking, wanted)
                        : read_ollama(asked.seen.body, wanted);
  const bool embeds = path.starts_with("/api/embed");
  if (!no && !has_model(client.server().settings, wanted.model)) {
    no = {404, embeds ? "model \"" + wanted.model + "\" not found, try pulling it first"
                      : "model '" + wanted.model + "' not found"};
  }
  if (!no && wanted.think.value_or(false) && !client.server().settings.thinking)
    no = {400, '"' + wanted.model + "\" does not support thinking"};
  const json& tools = member(wanted.body, "tools");
  if (!no && (messages || path == "/api/chat") && !client.server().settings.tools && tools.is_array() &&
      !tools.empty())
    no = {400, '"' + wanted.model + "\" does not support tools"};
  if (no) {
    co_await fail(client, no.status, no.text);
  } else if (embeds) {
    co_await embed_texts(client, std::move(wanted), path == "/api/embeddings");
  } else if (messages || path == "/api/chat") {
    co_await chat(client, std::move(wanted));
  } else {
    co_await generate_text(client, std::move(wanted));
  }
}

// A request that only loads or unloads.
asio::awaitable<void> ollama_engine::load(connection& client, ollama_request asked, ordered start) {
  phone::server& server = client.server();
  const fault shown = server.take_fault();
  ++server.counters.requests;
  if (co_await fault_answers(client, shown)) {
    ++(shown.kind == fault_kind::none ? server.counters.cancelled : server.counters.failed);
    co_return;
  }
  const bool unloads = asked.keep && *asked.keep == nanoseconds(0);
  std::string model = model_key(asked.model);
  if (unloads) {
    if (server.slots.loaded(clock::now()) == model) server.slots.unload();
  } else {
    std::string options = asked.load_options;
    const ticket slot = co_await server.slots.enter(client.waits(), model, options, asked.keep);
    if (!slot) {
      ++server.counters.cancelled;
      co_return;
    }
  }
  start["done"] = true;
  start["done_reason"] = unloads ? "unload" : "load";
  ++server.counters.completed;
  std::string body = write_json(start);
  co_await client.reply(200, json_type, std::move(body));
}

// _debug_render_only: the prompt that the template makes, with the model loaded but not run.
asio::awaitable<void> ollama_engine::render(connection& client, ollama_request asked, std::string prompt) {
  phone::server& server = client.server();
  std::string model = model_key(asked.model);
  std::string options = asked.load_options;
  const ticket slot = co_await server.slots.enter(client.waits(), model, options, asked.keep);
  if (!slot) co_return;
  ordered answer{{"model", asked.model}, {"created_at", utc_now()}};
  answer["_debug_info"]["rendered_template"] = prompt;
  std::string body = write_json(answer);
  co_await client.reply(200, json_type, std::move(body));
}

job make_job(const phone_settings& settings, const ollama_request& asked, std::string_view prompt) {
  job what;
  what.model = model_key(asked.model);
  what.options = asked.load_options;
  what.keep = asked.keep;
  what.prompt = tokenize(prompt);
  what.prompt_tokens = std::min<std::size_t>(what.prompt.size(), settings.context);
  if (what.prompt.size() > settings.context) what.prompt.clear();  // it is cut at its front
  what.limit = asked.limit;
  what.room = room(settings);
  what.stops = asked.stops;
  what.stream = asked.stream;
  what.script = script_for(json(), false, asked.wants_json);
  what.logprobs = asked.logprobs;
  return what;
}

asio::awaitable<void> ollama_engine::chat(connection& client, ollama_request asked) {
  const phone_settings& settings = client.server().settings;
  if (asked.messages.empty()) {
    ordered start{{"model", asked.model}, {"created_at", utc_now()}};
    start["message"] = ordered{{"role", "assistant"}, {"content", ""}};
    co_await load(client, std::move(asked), std::move(start));
    co_return;
  }
  const message& last = asked.messages.back();
  const bool goes_on = settings.continues && last.role == "assistant";
  std::string prompt = chatml(asked.messages, goes_on, true);
  if (asked.render_only) {
    co_await render(client, std::move(asked), std::move(prompt));
    co_return;
  }
  job what = make_job(settings, asked, prompt);
  if (goes_on) what.from = number_at_end(last.content).value_or(0);
  if (settings.thinking && asked.think.value_or(true) && !goes_on) what.reasoning = settings.reasoning_tokens;
  what.script = script_for(member(asked.body, "tools"), last.role == "tool", asked.wants_json);
  const std::uint64_t number = ++client.server().answers;
  if (client.asked().path == messages_path) {
    ollama_messages_voice speaker(asked.model, number);
    if (what.script.calls()) speaker.call(what.script.tool);
    co_await generate(client, std::move(what), speaker);
    co_return;
  }
  ollama_voice speaker(asked.model, true);
  if (what.script.calls()) speaker.call(what.script.tool, number);
  if (asked.logprobs) speaker.tell_logprobs(asked.top_logprobs);
  co_await generate(client, std::move(what), speaker);
}

asio::awaitable<void> ollama_engine::generate_text(connection& client, ollama_request asked) {
  const phone_settings& settings = client.server().settings;
  std::string prompt = text_member(asked.body, "prompt");
  const std::string system = text_member(asked.body, "system");
  if (asked.raw && (!system.empty() || !text_member(asked.body, "template").empty() ||
                    !member(asked.body, "context").is_null())) {
    co_await fail(client, 400, "raw mode does not support template, system, or context");
    co_return;
  }
  if (prompt.empty()) {
    ordered start{{"model", asked.model}, {"created_at", utc_now()}, {"response", ""}};
    co_await load(client, std::move(asked), std::move(start));
    co_return;
  }
  const std::string suffix = text_member(asked.body, "suffix");
  std::uint64_t from = 0;
  if (asked.raw) {
    from = number_at_end(prompt).value_or(0);
  } else if (!suffix.empty()) {
    prompt = "<|fim_prefix|>" + prompt + "<|fim_suffix|>" + suffix + "<|fim_middle|>";
  } else {
    std::vector<message> messages;
    if (!system.empty()) messages.push_back({"system", system});
    messages.push_back({"user", prompt});
    prompt = chatml(messages, false, true);
    std::string before;  // what was said, with the answers
    if (const json& context = member(asked.body, "context"); context.is_array())
      for (const json& id : context) before += id.is_number_integer() ? text_of(id.get<token_id>()) : "";
    prompt.insert(0, before);
  }
  if (asked.render_only) {
    co_await render(client, std::move(asked), std::move(prompt));
    co_return;
  }
  job what = make_job(settings, asked, prompt);
  what.from = from;
  if (settings.thinking && asked.think.value_or(true) && !asked.raw)
    what.reasoning = settings.reasoning_tokens;
  ollama_voice speaker(asked.model, false);
  if (!asked.raw) speaker.give_context(tokenize(prompt));
  if (asked.logprobs) speaker.tell_logprobs(asked.top_logprobs);
  co_await generate(client, std::move(what), speaker);
}

asio::awaitable<void> ollama_engine::embed_texts(connection& client, ollama_request asked, bool old_route) {
  phone::server& server = client.server();
  const json& input = member(asked.body, old_route ? "prompt" : "input");
  const json inputs = input.is_array() ? input : input.is_null() ? json::array() : json::array({input});
  std::vector<std::string> texts;
  refusal no;
  for (const json& each : inputs) {
    if (!each.is_string()) no = {400, "invalid input type"};
    if (no) break;
    texts.push_back(each.get<std::string>());
    if (tokenize(texts.back()).size() > server.settings.context && !bool_member(asked.body, "truncate", true))
      no = {400, "the input length exceeds the context length"};
  }
  if (no) {
    co_await fail(client, no.status, no.text);
    co_return;
  }
  job what;
  what.model = model_key(asked.model);
  what.options = asked.load_options;
  what.keep = asked.keep;
  const embedded cost = co_await embed(client, what, texts);
  if (!cost.done) co_return;
  if (!server.settings.embedding) {
    ++server.counters.failed;
    co_await fail(client, 501, "This server does not support embeddings. Start it with --embeddings");
    co_return;
  }
  ordered answer;
  if (old_route) {
    answer["embedding"] = texts.empty() || texts[0].empty() ? std::vector<double>() : vector_of(texts[0]);
  } else {
    answer["model"] = asked.model;
    answer["embeddings"] = ordered::array();
    for (const std::string& each : texts) answer["embeddings"].push_back(vector_of(each));
    answer["total_duration"] = cost.total.count();
    if (cost.load.count() != 0) answer["load_duration"] = cost.load.count();
    if (cost.tokens != 0) answer["prompt_eval_count"] = cost.tokens;
  }
  ++server.counters.completed;
  std::string body = write_json(answer);
  co_await client.reply(200, json_type, std::move(body));
}

// Blocks while a model is being read, as since 0.32.4.
asio::awaitable<void> ollama_engine::processes(connection& client) {
  if (!co_await client.server().slots.not_loading(client.waits())) co_return;
  std::string body = processes_page(client.server());
  co_await client.reply(200, json_type, std::move(body));
}

asio::awaitable<void> ollama_engine::show(connection& client) {
  const phone_settings& settings = client.server().settings;
  const auto body = read_json(client.asked().seen.body);
  if (client.asked().seen.body.empty() || !body || !body->is_object()) {
    co_await fail(client, 400,
                  client.asked().seen.body.empty() ? "missing request body" : "invalid character");
    co_return;
  }
  std::string name = text_member(*body, "model");
  if (name.empty()) name = text_member(*body, "name");
  if (!has_model(settings, name)) {
    co_await fail(client, 404, "model '" + name + "' not found");
    co_return;
  }
  std::string text = show_page(settings, name);
  co_await client.reply(200, json_type, std::move(text));
}

}  // namespace

std::unique_ptr<engine> make_ollama() {
  return std::make_unique<ollama_engine>();
}

}  // namespace pocketfleet::sim
