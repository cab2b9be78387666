// Simulated Ollama: its routes under /api.
#include <algorithm>
#include <cmath>
#include <ctime>
#include <memory>

#include "engine.hpp"
#include "generate.hpp"
#include "json.hpp"
#include "ollama_request.hpp"
#include "ollama_voice.hpp"

namespace pocketfleet::sim {

namespace asio = boost::asio;

namespace {

constexpr const char* json_type = "application/json; charset=utf-8";
constexpr const char* text_type = "text/plain; charset=utf-8";
constexpr std::string_view version = "0.33.0";

class ollama_engine final : public engine {
 public:
  asio::awaitable<void> answer(connection& client) override;

  bool generates(const request& asked) const override {
    return asked.seen.method == "POST" && (asked.path == "/api/chat" || asked.path == "/api/generate" ||
                                           asked.path == "/api/embed" || asked.path == "/api/embeddings");
  }
  std::string common_headers() const override {
    const std::time_t now = std::time(nullptr);
    std::tm parts{};
    gmtime_r(&now, &parts);
    char text[64];
    return {text, std::strftime(text, sizeof text, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &parts)};
  }
  std::string error_body(unsigned, std::string_view text) const override {
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
  asio::awaitable<void> embed(connection& client, ollama_request asked, bool old_route);
  asio::awaitable<void> load(connection& client, ollama_request asked, ordered start);
  asio::awaitable<void> render(connection& client, ollama_request asked, std::string prompt);
  asio::awaitable<void> processes(connection& client);
  asio::awaitable<void> show(connection& client);
};

bool has_model(const phone_settings& settings, std::string_view name) {
  if (name.empty()) return false;
  const std::string key = model_key(name);
  return key == model_key(settings.model) ||
         std::any_of(settings.other_models.begin(), settings.other_models.end(),
                     [&](const std::string& each) { return model_key(each) == key; });
}

// The same name has the same digest on every phone, as the same model has.
std::string digest(std::string_view name) {
  std::uint64_t hash = 14695981039346656037ULL;
  for (const char c : model_key(name)) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  std::string text;
  for (int i = 0; i < 64; ++i) {
    text += "0123456789abcdef"[hash >> 60];
    hash = hash * 6364136223846793005ULL + 1442695040888963407ULL;
  }
  return text;
}

ordered details() {
  return {{"parent_model", ""},       {"format", "gguf"},
          {"family", "qwen2"},        {"families", ordered::array({"qwen2"})},
          {"parameter_size", "1.5B"}, {"quantization_level", "Q4_K_M"}};
}

ordered capabilities(const phone_settings& settings) {
  ordered list = ordered::array({"completion"});
  if (settings.embedding) list.push_back("embedding");
  if (settings.thinking) list.push_back("thinking");
  return list;
}

std::string tags(const phone_settings& settings) {
  std::vector<std::string> names{settings.model};
  names.insert(names.end(), settings.other_models.begin(), settings.other_models.end());
  ordered list = ordered::array();
  for (const std::string& name : names) {
    list.push_back({{"name", name},
                    {"model", name},
                    {"modified_at", "2026-01-02T03:04:05.678901234Z"},
                    {"size", 986061892},
                    {"digest", digest(name)},
                    {"details", details()},
                    {"capabilities", capabilities(settings)}});
  }
  return write_json(ordered{{"models", list}});
}

std::uint64_t room(const phone_settings& settings) {
  return std::uint64_t{10} * settings.context;
}

asio::awaitable<void> ollama_engine::fail(connection& client, unsigned status, std::string text) const {
  std::string body = error_body(status, text);
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
      std::string body = write_json(ordered{{"version", version}});
      co_await client.reply(200, json_type, std::move(body));
    } else if (path == "/api/tags") {
      std::string body = tags(client.server().settings);
      co_await client.reply(200, json_type, std::move(body));
    } else {
      co_await processes(client);
    }
    co_return;
  }
  if (!is_one_of({"/api/show", "/api/chat", "/api/generate", "/api/embed", "/api/embeddings"})) {
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
  refusal no = read_ollama(asked.seen.body, wanted);
  const bool embeds = path.starts_with("/api/embed");
  if (!no && !has_model(client.server().settings, wanted.model)) {
    no = {404, embeds ? "model \"" + wanted.model + "\" not found, try pulling it first"
                      : "model '" + wanted.model + "' not found"};
  }
  if (!no && wanted.think.value_or(false) && !client.server().settings.thinking)
    no = {400, '"' + wanted.model + "\" does not support thinking"};
  if (const json& tools = member(wanted.body, "tools"); !no && tools.is_array() && !tools.empty())
    no = {400, '"' + wanted.model + "\" does not support tools"};
  if (no) {
    co_await fail(client, no.status, no.text);
  } else if (embeds) {
    co_await embed(client, std::move(wanted), path == "/api/embeddings");
  } else if (path == "/api/chat") {
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
  what.prompt_tokens = std::min<std::size_t>(tokenize(prompt).size(), settings.context);
  what.limit = asked.limit;
  what.room = room(settings);
  what.stops = asked.stops;
  what.stream = asked.stream;
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
  ollama_voice speaker(asked.model, true);
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
  std::uint64_t from = 0;
  if (asked.raw) {
    from = number_at_end(prompt).value_or(0);
  } else {
    std::vector<message> messages;
    if (!system.empty()) messages.push_back({"system", system});
    messages.push_back({"user", prompt});
    prompt = chatml(messages, false, true);
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
  co_await generate(client, std::move(what), speaker);
}

// Eight numbers that depend on the text, with length 1.
std::vector<double> vector_of(std::string_view text) {
  std::vector<double> values(8, 0.0);
  for (const token_id id : tokenize(text)) {
    auto bits = static_cast<std::uint64_t>(id) * 0x9E3779B97F4A7C15ULL;
    for (double& each : values) {
      bits ^= bits >> 29;
      bits *= 0xBF58476D1CE4E5B9ULL;
      each += static_cast<double>(bits >> 40) / static_cast<double>(1U << 24) - 0.5;
    }
  }
  double length = 0;
  for (const double each : values) length += each * each;
  for (double& each : values) each = length > 0 ? each / std::sqrt(length) : 0.35355339059327373;
  return values;
}

asio::awaitable<void> ollama_engine::embed(connection& client, ollama_request asked, bool old_route) {
  phone::server& server = client.server();
  const json& input = member(asked.body, old_route ? "prompt" : "input");
  std::vector<std::string> texts;
  const json inputs = input.is_array() ? input : input.is_null() ? json::array() : json::array({input});
  for (const json& each : inputs) {
    if (!each.is_string()) {
      co_await fail(client, 400, "invalid input type");
      co_return;
    }
    texts.push_back(each.get<std::string>());
  }
  const fault shown = server.take_fault();
  ++server.counters.requests;
  if (co_await fault_answers(client, shown)) {
    ++(shown.kind == fault_kind::none ? server.counters.cancelled : server.counters.failed);
    co_return;
  }
  const time_point begun = clock::now();
  std::string model = model_key(asked.model);
  std::string options = asked.load_options;
  const ticket slot = co_await server.slots.enter(client.waits(), model, options, asked.keep);
  std::size_t tokens = 0;
  for (const std::string& each : texts) tokens += tokenize(each).size();
  const std::chrono::duration<double> time(
      server.settings.embedding && slot ? static_cast<double>(tokens) / server.prefill_rate(begun) : 0.0);
  const time_point end = clock::now() + std::chrono::duration_cast<duration>(time);
  if (!slot || !co_await client.waits().sleep(end)) {
    ++server.counters.cancelled;
    co_return;
  }
  if (!server.settings.embedding) {  // noticed only now, with the model loaded
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
    answer["total_duration"] = nanoseconds(clock::now() - begun).count();
    if (slot.load_time().count() != 0) answer["load_duration"] = slot.load_time().count();
    if (tokens != 0) answer["prompt_eval_count"] = tokens;
  }
  ++server.counters.completed;
  std::string body = write_json(answer);
  co_await client.reply(200, json_type, std::move(body));
}

// Blocks while a model is being read, as since 0.32.4.
asio::awaitable<void> ollama_engine::processes(connection& client) {
  phone::server& server = client.server();
  if (!co_await server.slots.not_loading(client.waits())) co_return;
  const time_point now = clock::now();
  const std::string name = server.slots.loaded(now);
  ordered list = ordered::array();
  if (!name.empty()) {
    const duration left = server.slots.expires_in(now).value_or(std::chrono::hours(24 * 365 * 100));
    list.push_back({{"name", name},
                    {"model", name},
                    {"size", 1200000000},
                    {"digest", digest(name)},
                    {"details", details()},
                    {"expires_at", utc_now(left)},
                    {"size_vram", 0},
                    {"context_length", server.settings.context}});
  }
  std::string body = write_json(ordered{{"models", list}});
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
  ordered answer{{"license", ""}, {"modelfile", "FROM " + name + "\n"}, {"parameters", ""}};
  answer["template"] = "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}";
  answer["details"] = details();
  answer["model_info"] = ordered{{"general.architecture", "qwen2"}, {"qwen2.context_length", 32768}};
  answer["capabilities"] = capabilities(settings);
  answer["modified_at"] = "2026-01-02T03:04:05.678901234Z";
  std::string text = write_json(answer);
  co_await client.reply(200, json_type, std::move(text));
}

}  // namespace

std::unique_ptr<engine> make_ollama() {
  return std::make_unique<ollama_engine>();
}

}  // namespace pocketfleet::sim
