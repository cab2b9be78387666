// A client's JSON, from the body of /ask and /ask_batch to what goes to a phone.
#include "fuzz.hpp"
#include "pocketfleet/engines/codec.hpp"
#include "pocketfleet/wire/ask.hpp"
#include "pocketfleet/wire/cache_key.hpp"
#include "pocketfleet/wire/dialects.hpp"

namespace pocketfleet::fuzz {
namespace {

constexpr std::size_t most_items = 64;

void check_error(const error& why) {
  must(why.code == errc::bad_request, "a mistake in a body that is not the client's");
  must(!why.message.empty() && why.message.size() < 512, "a message of an odd length");
  const auto plain = [](char c) { return c >= 0x20 && c < 0x7f; };
  must(std::all_of(why.message.begin(), why.message.end(), plain), "a message that repeats the text");
}

std::size_t depth(const json& value) {
  if (!value.is_structured()) return 0;
  std::size_t deepest = 0;
  for (const auto& member : value) deepest = std::max(deepest, depth(member));
  return 1 + deepest;
}

bool same(const question& a, const question& b) {
  return a.model == b.model && a.messages == b.messages && a.options == b.options && a.format == b.format &&
         a.think == b.think && a.keep_alive == b.keep_alive && a.has_images == b.has_images;
}

void check_encoded(const question& q, engine_kind kind) {
  const engine& codec = engine_of(kind);
  if (codec.cannot(q)) return;
  const phone_request request = codec.encode(q, "the-phones-own:1b");
  must(request.method == "POST" && request.target.starts_with("/"), "an odd request to a phone");
  // llama-server wants a schema three levels further down than it stood. One that was nearly too deep is too
  // deep for our own reader then, but still JSON.
  const bool deep = kind == engine_kind::llama_server && depth(q.format) + 3 > max_json_depth;
  json body;
  if (deep) {
    body = json::parse(request.body, nullptr, false);
    must(!body.is_discarded(), "a body for a phone that is not JSON");
  } else {
    auto parsed = parse_json(request.body);
    must(parsed.has_value(), "a body for a phone that is not JSON");
    body = std::move(*parsed);
  }
  must(body["stream"] == true, "a request that asks for no stream");
  must(body["model"] == "the-phones-own:1b", "another model than the phone has");
  must(body["messages"].is_array() && body["messages"].size() == q.messages.size(), "other messages");
  if (kind == engine_kind::ollama || !q.has_images) must(body["messages"] == q.messages, "other messages");
  if (kind == engine_kind::ollama) {
    must(body.value("options", json::object()) == q.options, "other options");
    must(body.value("format", json()) == q.format, "another format");
  }
}

void check(const ask_request& request) {
  const question& q = request.what;
  must(q.messages.is_array() && !q.messages.empty(), "a question without messages");
  must(q.options.is_object(), "options that are no object");
  const cache_key key = cache_key_of(q);
  const question copy = q;
  must(cache_key_of(copy) == key, "two keys for one question");
  must(cache_key_of(q, "another scope") != key, "one key in two scopes");
  static_cast<void>(is_deterministic(q));
  check_encoded(q, engine_kind::ollama);
  check_encoded(q, engine_kind::llama_server);
}

/// The same text, written anew, is the same question.
void check_again(const ask_request& first, std::string_view text, const ask_rules& rules) {
  const auto again = parse_ask(dump_json(*parse_json(text)), rules);
  must(again.has_value(), "a body that is refused when it is written anew");
  must(same(again->what, first.what) && again->use_cache == first.use_cache, "another question");
  must(cache_key_of(again->what) == cache_key_of(first.what), "two keys for one question");
}

/// What another dialect's body becomes: sound in the neutral form, and JSON for whichever engine takes it.
void check_dialect(const result<generation_request>& request) {
  if (!request) return check_error(request.error());
  must(!request->choices.empty(), "a request for nothing");
  if (request->load) return;
  for (const question& q : request->choices) {
    must(q.raw ? q.messages.is_null() : q.messages.is_array() && !q.messages.empty(), "no conversation");
    must(q.native.is_object() && q.options.is_object(), "options that are no object");
    must(!q.native.contains("model") && !q.native.contains("stream"), "what is the gateway's own is sent on");
    must(cache_key_of(q) == cache_key_of(question(q)), "two keys for one question");
    for (const auto kind : {engine_kind::ollama, engine_kind::llama_server}) {
      const engine& codec = engine_of(kind);
      if (codec.cannot(q)) continue;
      const json body = json::parse(codec.encode(q, "the-phones-own:1b").body, nullptr, false);
      must(body.is_object(), "a body for a phone that is not JSON");
      must(body["stream"] == true && body["model"] == "the-phones-own:1b",
           "not the phone's model, or no stream");
      static_cast<void>(codec.decoder(q));
    }
  }
}

void run_dialects(std::string_view text) {
  check_dialect(parse_openai_chat(text));
  check_dialect(parse_openai_completion(text));
  for (const bool pass : {false, true}) {
    check_dialect(parse_ollama_chat(text, pass));
    check_dialect(parse_ollama_generate(text, pass));
  }
  check_dialect(parse_anthropic(text));
}

void run(std::string_view text) {
  run_dialects(text);
  for (const bool stream : {false, true}) {
    for (const bool pass : {false, true}) {
      const ask_rules rules{stream, pass};
      if (const auto request = parse_ask(text, rules)) {
        check(*request);
        check_again(*request, text, rules);
      } else {
        check_error(request.error());
      }
    }
  }
  const auto batch = parse_batch(text, most_items, ask_rules{});
  if (!batch) return check_error(batch.error());
  must(!batch->empty() && batch->size() <= most_items, "a batch of an odd size");
  for (const auto& item : *batch) {
    if (item) {
      check(*item);
    } else {
      check_error(item.error());
    }
  }
}

}  // namespace
}  // namespace pocketfleet::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  pocketfleet::fuzz::run(pocketfleet::fuzz::text_of(data, size));
  return 0;
}
