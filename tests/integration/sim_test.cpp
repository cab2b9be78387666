// Simulated phones as a client sees them on the wire.
#include <gtest/gtest.h>

#include <boost/asio.hpp>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "pocketfleet/sim/fleet.hpp"

namespace pocketfleet::sim {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using json = nlohmann::json;

constexpr auto patience = std::chrono::seconds(5);

enum class ending { whole, reset, closed, open };

struct answer {
  unsigned status = 0;
  std::map<std::string, std::string> headers;
  std::vector<std::string> chunks;
  std::string body;
  ending end = ending::open;

  std::vector<json> lines() const {  // NDJSON
    std::vector<json> result;
    for (std::size_t at = 0; at < body.size();) {
      const std::size_t end_of_line = std::min(body.find('\n', at), body.size());
      result.push_back(json::parse(body.substr(at, end_of_line - at), nullptr, false));
      at = end_of_line + 1;
    }
    return result;
  }
  std::vector<std::string> events() const {  // data of SSE, comments as ":"
    std::vector<std::string> result;
    for (std::size_t at = 0; at < body.size();) {
      const std::size_t blank = std::min(body.find("\n\n", at), body.size());
      const std::string event = body.substr(at, blank - at);
      result.push_back(event.rfind("data: ", 0) == 0 ? event.substr(6) : event);
      at = blank + 2;
    }
    return result;
  }
  json object() const { return json::parse(body, nullptr, false); }
};

// A blocking HTTP client that shows how a response ended.
class client {
 public:
  explicit client(std::uint16_t port) : socket_(context_) {
    socket_.connect({asio::ip::make_address("127.0.0.1"), port}, failed_);
  }
  bool connected() const { return !failed_; }

  client& raw(const std::string& bytes) {
    asio::write(socket_, asio::buffer(bytes), failed_);
    return *this;
  }
  client& send(const std::string& method, const std::string& target, const std::string& body = {},
               const std::string& headers = {}) {
    return raw(method + ' ' + target + " HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: " +
               std::to_string(body.size()) + "\r\n" + headers + "\r\n" + body);
  }
  client& post(const std::string& target, const json& body) { return send("POST", target, body.dump()); }

  // Reads a response; with `chunks`, only so many chunks of it.
  answer read(std::size_t chunks = SIZE_MAX, bool head = false) {
    answer result;
    while (text_.find("\r\n\r\n") == std::string::npos)
      if (!more(result)) return result;
    const std::size_t blank = text_.find("\r\n\r\n");
    parse_header(text_.substr(0, blank), result);
    text_.erase(0, blank + 4);
    if (head) {
      result.end = ending::whole;
    } else if (result.headers.count("transfer-encoding") != 0) {
      read_on(result, chunks);
    } else if (result.headers.count("content-length") != 0) {
      const std::size_t size = std::stoul(result.headers["content-length"]);
      while (text_.size() < size && more(result)) {
      }
      result.body = text_.substr(0, size);
      text_.erase(0, size);
      if (result.body.size() == size) result.end = ending::whole;
    } else {
      while (more(result)) {
      }
      result.body = std::exchange(text_, {});
    }
    return result;
  }
  // Goes on with a chunked response.
  void read_on(answer& result, std::size_t chunks = SIZE_MAX) {
    while (result.chunks.size() < chunks) {
      std::size_t line = 0;
      while ((line = text_.find("\r\n")) == std::string::npos)
        if (!more(result)) return;
      const std::size_t size = std::stoul(text_.substr(0, line), nullptr, 16);
      while (text_.size() < line + 2 + size + 2)
        if (!more(result)) return;
      if (size == 0) {
        result.end = ending::whole;
        text_.erase(0, line + 4);
        return;
      }
      result.chunks.push_back(text_.substr(line + 2, size));
      result.body += result.chunks.back();
      text_.erase(0, line + 2 + size + 2);
    }
  }
  answer get(const std::string& target) { return send("GET", target).read(); }
  answer ask(const std::string& target, const json& body) { return post(target, body).read(); }

  void half_close() { socket_.shutdown(tcp::socket::shutdown_send, failed_); }
  // What the server does within the time when nothing is sent.
  ending silence(std::chrono::milliseconds time) {
    answer nothing;
    while (more(nothing, time)) {
    }
    return nothing.end;
  }

 private:
  bool more(answer& into, std::chrono::steady_clock::duration time = patience) {
    char bytes[65536];
    std::size_t got = 0;
    failed_ = asio::error::would_block;
    context_.restart();
    socket_.async_read_some(asio::buffer(bytes), [&](error_code failed, std::size_t size) {
      failed_ = failed;
      got = size;
    });
    context_.run_for(time);
    if (failed_ == asio::error::would_block) {
      socket_.cancel();
      context_.restart();
      context_.run();
      into.end = ending::open;
      return false;
    }
    if (failed_) into.end = failed_ == asio::error::eof ? ending::closed : ending::reset;
    text_.append(bytes, got);
    return !failed_;
  }
  static void parse_header(const std::string& text, answer& into) {
    into.status = static_cast<unsigned>(std::stoul(text.substr(9, 3)));
    std::size_t at = text.find("\r\n");
    while (at != std::string::npos) {
      const std::size_t begin = at + 2;
      at = text.find("\r\n", begin);
      const std::string line = text.substr(begin, at == std::string::npos ? at : at - begin);
      const std::size_t colon = line.find(':');
      std::string name = line.substr(0, colon);
      for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      const std::size_t value = line.find_first_not_of(' ', colon + 1);
      into.headers[name] = value == std::string::npos ? std::string() : line.substr(value);
    }
  }

  asio::io_context context_;
  tcp::socket socket_;
  error_code failed_;
  std::string text_;
};

phone_settings fast(engine_kind engine) {
  phone_settings settings;
  settings.engine = engine;
  settings.prefill_rate = 1e6;
  settings.decode_rate = 1e6;
  return settings;
}

std::string count(std::uint64_t first, std::uint64_t last) {
  std::string text;
  for (std::uint64_t i = first; i <= last; ++i) text += ' ' + std::to_string(i);
  return text;
}

json chat_body(const std::string& prefill = {}) {
  json messages = json::array({json{{"role", "user"}, {"content", "count"}}});
  if (!prefill.empty()) messages.push_back(json{{"role", "assistant"}, {"content", prefill}});
  return json{{"model", "qwen2.5:1.5b"}, {"messages", messages}};
}

json ollama_chat(unsigned tokens, bool stream = true, const std::string& prefill = {}) {
  json body = chat_body(prefill);
  body["stream"] = stream;
  if (tokens != 0) body["options"]["num_predict"] = tokens;
  return body;
}

json llama_chat(unsigned tokens, bool stream = true, const std::string& prefill = {}) {
  json body = chat_body(prefill);
  body["stream"] = stream;
  if (tokens != 0) body["max_tokens"] = tokens;
  return body;
}

std::string ollama_text(const answer& from) {
  std::string text;
  for (const json& line : from.lines())
    if (line.contains("message")) text += line["message"]["content"].get<std::string>();
  return text;
}

std::string llama_text(const answer& from) {
  std::string text;
  for (const std::string& event : from.events()) {
    const json data = json::parse(event, nullptr, false);
    if (!data.is_object() || !data.contains("choices") || data["choices"].empty()) continue;
    const json& delta = data["choices"][0]["delta"];
    if (delta.contains("content") && delta["content"].is_string())
      text += delta["content"].get<std::string>();
  }
  return text;
}

class sim_phone : public testing::Test {
 protected:
  void run(phone_settings settings) {
    phones_ = std::make_unique<fleet>(std::vector<phone_settings>{std::move(settings)});
    phones_->start();
  }
  std::uint16_t port() const { return phones_->port(0); }
  phone_state state() const { return phones_->state(0); }
  // Waits until the phone's state is as wanted.
  bool becomes(const std::function<bool(const phone_state&)>& wanted) const {
    const auto end = std::chrono::steady_clock::now() + patience;
    while (std::chrono::steady_clock::now() < end) {
      if (wanted(state())) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }
  void set(fault_kind kind, unsigned after = 0, unsigned times = 1,
           milliseconds clears_after = milliseconds(0)) {
    fault what;
    what.kind = kind;
    what.after_tokens = after;
    what.times = times;
    what.clears_after = clears_after;
    phones_->set(0, what);
  }
  answer get(const std::string& target) { return client(port()).get(target); }
  answer ask(const std::string& target, const json& body) { return client(port()).ask(target, body); }

  std::unique_ptr<fleet> phones_;
};

class sim_ollama : public sim_phone {
 protected:
  void SetUp() override { run(fast(engine_kind::ollama)); }
};

class sim_llama : public sim_phone {
 protected:
  void SetUp() override { run(fast(engine_kind::llama_server)); }
};

// --- Ollama ---

TEST_F(sim_ollama, tells_what_it_is_and_has) {
  client one(port());  // all on one connection
  EXPECT_EQ(one.get("/").body, "Ollama is running");
  EXPECT_EQ(one.send("HEAD", "/").read(0, true).status, 200U);
  EXPECT_EQ(one.get("/api/version").object()["version"], "0.33.0");
  const json tags = one.get("/api/tags").object();
  ASSERT_EQ(tags["models"].size(), 1U);
  EXPECT_EQ(tags["models"][0]["name"], "qwen2.5:1.5b");
  EXPECT_EQ(tags["models"][0]["digest"].get<std::string>().size(), 64U);
  EXPECT_EQ(one.get("/api/ps").object(), json::parse(R"({"models":[]})"));
  EXPECT_EQ(one.ask("/api/show", json{{"model", "QWEN2.5:1.5b"}}).object()["capabilities"][0], "completion");
  EXPECT_EQ(one.ask("/api/show", json{{"model", "x"}}).status, 404U);
  EXPECT_EQ(one.get("/nothing").status, 404U);
  EXPECT_EQ(one.get("/api/chat").status, 405U);
  EXPECT_EQ(state().requests, 0U);
}

TEST_F(sim_ollama, streams_a_chat) {
  const answer got = ask("/api/chat", ollama_chat(3));
  EXPECT_EQ(got.status, 200U);
  EXPECT_EQ(got.headers.at("content-type"), "application/x-ndjson");
  EXPECT_EQ(got.end, ending::whole);
  ASSERT_EQ(got.chunks.size(), 4U);
  const json first = json::parse(got.chunks[0]);
  EXPECT_EQ(first["model"], "qwen2.5:1.5b");
  EXPECT_EQ(first["message"], (json{{"role", "assistant"}, {"content", " 1"}}));
  EXPECT_EQ(first["done"], false);
  EXPECT_EQ(first["created_at"].get<std::string>().size(),
            std::string("2026-01-02T03:04:05.678901234Z").size());
  const json last = json::parse(got.chunks[3]);
  EXPECT_EQ(last["message"]["content"], "");
  EXPECT_EQ(last["done"], true);
  EXPECT_EQ(last["done_reason"], "length");
  EXPECT_EQ(last["eval_count"], 3);
  EXPECT_GT(last["prompt_eval_count"], 5);
  EXPECT_GT(last["total_duration"], 0);
  EXPECT_EQ(ollama_text(got), " 1 2 3");
  EXPECT_TRUE(
      becomes([](const phone_state& s) { return s.completed == 1 && s.active == 0 && s.tokens == 3; }));
}

TEST_F(sim_ollama, answers_whole_without_a_stream) {
  const answer got = ask("/api/chat", ollama_chat(0, false));
  EXPECT_EQ(got.headers.at("content-type"), "application/json; charset=utf-8");
  EXPECT_EQ(got.object()["message"]["content"], count(1, 24));
  EXPECT_EQ(got.object()["done_reason"], "stop");
  const answer text =
      ask("/api/generate", json{{"model", "qwen2.5:1.5b"}, {"prompt", "x 9"}, {"stream", false}});
  EXPECT_EQ(text.object()["response"], count(1, 24));
  EXPECT_GT(text.object()["context"].size(), 24U);
}

TEST_F(sim_ollama, goes_on_counting) {
  EXPECT_EQ(ollama_text(ask("/api/chat", ollama_chat(2, true, " 1 2 3"))), " 4 5");
  EXPECT_EQ(ollama_text(ask("/api/chat", ollama_chat(0, true, " 1 2 3"))), count(4, 24));
  const json raw{{"model", "qwen2.5:1.5b"},
                 {"prompt", "a b 41"},
                 {"raw", true},
                 {"stream", false},
                 {"options", {{"num_predict", 2}}}};
  EXPECT_EQ(ask("/api/generate", raw).object()["response"], " 42 43");
  EXPECT_FALSE(ask("/api/generate", raw).object().contains("context"));

  auto closing = fast(engine_kind::ollama);
  closing.continues = false;
  run(closing);
  EXPECT_EQ(ollama_text(ask("/api/chat", ollama_chat(2, true, " 1 2 3"))), " 1 2");
}

TEST_F(sim_ollama, renders_without_running) {
  json body = ollama_chat(0, true, "SENTINEL");
  body["_debug_render_only"] = true;
  const auto text = ask("/api/chat", body).object()["_debug_info"]["rendered_template"].get<std::string>();
  EXPECT_EQ(text, "<|im_start|>user\ncount<|im_end|>\n<|im_start|>assistant\nSENTINEL");
  EXPECT_EQ(state().requests, 0U);
  EXPECT_EQ(state().loaded, "qwen2.5:1.5b");
}

TEST_F(sim_ollama, heeds_stop_strings) {
  json body = ollama_chat(0, false);
  body["options"]["stop"] = json::array({"4 5", "zzz"});
  const json got = ask("/api/chat", body).object();
  EXPECT_EQ(got["message"]["content"], " 1 2 3 ");
  EXPECT_EQ(got["done_reason"], "stop");
  body["options"] = json{{"num_predict", 4}, {"stop", json::array({" 4 5"})}};
  EXPECT_EQ(ask("/api/chat", body).object()["message"]["content"],
            " 1 2 3 4");  // what was held back comes in the end
}

TEST_F(sim_ollama, refuses_as_ollama_does) {
  const auto error = [](const answer& got) {
    return std::to_string(got.status) + ' ' + got.object().value("error", "");
  };
  EXPECT_EQ(error(client(port()).send("POST", "/api/chat").read()), "400 missing request body");
  EXPECT_EQ(client(port()).send("POST", "/api/chat", "{x").read().status, 400U);
  EXPECT_EQ(client(port()).send("POST", "/api/chat", std::string(100000, '[')).read().status, 400U);
  EXPECT_EQ(error(ask("/api/chat", json{{"model", "nope"}})), "404 model 'nope' not found");
  EXPECT_EQ(error(ask("/api/embed", json{{"model", "nope"}, {"input", "x"}})),
            "404 model \"nope\" not found, try pulling it first");
  json body = ollama_chat(0);
  body["options"]["num_predict"] = "128";
  EXPECT_EQ(error(ask("/api/chat", body)), "500 option \"num_predict\" must be of type integer");
  body = ollama_chat(0);
  body["keep_alive"] = "300";
  EXPECT_EQ(error(ask("/api/chat", body)), "400 time: missing unit in duration \"300\"");
  body = ollama_chat(0);
  body["think"] = true;
  EXPECT_EQ(error(ask("/api/chat", body)), "400 \"qwen2.5:1.5b\" does not support thinking");
  body["think"] = false;
  EXPECT_EQ(ask("/api/chat", body).status, 200U);
  const json raw{{"model", "qwen2.5:1.5b"}, {"prompt", "x"}, {"raw", true}, {"system", "s"}};
  EXPECT_EQ(error(ask("/api/generate", raw)), "400 raw mode does not support template, system, or context");
}

TEST_F(sim_ollama, thinks_unless_told_not_to) {
  auto settings = fast(engine_kind::ollama);
  settings.thinking = true;
  run(settings);
  const json got = ask("/api/chat", ollama_chat(0, false)).object();
  EXPECT_EQ(got["message"]["thinking"], " t1 t2 t3 t4");
  EXPECT_EQ(got["message"]["content"], count(1, 24));
  EXPECT_EQ(got["eval_count"], 28);
  json body = ollama_chat(0, false);
  body["think"] = false;
  EXPECT_FALSE(ask("/api/chat", body).object()["message"].contains("thinking"));
}

TEST_F(sim_ollama, embeds_only_when_the_model_can) {
  const json body{{"model", "qwen2.5:1.5b"}, {"input", json::array({"a", "b"})}};
  EXPECT_EQ(ask("/api/embed", body).status, 501U);
  EXPECT_EQ(state().loads, 1U);  // the model was loaded to find that out
  auto settings = fast(engine_kind::ollama);
  settings.embedding = true;
  run(settings);
  const json got = ask("/api/embed", body).object();
  ASSERT_EQ(got["embeddings"].size(), 2U);
  double length = 0;
  for (const auto& each : got["embeddings"][0]) length += each.get<double>() * each.get<double>();
  EXPECT_NEAR(length, 1, 1e-9);
  EXPECT_NE(got["embeddings"][0], got["embeddings"][1]);
  EXPECT_EQ(ask("/api/embed", json{{"model", "qwen2.5:1.5b"}, {"input", ""}}).object()["embeddings"].size(),
            1U);
  EXPECT_EQ(ask("/api/embed", json{{"model", "qwen2.5:1.5b"}}).object()["embeddings"], json::array());
}

TEST_F(sim_ollama, loads_and_unloads) {
  auto settings = fast(engine_kind::ollama);
  settings.load_time = milliseconds(30);
  settings.other_models = {"tiny"};
  run(settings);
  const json load{{"model", "qwen2.5:1.5b"}};
  const answer loaded = ask("/api/generate", load);
  EXPECT_EQ(loaded.headers.at("content-type"), "application/json; charset=utf-8");
  EXPECT_EQ(loaded.object()["done_reason"], "load");
  EXPECT_EQ(loaded.object()["response"], "");
  json ps = get("/api/ps").object();
  ASSERT_EQ(ps["models"].size(), 1U);
  EXPECT_EQ(ps["models"][0]["name"], "qwen2.5:1.5b");
  EXPECT_FALSE(ask("/api/chat", ollama_chat(1, false)).object().contains("load_duration"));
  EXPECT_EQ(state().loads, 1U);

  json other = ollama_chat(1, false);
  other["model"] = "tiny";
  EXPECT_GE(ask("/api/chat", other).object()["load_duration"], 30'000'000);
  EXPECT_EQ(state().loaded, "tiny:latest");
  other["options"]["num_ctx"] = 2048;  // another runner is needed for this
  EXPECT_GE(ask("/api/chat", other).object()["load_duration"], 30'000'000);
  EXPECT_EQ(state().loads, 3U);

  EXPECT_EQ(ask("/api/generate", json{{"model", "tiny"}, {"keep_alive", 0}}).object()["done_reason"],
            "unload");
  EXPECT_EQ(get("/api/ps").object()["models"].size(), 0U);
  json once = ollama_chat(1, false);
  once["keep_alive"] = "20ms";
  EXPECT_EQ(ask("/api/chat", once).status, 200U);
  EXPECT_TRUE(becomes([](const phone_state& s) { return s.loaded.empty(); }));
}

TEST_F(sim_ollama, gives_up_loading_when_the_client_leaves) {
  auto settings = fast(engine_kind::ollama);
  settings.load_time = std::chrono::seconds(60);
  run(settings);
  client waits(port());
  {
    client loads(port());
    loads.post("/api/chat", ollama_chat(1));
    ASSERT_TRUE(becomes([](const phone_state& s) { return s.active == 1; }));
    waits.send("GET", "/api/ps");  // blocks until the load is over
    EXPECT_EQ(waits.silence(milliseconds(20)), ending::open);
  }
  EXPECT_TRUE(
      becomes([](const phone_state& s) { return s.active == 0 && s.cancelled == 1 && s.loads == 0; }));
  EXPECT_EQ(waits.read().object()["models"].size(), 0U);
}

// --- llama-server ---

TEST_F(sim_llama, tells_what_it_is_and_has) {
  client one(port());
  const answer health = one.get("/health");
  EXPECT_EQ(health.body, R"({"status":"ok"})");
  EXPECT_EQ(health.headers.at("server"), "llama.cpp");
  EXPECT_EQ(health.headers.at("keep-alive"), "timeout=5, max=100");
  EXPECT_EQ(one.get("/v1/models").object()["data"][0]["id"], "qwen2.5:1.5b");
  EXPECT_EQ(one.get("/props").object()["total_slots"], 1);
  EXPECT_EQ(one.get("/slots").object()[0]["is_processing"], false);
  EXPECT_NE(one.get("/metrics").body.find("\nllamacpp:requests_processing 0\n"), std::string::npos);
  const json with_pieces =
      one.ask("/tokenize", json{{"content", "h\xc3\xa9 41 42"}, {"with_pieces", true}}).object();
  EXPECT_EQ(with_pieces["tokens"].back()["piece"], " 42");
  const json tokens = one.ask("/tokenize", json{{"content", "hello w\xc3\xa9rld 41 42"}}).object();
  EXPECT_EQ(one.ask("/detokenize", tokens).object()["content"], "hello w\xc3\xa9rld 41 42");
  EXPECT_EQ(one.ask("/apply-template", chat_body(" 1 2")).object()["prompt"],
            "<|im_start|>user\ncount<|im_end|>\n<|im_start|>assistant\n 1 2");
  EXPECT_EQ(one.get("/").object()["error"]["type"], "not_found_error");
  EXPECT_EQ(one.silence(milliseconds(500)), ending::closed);  // as after every error
}

TEST_F(sim_llama, streams_a_chat) {
  json body = llama_chat(2);
  body["stream_options"]["include_usage"] = true;
  client one(port());
  const answer got = one.ask("/v1/chat/completions", body);
  EXPECT_EQ(got.headers.at("content-type"), "text/event-stream");
  EXPECT_EQ(got.end, ending::whole);
  ASSERT_EQ(got.chunks.size(), 4U);  // role and first token, second token, finish and usage, [DONE]
  const auto events = got.events();
  ASSERT_EQ(events.size(), 6U);
  EXPECT_EQ(json::parse(events[0])["choices"],
            json::parse(R"([{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}])"));
  EXPECT_EQ(json::parse(events[1])["choices"],
            json::parse(R"([{"finish_reason":null,"index":0,"delta":{"content":" 1"}}])"));
  EXPECT_EQ(json::parse(events[3])["choices"],
            json::parse(R"([{"finish_reason":"length","index":0,"delta":{}}])"));
  EXPECT_EQ(json::parse(events[4])["choices"], json::array());
  EXPECT_EQ(json::parse(events[4])["usage"]["completion_tokens"], 2);
  EXPECT_EQ(json::parse(events[4])["timings"]["predicted_n"], 2);
  EXPECT_EQ(events[5], "[DONE]");
  EXPECT_EQ(llama_text(got), " 1 2");
  EXPECT_EQ(one.silence(milliseconds(500)), ending::closed);
}

TEST_F(sim_llama, shows_progress_of_prefill) {
  json body = llama_chat(1);
  body["return_progress"] = true;
  body["messages"][0]["content"] = std::string(800, 'x');
  const auto events = ask("/v1/chat/completions", body).events();
  const json first = json::parse(events[0]);
  EXPECT_EQ(first["prompt_progress"]["processed"], 0);
  EXPECT_GT(first["prompt_progress"]["total"], 200);
  EXPECT_GT(json::parse(events[2])["prompt_progress"]["processed"], 0);
}

TEST_F(sim_llama, sends_pings_while_it_says_nothing) {
  auto settings = fast(engine_kind::llama_server);
  settings.decode_rate = 10;
  settings.sse_ping = milliseconds(30);
  run(settings);
  const auto events = ask("/v1/chat/completions", llama_chat(2)).events();
  EXPECT_EQ(events[0][0], '{');  // nothing before the header, which comes with the first token
  EXPECT_GE(std::count(events.begin(), events.end(), ":"), 2);
}

TEST_F(sim_llama, goes_on_counting) {
  EXPECT_EQ(llama_text(ask("/v1/chat/completions", llama_chat(2, true, " 1 2 3"))), " 4 5");
  const json whole = ask("/v1/chat/completions", llama_chat(2, false, " 1 2 3")).object();
  EXPECT_EQ(whole["choices"][0]["message"]["content"], " 1 2 3 4 5");
  EXPECT_EQ(whole["usage"]["completion_tokens"], 2);
  json both = llama_chat(2, true, " 1");
  both["continue_final_message"] = true;
  EXPECT_EQ(ask("/v1/chat/completions", both).status, 400U);
  both["add_generation_prompt"] = false;
  EXPECT_EQ(llama_text(ask("/v1/chat/completions", both)), " 2 3");

  auto echoing = fast(engine_kind::llama_server);
  echoing.echoes_prefill = true;
  run(echoing);
  EXPECT_EQ(llama_text(ask("/v1/chat/completions", llama_chat(2, true, " 1 2 3"))), " 1 2 3 4 5");
  EXPECT_EQ(llama_text(ask("/v1/chat/completions", both)), " 2 3");
}

TEST_F(sim_llama, completes) {
  const json got =
      ask("/completion", json{{"prompt", "hi 4"}, {"n_predict", 3}, {"return_tokens", true}}).object();
  EXPECT_EQ(got["content"], " 5 6 7");
  EXPECT_EQ(got["tokens"].size(), 3U);
  EXPECT_EQ(got["stop_type"], "limit");
  EXPECT_EQ(got["prompt"], "hi 4");
  json prompt = json::array({"hi"});
  for (const json& id : got["tokens"]) prompt.push_back(id);
  const auto events =
      ask("/completion", json{{"prompt", prompt}, {"n_predict", 2}, {"stream", true}}).events();
  ASSERT_EQ(events.size(), 3U);  // no [DONE]
  EXPECT_EQ(json::parse(events[0])["content"], " 8");
  EXPECT_EQ(json::parse(events[0])["stop"], false);
  EXPECT_EQ(json::parse(events[2])["stop"], true);
  EXPECT_EQ(json::parse(events[2])["content"], "");
  const json stopped = ask("/completion", json{{"prompt", "a"}, {"stop", json::array({"3"})}}).object();
  EXPECT_EQ(stopped["content"], " 1 2 ");
  EXPECT_EQ(stopped["stop_type"], "word");
  EXPECT_EQ(stopped["stopping_word"], "3");
  EXPECT_EQ(ask("/completion", json{{"prompt", "a"}}).object()["stop_type"], "eos");
}

TEST_F(sim_llama, refuses_as_llama_server_does) {
  const auto error = [](const answer& got) {
    const json body = got.object();
    EXPECT_EQ(body["error"]["code"], got.status);
    return body["error"]["type"].get<std::string>() + ": " + body["error"]["message"].get<std::string>();
  };
  EXPECT_EQ(error(ask("/v1/chat/completions", json::object())),
            "invalid_request_error: 'messages' is required");
  EXPECT_EQ(error(ask("/api/chat", json::object())), "not_found_error: File Not Found");
  json two = llama_chat(1, true, "a");
  two["messages"].push_back(two["messages"].back());
  EXPECT_EQ(error(ask("/v1/chat/completions", two)),
            "invalid_request_error: Cannot have 2 or more assistant messages at the end of the list.");
  json text = llama_chat(1);
  text["max_tokens"] = "3";
  EXPECT_EQ(ask("/v1/chat/completions", text).status, 400U);
  json longer = llama_chat(1);
  longer["messages"][0]["content"] = std::string(20000, 'x');
  const answer too_long = ask("/v1/chat/completions", longer);
  EXPECT_EQ(error(too_long).find("exceed_context_size_error: request (50"), 0U);
  EXPECT_EQ(too_long.object()["error"]["n_ctx"], 4096);
}

TEST_F(sim_llama, says_that_it_is_loading) {
  auto settings = fast(engine_kind::llama_server);
  settings.load_time = milliseconds(100);
  run(settings);
  const answer got = get("/health");
  EXPECT_EQ(got.status, 503U);
  EXPECT_EQ(got.object(),
            json::parse(R"({"error":{"code":503,"message":"Loading model","type":"unavailable_error"}})"));
  EXPECT_EQ(ask("/v1/chat/completions", llama_chat(1)).status, 503U);
  EXPECT_TRUE(becomes([](const phone_state& s) { return !s.loaded.empty(); }));
  EXPECT_EQ(get("/health").status, 200U);
}

TEST_F(sim_llama, closes_idle_and_long_used_connections) {
  auto settings = fast(engine_kind::llama_server);
  settings.idle_close = milliseconds(50);
  run(settings);
  client one(port());
  EXPECT_EQ(one.get("/health").status, 200U);
  EXPECT_EQ(one.silence(milliseconds(1000)), ending::closed);
  client two(port());
  for (int i = 0; i < 99; ++i) EXPECT_EQ(two.get("/health").headers.count("connection"), 0U);
  EXPECT_EQ(two.get("/health").headers.at("connection"), "close");
  EXPECT_EQ(two.silence(milliseconds(500)), ending::closed);
}

TEST_F(sim_llama, ends_when_the_context_is_full) {
  auto settings = fast(engine_kind::llama_server);
  settings.context = 64;
  run(settings);
  const json got = ask("/completion", json{{"prompt", "a"}, {"n_predict", 1000}}).object();
  EXPECT_EQ(got["tokens_predicted"], 63);
  EXPECT_EQ(got["truncated"], true);
  EXPECT_EQ(got["stop_type"], "limit");
}

// --- both ---

class sim_engine : public sim_phone, public testing::WithParamInterface<engine_kind> {
 protected:
  void SetUp() override { run(fast(GetParam())); }
  bool ollama() const { return GetParam() == engine_kind::ollama; }
  std::string route() const { return ollama() ? "/api/chat" : "/v1/chat/completions"; }
  std::string probe() const { return ollama() ? "/api/version" : "/health"; }
  json body(unsigned tokens, bool stream = true) const {
    return ollama() ? ollama_chat(tokens, stream) : llama_chat(tokens, stream);
  }
  std::string text(const answer& got) const { return ollama() ? ollama_text(got) : llama_text(got); }
  answer chat(unsigned tokens = 5) { return ask(route(), body(tokens)); }
};

INSTANTIATE_TEST_SUITE_P(both, sim_engine, testing::Values(engine_kind::ollama, engine_kind::llama_server),
                         [](const auto& each) {
                           return each.param == engine_kind::ollama ? "ollama" : "llama";
                         });

TEST_P(sim_engine, is_fast_when_told_so) {
  const answer got = chat(3000);
  EXPECT_EQ(text(got), count(1, 3000));
  EXPECT_EQ(got.chunks.size(), ollama() ? 3001U : 3002U);
}

TEST_P(sim_engine, keeps_to_its_rates) {
  auto settings = fast(GetParam());
  settings.prefill_rate = 400;
  settings.decode_rate = 200;
  run(settings);
  json long_prompt = body(10);
  long_prompt["messages"][0]["content"] = std::string(80, 'x');  // with the template some 30 tokens
  const auto begun = std::chrono::steady_clock::now();
  client one(port());
  one.post(route(), long_prompt);
  answer got = one.read(1);
  const auto first = std::chrono::steady_clock::now() - begun;
  one.read_on(got);
  const auto whole = std::chrono::steady_clock::now() - begun;
  EXPECT_GE(first, milliseconds(60));
  EXPECT_GE(whole - first, milliseconds(40));  // nine more tokens of 5 ms
  EXPECT_LT(whole, milliseconds(1000));
}

TEST_P(sim_engine, queues_behind_its_slots) {
  auto settings = fast(GetParam());
  settings.slots = 2;
  settings.decode_rate = 20;
  run(settings);
  std::vector<std::unique_ptr<client>> all;
  for (unsigned i = 0; i < 4; ++i) {
    all.push_back(std::make_unique<client>(port()));
    all.back()->post(route(), body(i < 2 ? 1000 : 1));
    ASSERT_TRUE(becomes([&](const phone_state& s) { return s.active + s.waiting == i + 1; }));
  }
  EXPECT_EQ(state().active, 2U);
  all[3].reset();  // leaves the line
  ASSERT_TRUE(becomes([](const phone_state& s) { return s.waiting == 1 && s.cancelled == 1; }));
  all[0].reset();  // leaves its slot to the next one
  EXPECT_EQ(text(all[2]->read()), " 1");
  all[1]->half_close();  // counts as leaving too
  EXPECT_TRUE(becomes([](const phone_state& s) { return s.active == 0 && s.cancelled == 3; }));
  EXPECT_EQ(state().max_active, 2U);
  EXPECT_EQ(state().completed, 1U);
  EXPECT_EQ(state().requests, 4U);
}

TEST_P(sim_engine, stops_within_milliseconds_when_the_client_leaves) {
  auto settings = fast(GetParam());
  settings.decode_rate = 1;
  run(settings);
  for (const bool stream : {true, false}) {
    auto leaving = std::make_unique<client>(port());
    leaving->post(route(), body(100, stream));
    ASSERT_TRUE(becomes([](const phone_state& s) { return s.active == 1; }));
    const auto begun = std::chrono::steady_clock::now();
    leaving.reset();
    ASSERT_TRUE(becomes([](const phone_state& s) { return s.active == 0; }));
    EXPECT_LT(std::chrono::steady_clock::now() - begun, milliseconds(500));
  }
  EXPECT_EQ(state().cancelled, 2U);
  EXPECT_TRUE(becomes([](const phone_state& s) { return s.connections == 0; }));
}

TEST_P(sim_engine, stops_when_the_client_leaves_without_reading) {
  auto leaving = std::make_unique<client>(port());
  leaving->post(route(), ollama() ? ollama_chat(1'000'000) : llama_chat(1'000'000));
  ASSERT_TRUE(becomes([](const phone_state& s) { return s.tokens > 3000; }));
  leaving.reset();
  EXPECT_TRUE(becomes([](const phone_state& s) { return s.active == 0 && s.connections == 0; }));
}

TEST_P(sim_engine, answers_errors) {
  const auto message = [&](const answer& got) {
    const json error = got.object()["error"];
    return (ollama() ? error : error["message"]).get<std::string>();
  };
  set(fault_kind::error_500);
  EXPECT_EQ(get(probe()).status, 200U);  // probes are not hit, nor do they use it up
  EXPECT_EQ(chat().status, 500U);
  EXPECT_EQ(chat().status, 200U);
  set(fault_kind::busy_503);
  const answer busy = chat();
  EXPECT_EQ(busy.status, 503U);
  if (ollama()) {
    EXPECT_EQ(message(busy), "server busy, please try again.  maximum pending requests exceeded");
  }
  set(fault_kind::loading_503);
  EXPECT_NE(message(chat()).find("oading model"), std::string::npos);
  set(fault_kind::html);
  EXPECT_EQ(chat().headers.at("content-type"), "text/html; charset=utf-8");
  set(fault_kind::error_in_stream, 0);
  EXPECT_EQ(chat().status, 500U);
  EXPECT_EQ(state().failed, 5U);
}

TEST_P(sim_engine, breaks_streams) {
  set(fault_kind::reset_after, 0);
  answer got = chat();
  EXPECT_EQ(got.status, 0U);
  EXPECT_EQ(got.end, ending::reset);
  set(fault_kind::reset_after, 3);
  got = chat();
  EXPECT_EQ(text(got), " 1 2 3");
  EXPECT_EQ(got.end, ending::reset);
  set(fault_kind::reset_after, 1000);  // a shorter answer is hit at its end
  got = chat();
  EXPECT_EQ(text(got), count(1, 5));
  EXPECT_EQ(got.end, ending::reset);
  set(fault_kind::close_after, 0);
  EXPECT_EQ(chat().end, ending::closed);
  set(fault_kind::close_after, 2);
  got = chat();
  EXPECT_EQ(text(got), " 1 2");
  EXPECT_EQ(got.end, ending::closed);
  set(fault_kind::truncated, 2);
  got = chat();
  EXPECT_EQ(text(got), " 1 2");
  EXPECT_EQ(got.end, ending::closed);
  set(fault_kind::end_without_done, 2);
  got = chat();
  EXPECT_EQ(text(got), " 1 2");
  EXPECT_EQ(got.end, ending::whole);
  EXPECT_EQ(got.body.find(ollama() ? "\"done\":true" : "[DONE]"), std::string::npos);
  set(fault_kind::error_in_stream, 2);
  got = chat();
  EXPECT_EQ(got.end, ending::whole);
  EXPECT_EQ(text(got), " 1 2");
  EXPECT_NE(got.chunks.back().find("{\"error\":"), std::string::npos);
  set(fault_kind::garbage, 2);
  got = chat();
  EXPECT_EQ(text(got), count(1, 5));
  EXPECT_NE(got.body.find("}{"), std::string::npos);
  set(fault_kind::huge_line, 2);
  got = chat();
  EXPECT_GT(got.body.size(), 2'000'000U);
  EXPECT_EQ(text(got), count(1, 5));
  EXPECT_EQ(text(chat()), count(1, 5));  // each of them once
  EXPECT_TRUE(
      becomes([](const phone_state& s) { return s.active == 0 && s.requests == s.completed + s.failed; }));
}

TEST_P(sim_engine, breaks_whole_answers) {
  for (const fault_kind kind : {fault_kind::reset_after, fault_kind::close_after, fault_kind::truncated}) {
    set(kind, 2);
    EXPECT_NE(ask(route(), body(5, false)).end, ending::whole) << to_string(kind);
  }
  set(fault_kind::error_in_stream, 2);
  EXPECT_EQ(ask(route(), body(5, false)).status, 500U);
  set(fault_kind::end_without_done, 2);
  const answer got = ask(route(), body(5, false));
  EXPECT_NE(got.body.find("\" 1 2\""), std::string::npos);
  if (ollama()) {
    EXPECT_EQ(got.object()["done"], false);
  }
}

TEST_P(sim_engine, falls_silent) {
  set(fault_kind::silent_after, 2);
  auto one = std::make_unique<client>(port());
  one->post(route(), body(5));
  answer got = one->read(2);
  EXPECT_EQ(text(got), " 1 2");
  EXPECT_EQ(one->silence(milliseconds(30)), ending::open);
  EXPECT_EQ(state().active, 1U);  // the slot stays taken
  EXPECT_EQ(get(probe()).status, 200U);
  one.reset();
  EXPECT_TRUE(becomes([](const phone_state& s) { return s.active == 0 && s.failed == 1; }));
}

TEST_P(sim_engine, hangs_and_comes_back) {
  set(fault_kind::hang, 0, 0);
  client probing(port());
  client asking(port());
  probing.send("GET", probe());
  asking.post(route(), body(3));
  EXPECT_EQ(probing.silence(milliseconds(20)), ending::open);
  EXPECT_EQ(asking.silence(milliseconds(1)), ending::open);
  EXPECT_EQ(get("/sim/state").object()["fault"], "hang");
  EXPECT_EQ(client(port()).send("DELETE", "/sim/fault").read().status, 200U);
  EXPECT_EQ(probing.read().status, 200U);
  EXPECT_EQ(text(asking.read()), " 1 2 3");  // nothing was lost
  set(fault_kind::hang, 0, 1, milliseconds(50));
  client once(port());
  once.post(route(), body(3));
  ASSERT_TRUE(becomes([](const phone_state& s) { return s.requests == 2; }));
  EXPECT_EQ(get(probe()).status, 200U);
  EXPECT_EQ(text(once.read()), " 1 2 3");
}

TEST_P(sim_engine, refuses_connections_for_a_while) {
  client idle(port());
  EXPECT_EQ(idle.get(probe()).status, 200U);
  EXPECT_EQ(client(port()).ask("/sim/fault", json{{"kind", "refuse"}}).status,
            400U);  // nobody could clear it
  EXPECT_EQ(client(port()).ask("/sim/fault", json{{"kind", "refuse"}, {"duration_ms", 60}}).status, 200U);
  EXPECT_FALSE(client(port()).connected());
  EXPECT_EQ(idle.silence(milliseconds(500)), ending::closed);
  EXPECT_TRUE(becomes([](const phone_state& s) { return s.fault_now == fault_kind::none; }));
  EXPECT_EQ(text(chat()), count(1, 5));
}

TEST_P(sim_engine, crashes_and_starts_again) {
  auto settings = fast(GetParam());
  settings.decode_rate = 20;
  run(settings);
  client one(port());
  one.post(route(), body(1000));
  answer got = one.read(1);
  set(fault_kind::crash, 0, 0);
  one.read_on(got);
  EXPECT_EQ(got.end, ending::reset);
  EXPECT_FALSE(client(port()).connected());
  phones_->clear_fault(0);
  EXPECT_EQ(text(ask(route(), body(1))), " 1");
  const std::uint16_t before = port();
  phones_->stop_phone(0);
  EXPECT_FALSE(client(before).connected());
  phones_->start_phone(0);
  EXPECT_EQ(port(), before);
  EXPECT_EQ(text(ask(route(), body(1))), " 1");
}

TEST_P(sim_engine, slows_down_on_command) {
  auto settings = fast(GetParam());
  settings.decode_rate = 500;
  run(settings);
  fault slow;
  slow.kind = fault_kind::slow;
  slow.factor = 0.1;
  slow.times = 1;
  phones_->set(0, slow);
  const auto begun = std::chrono::steady_clock::now();
  EXPECT_EQ(text(chat(5)), count(1, 5));
  EXPECT_GE(std::chrono::steady_clock::now() - begun, milliseconds(90));  // 20 ms a token
}

TEST_P(sim_engine, is_steered_over_http) {
  client one(port());
  const json fault_body{{"kind", "reset_after"}, {"after_tokens", 3}, {"times", 1}};
  EXPECT_EQ(one.ask("/sim/fault", fault_body).object()["fault"], "reset_after");
  EXPECT_EQ(one.get("/sim/state").object()["fault"], "reset_after");
  EXPECT_EQ(text(chat()), " 1 2 3");
  const json state_now = one.get("/sim/state").object();
  EXPECT_EQ(state_now["fault"], "none");
  EXPECT_EQ(state_now["requests"], 1);
  EXPECT_EQ(state_now["failed"], 1);
  EXPECT_EQ(state_now["tokens"], 3);
  EXPECT_EQ(one.get("/sim/last").object()["target"], route());
  EXPECT_EQ(json::parse(one.get("/sim/last").object()["body"].get<std::string>()), body(5));
  for (const char* wrong : {"{}", "x", R"({"kind":"none","times":-1})", R"({"kind":"slow","factor":0})", ""})
    EXPECT_EQ(one.send("POST", "/sim/fault", wrong).read().status, 400U) << wrong;
  EXPECT_EQ(one.get("/sim/nothing").status, 404U);
}

TEST_P(sim_engine, gets_hot_and_cools_down) {
  auto settings = fast(GetParam());
  settings.decode_rate = 500;
  settings.slowest = 0.25;
  settings.heats_in = milliseconds(60);
  settings.cools_in = milliseconds(60);
  run(settings);
  EXPECT_EQ(state().speed_share, 1);
  client one(port());
  one.post(route(), body(1000));
  ASSERT_TRUE(becomes([](const phone_state& s) { return s.speed_share == 0.25; }));
  const std::uint64_t hot = state().tokens;
  const auto begun = std::chrono::steady_clock::now();
  ASSERT_TRUE(becomes([&](const phone_state& s) { return s.tokens >= hot + 20; }));
  EXPECT_GE(std::chrono::steady_clock::now() - begun, milliseconds(120));  // 8 ms each; 2 ms when cold
  one.half_close();
  EXPECT_TRUE(becomes([](const phone_state& s) { return s.speed_share == 1 && s.temperature_share == 0; }));
}

TEST_P(sim_engine, survives_malformed_input) {
  EXPECT_EQ(client(port()).raw("GARBAGE\r\n\r\n").read().status, 400U);
  EXPECT_EQ(
      client(port()).raw("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n").read().status,
      400U);
  const std::string chunked = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  EXPECT_EQ(client(port()).raw(chunked + "zz\r\n").read().status, 400U);
  client trailer(port());
  trailer.raw(chunked + "0\r\nX: " + std::string(100'000, 'x') + "\r\n\r\n");
  EXPECT_NE(trailer.read().status, 200U);
  client header(port());
  header.raw("GET / HTTP/1.1\r\nX: " + std::string(100'000, 'x') + "\r\n\r\n");
  EXPECT_NE(header.read().status, 200U);
  client two_lengths(port());
  two_lengths.raw("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx");
  EXPECT_EQ(two_lengths.read().status, 400U);
  client half(port());
  half.raw("POST " + route() + " HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{");
  half.half_close();
  EXPECT_NE(half.read().end, ending::whole);
  for (const char* body :
       {"null", "[]", "1", "\"x\"", "{\"messages\":[1]}", "{\"model\":\"qwen2.5:1.5b\",\"messages\":[[]]}",
        "{\"model\":[],\"options\":1}", "{\"prompt\":{}}", "\xff\xfe"}) {
    for (const char* path :
         {"/api/chat", "/api/generate", "/api/embed", "/api/show", "/completion", "/tokenize",
          "/v1/chat/completions", "/apply-template", "/detokenize", "/sim/fault"}) {
      EXPECT_NE(client(port()).send("POST", path, body).read().status, 0U) << path << ' ' << body;
    }
  }
  EXPECT_EQ(text(chat()), count(1, 5));
}

TEST_P(sim_engine, takes_bodies_as_clients_send_them) {
  const std::string text_body = body(2).dump();
  char size[20];
  std::snprintf(size, sizeof size, "%zx", text_body.size());
  const std::string head = "POST " + route() + " HTTP/1.1\r\nHost: a\r\n";
  client chunked(port());
  chunked.raw(head + "Transfer-Encoding: chunked\r\n\r\n" + size + "\r\n" + text_body + "\r\n0\r\n\r\n");
  EXPECT_EQ(text(chunked.read()), " 1 2");
  client expecting(port());
  expecting.raw(head + "Expect: 100-continue\r\nContent-Length: " + std::to_string(text_body.size()) +
                "\r\n\r\n");
  EXPECT_EQ(expecting.read(0, true).status, 100U);
  EXPECT_EQ(text(expecting.raw(text_body).read()), " 1 2");
  if (ollama()) {
    client pipelined(port());
    pipelined.send("POST", route(), text_body);
    pipelined.send("POST", route(), text_body);
    EXPECT_EQ(text(pipelined.read()), " 1 2");
    EXPECT_EQ(text(pipelined.read()), " 1 2");
  }
}

// --- on the caller's own loop ---

TEST(sim_loop, phone_runs_on_the_given_context) {
  asio::io_context context(1);
  phone one(context, fast(engine_kind::ollama));
  one.start();
  const phone_config config = one.config();
  EXPECT_EQ(config.port, one.port());
  EXPECT_EQ(config.name, "127.0.0.1:" + std::to_string(one.port()));
  EXPECT_EQ(config.engine, engine_kind::ollama);
  tcp::socket socket(context);
  socket.connect({asio::ip::make_address("127.0.0.1"), one.port()});
  asio::write(socket, asio::buffer(std::string("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")));
  std::string got;
  bool over = false;
  asio::async_read(socket, asio::dynamic_buffer(got), [&](error_code, std::size_t) { over = true; });
  while (!over && context.run_one_for(patience) != 0) {
  }
  EXPECT_NE(got.find("Ollama is running"), std::string::npos) << got;
  one.stop();
  EXPECT_NO_THROW(context.run());  // nothing is left in it
}

TEST(sim_loop, context_may_end_in_the_middle_of_everything) {
  auto context = std::make_unique<asio::io_context>(1);
  auto settings = fast(engine_kind::ollama);
  settings.decode_rate = 10;
  auto one = std::make_unique<phone>(*context, settings);
  one->start();
  std::vector<tcp::socket> sockets;
  const std::string body = ollama_chat(100).dump();
  for (int i = 0; i < 3; ++i) {  // one runs, two wait
    sockets.emplace_back(*context);
    sockets.back().connect({asio::ip::make_address("127.0.0.1"), one->port()});
    asio::write(sockets.back(), asio::buffer("POST /api/chat HTTP/1.1\r\nHost: a\r\nContent-Length: " +
                                             std::to_string(body.size()) + "\r\n\r\n" + body));
  }
  while (one->state().waiting < 2) context->run_one_for(patience);
  sockets.clear();
  one.reset();
  context.reset();
}

TEST(sim_loop, bad_settings_are_refused) {
  phone_settings settings = fast(engine_kind::ollama);
  settings.decode_rate = 0;
  fleet phones({settings});
  EXPECT_THROW(phones.start(), std::invalid_argument);
  settings = fast(engine_kind::unknown);
  fleet nothing({settings});
  EXPECT_THROW(nothing.start(), std::invalid_argument);
}

TEST(sim_loop, fleet_restarts_on_the_same_ports) {
  fleet phones({fast(engine_kind::ollama), fast(engine_kind::llama_server)});
  phones.start();
  const auto configs = phones.configs();
  ASSERT_EQ(configs.size(), 2U);
  EXPECT_NE(configs[0].port, configs[1].port);
  client held(configs[0].port);
  held.send("GET", "/api/version").read();
  phones.stop();
  EXPECT_EQ(held.silence(milliseconds(500)), ending::reset);
  phones.start();
  EXPECT_EQ(phones.port(1), configs[1].port);
  EXPECT_EQ(client(configs[1].port).get("/health").status, 200U);
}

}  // namespace
}  // namespace pocketfleet::sim
