// What the dialects of other tools ask, through both engines: requests, and streams with calls and the like.
#include <gmock/gmock.h>

#include "pocketfleet/engines/codec.hpp"
#include "pocketfleet/wire/dialects.hpp"

namespace pocketfleet {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

const engine& llama() {
  return engine_of(engine_kind::llama_server);
}

const engine& ollama() {
  return engine_of(engine_kind::ollama);
}

question first(const result<generation_request>& read) {
  EXPECT_TRUE(read.has_value()) << (read ? "" : read.error().message);
  return read ? read->choices.front() : question{};
}

question openai(const json& body) {
  return first(parse_openai_chat(body.dump()));
}
question text(const json& body) {
  return first(parse_openai_completion(body.dump()));
}
question chat(const json& body) {
  return first(parse_ollama_chat(body.dump(), false));
}
question generate(const json& body) {
  return first(parse_ollama_generate(body.dump(), false));
}

struct sent {
  std::string target;
  json body;
};

sent to(const engine& which, const question& q) {
  EXPECT_EQ(which.cannot(q), std::nullopt);
  const auto request = which.encode(q, "its own");
  EXPECT_EQ(request.method, "POST");
  auto body = parse_json(request.body);
  EXPECT_TRUE(body.has_value()) << request.body;
  json read = body ? *body : json::object();
  EXPECT_EQ(read["model"], "its own");
  EXPECT_EQ(read["stream"], true);
  read.erase("model");
  read.erase("stream");
  return {std::string(request.target), std::move(read)};
}

/// To llama-server, without what it is always told.
sent to_llama(const question& q) {
  sent out = to(llama(), q);
  EXPECT_EQ(out.body["stream_options"], json({{"include_usage", true}}));
  EXPECT_EQ(out.body["return_progress"], true);
  out.body.erase("stream_options");
  out.body.erase("return_progress");
  return out;
}

const json user = R"({"role": "user", "content": "hello"})"_json;
const json hello{{"messages", json::array({user})}};

json with(json body, const json& more) {
  body.update(more);
  return body;
}

const json a_tool = R"({"type": "function", "function": {"name": "f"}})"_json;

// ---- what is sent

TEST(engines_encode, who_speaks_the_dialect_gets_the_clients_own_words) {
  const json odd = R"({"stop": "x", "grammar": "g", "newer": {"a": [1, null]}, "max_tokens": 5})"_json;
  auto out = to_llama(openai(with(hello, odd)));
  EXPECT_EQ(out.target, "/v1/chat/completions");
  EXPECT_EQ(out.body, with(hello, odd));
  out = to_llama(text(with({{"prompt", "p"}}, odd)));
  EXPECT_EQ(out.target, "/v1/completions");
  EXPECT_EQ(out.body, with({{"prompt", "p"}}, odd));
  const json newer = R"({"options": {"newer": 1, "stop": ["x"]}, "newer": "x", "keep_alive": "10m"})"_json;
  out = to(ollama(), chat(with(hello, newer)));
  EXPECT_EQ(out.target, "/api/chat");
  EXPECT_EQ(out.body, with(hello, newer));
  out = to(ollama(), generate(with({{"prompt", "p"}, {"suffix", "s"}}, newer)));
  EXPECT_EQ(out.target, "/api/generate");
  EXPECT_EQ(out.body, with({{"prompt", "p"}, {"suffix", "s"}}, newer));
}

TEST(engines_encode, a_client_cannot_switch_off_what_the_gateway_needs) {
  const json own = R"({"stream": false, "return_progress": false, "model": "x",
      "stream_options": {"include_usage": false, "other": 1}})"_json;
  EXPECT_EQ(to_llama(openai(with(hello, own))).body, hello);
  EXPECT_EQ(to(ollama(), chat(with(hello, {{"stream", false}, {"model", "x"}}))).body, hello);
  const std::string twice = llama().encode(openai(with(hello, own)), "m").body;
  EXPECT_EQ(twice.find("return_progress"), twice.rfind("return_progress")) << "each field once";
}

TEST(engines_encode, anthropics_is_spoken_by_both) {
  const json body = with(hello, {{"max_tokens", 5}, {"system", "s"}, {"newer", 1}});
  const auto q = first(parse_anthropic(with(body, {{"model", "claude"}, {"stream", true}}).dump()));
  for (const engine* each : {&llama(), &ollama()}) {
    const auto out = to(*each, q);
    EXPECT_EQ(out.target, "/v1/messages");
    EXPECT_EQ(out.body, body);
  }
}

TEST(engines_encode, ollama_heeds_no_choice_of_tools) {
  const auto choosing = [](const json& choice) {
    const json body{{"model", "m"}, {"max_tokens", 5}, {"tool_choice", choice}};
    return first(parse_anthropic(with(hello, body).dump()));
  };
  for (const char* type : {"any", "tool", "none"}) {
    EXPECT_THAT(ollama().cannot(choosing({{"type", type}})).value_or(""), StartsWith("tool_choice: "));
    EXPECT_EQ(llama().cannot(choosing({{"type", type}})), std::nullopt);
  }
  EXPECT_EQ(ollama().cannot(choosing({{"type", "auto"}})), std::nullopt);
}

TEST(engines_encode, openais_words_become_ollamas) {
  const json body = R"({"messages": [{"role": "developer", "content": "d"},
        {"role": "user", "content": [{"type": "text", "text": "what?"},
                                     {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"n\":3}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "three"}],
      "stop": "x", "max_tokens": 5, "temperature": 0, "seed": 7, "tools": [{"function": {"name": "f"}}],
      "response_format": {"type": "json_object"}, "reasoning_effort": "low", "user": "u"})"_json;
  const auto out = to(ollama(), openai(body));
  EXPECT_EQ(out.target, "/api/chat");
  EXPECT_EQ(out.body, R"({"messages": [{"role": "system", "content": "d"},
        {"role": "user", "content": "what?", "images": ["aGk="]},
        {"role": "assistant", "content": "", "tool_calls": [
            {"id": "c1", "function": {"name": "f", "arguments": {"n": 3}}}]},
        {"role": "tool", "tool_call_id": "c1", "tool_name": "f", "content": "three"}],
      "options": {"stop": ["x"], "num_predict": 5, "temperature": 0, "seed": 7},
      "tools": [{"function": {"name": "f"}}], "format": "json", "think": "low"})"_json);
  const auto raw = to(ollama(), text({{"prompt", "p"}, {"max_tokens", 5}}));
  EXPECT_EQ(raw.target, "/api/generate");
  EXPECT_EQ(raw.body, R"({"prompt": "p", "raw": true, "options": {"num_predict": 5}})"_json);
}

TEST(engines_encode, ollamas_words_become_openais) {
  const json body = R"({"messages": [{"role": "SYSTEM", "content": "s"},
        {"role": "user", "content": "what?", "images": ["iVBORw0KGgo="]},
        {"role": "assistant", "thinking": "hm", "tool_calls": [
            {"function": {"name": "f", "arguments": {"n": 3}}}, {"id": "own", "function": {"name": "g"}}]},
        {"role": "tool", "content": "three", "tool_name": "f"}, {"role": "tool", "content": "g says"},
        {"role": "tool", "content": "nobody asked"}],
      "options": {"stop": "x", "num_predict": 5}, "think": false, "keep_alive": "10m",
      "format": {"type": "object"}, "tools": [{"type": "function", "function": {"name": "f"}}]})"_json;
  const auto out = to_llama(chat(body));
  EXPECT_EQ(out.target, "/v1/chat/completions");
  EXPECT_EQ(out.body, R"({"messages": [{"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "what?"},
                   {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]},
        {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [
            {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": "{\"n\":3}"}},
            {"id": "own", "type": "function", "function": {"name": "g", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "call_0", "content": "three"},
        {"role": "tool", "tool_call_id": "own", "content": "g says"}, {"role": "tool", "content": "nobody asked"}],
      "stop": ["x"], "max_tokens": 5, "chat_template_kwargs": {"enable_thinking": false},
      "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}},
      "tools": [{"type": "function", "function": {"name": "f"}}]})"_json);
  EXPECT_EQ(to_llama(generate({{"prompt", "p"}, {"system", "s"}})).body, R"({"messages": [
      {"role": "system", "content": "s"}, {"role": "user", "content": "p"}]})"_json);
  const auto raw = to_llama(generate({{"prompt", "p"}, {"raw", true}}));
  EXPECT_EQ(raw.target, "/v1/completions");
  EXPECT_EQ(raw.body, R"({"prompt": "p"})"_json);
}

TEST(engines_encode, tools_that_must_not_be_called_are_kept_from_ollama_only) {
  const auto q = openai(with(hello, {{"tools", {a_tool}}, {"tool_choice", "none"}}));
  EXPECT_FALSE(to(ollama(), q).body.contains("tools"));
  EXPECT_EQ(to_llama(q).body["tools"], json::array({a_tool}));
}

TEST(engines_cannot, names_the_field_that_only_the_other_has) {
  for (const auto* name : {"grammar", "logprobs", "cache_prompt", "newer"}) {
    const auto q = openai(with(hello, {{name, "x"}}));
    EXPECT_EQ(llama().cannot(q), std::nullopt) << name;
    EXPECT_EQ(ollama().cannot(q), std::string(name) + ": Ollama has nothing like it");
  }
  for (const auto* name : {"template", "suffix", "newer"}) {
    const auto q = generate({{"prompt", "p"}, {name, "x"}});
    EXPECT_EQ(ollama().cannot(q), std::nullopt) << name;
    EXPECT_EQ(llama().cannot(q), std::string(name) + ": llama-server has nothing like it");
  }
  const auto why = [](const json& more) { return llama().cannot(chat(with(hello, more))).value_or(""); };
  EXPECT_THAT(why({{"keep_alive", 0}}), StartsWith("keep_alive: "));
  EXPECT_THAT(why({{"think", "high"}}), StartsWith("think: "));
  EXPECT_THAT(why({{"options", {{"penalize_newline", true}}}}), StartsWith("options.penalize_newline: "));
  EXPECT_EQ(llama().cannot(openai(with(hello, {{"reasoning_effort", "high"}}))), std::nullopt);
}

TEST(engines_resume, not_what_has_more_than_words) {
  for (const engine* which : {&llama(), &ollama()}) {
    EXPECT_TRUE(which->can_resume(openai(hello)));
    EXPECT_TRUE(which->can_resume(chat(hello)));
    EXPECT_FALSE(which->can_resume(openai(with(hello, {{"tools", {a_tool}}}))));
    EXPECT_FALSE(which->can_resume(openai(with(hello, {{"response_format", {{"type", "json_object"}}}}))));
    EXPECT_FALSE(which->can_resume(openai(with(hello, {{"grammar", "g"}}))));
    EXPECT_FALSE(which->can_resume(chat(with(hello, {{"logprobs", true}}))));
    EXPECT_FALSE(which->can_resume(chat(with(hello, {{"format", "json"}}))));
  }
}

// ---- what comes back

class recorder final : public answer_sink {
 public:
  void on_text(piece_kind kind, std::string_view said) override {
    constexpr std::array<std::string_view, 4> marks{"", "thinks ", "calls ", "probs "};
    pieces.push_back(std::string(marks.at(static_cast<std::size_t>(kind))).append(said));
  }
  void on_progress() override {}

  std::vector<std::string> pieces{};
};

struct heard {
  std::vector<std::string> pieces;
  std::string failed;  // how, and what was said; empty: not
  std::string end{};   // reason, members and usage
  usage counts{};

  bool operator==(const heard& other) const {
    return pieces == other.pieces && failed == other.failed && end == other.end;
  }
};

/// A stream in two portions, the second from `cut` on.
heard hear(const engine& which, const question& q, std::string_view stream, std::size_t cut) {
  recorder sink;
  const auto decoder = which.decoder(q);
  result<void> read = decoder->feed(stream.substr(0, cut), sink);
  if (read && !decoder->done()) read = decoder->feed(stream.substr(cut), sink);
  if (read && !decoder->done()) read = decoder->finish(sink);
  heard out{std::move(sink.pieces),
            read ? "" : std::string(to_string(read.error().code)) + " " + read.error().message};
  if (!decoder->done()) return out;
  out.end = decoder->done_reason + " " + decoder->more.members + " " + decoder->more.usage;
  out.counts = decoder->counts;
  return out;
}

/// However it is cut.
heard hear(const engine& which, const question& q, std::string_view stream) {
  const heard whole = hear(which, q, stream, stream.size());
  for (std::size_t cut = 0; cut < stream.size(); ++cut) {
    EXPECT_EQ(hear(which, q, stream, cut), whole) << cut;
  }
  return whole;
}

std::string events(const std::vector<std::string>& all) {
  std::string out;
  for (const auto& data : all) out += "data: " + data + "\n\n";
  return out;
}

std::string delta(const std::string& what, const std::string& finish = "null", const std::string& more = "") {
  return R"({"choices":[{"index":0,"delta":)" + what + R"(,"finish_reason":)" + finish +
         R"(}],"id":"x","created":1,"model":"m","object":"o")" + more + "}";
}

TEST(openai_decoder, hands_on_calls_as_they_come) {
  const std::string begun =
      R"([{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":"{"}}])";
  const std::string more = R"([{"index":0,"function":{"arguments":"}"}}])";
  const auto got =
      hear(llama(), openai(hello),
           events({delta(R"({"tool_calls":)" + begun + "}"), delta(R"({"tool_calls":[]})"),
                   delta(R"({"tool_calls": )" + more + "}"), delta("{}", R"("tool_calls")"), "[DONE]"}));
  EXPECT_THAT(got.pieces, ElementsAre("calls " + begun, "calls " + more));
  EXPECT_THAT(got.end, StartsWith("tool_calls "));
}

TEST(openai_decoder, keeps_the_last_objects_additions_for_who_speaks_the_dialect) {
  const std::string stream =
      events({delta(R"({"content":"a"})", "null", R"(,"timings":{"x":1})"),
              delta("{}", R"("stop")", R"(,"system_fingerprint":"b1","timings":{"predicted_ms": 2})"),
              R"({"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"details":{"cached":2}},)"
              R"("system_fingerprint":"b2","timings":{"predicted_ms": 2}})",
              "[DONE]"});
  EXPECT_EQ(hear(llama(), openai(hello), stream).end,
            R"(stop "system_fingerprint":"b2","timings":{"predicted_ms":2} )"
            R"({"prompt_tokens":3,"completion_tokens":1,"details":{"cached":2}})");
  const auto other = hear(llama(), chat(hello), stream);
  EXPECT_EQ(other.end, "stop  ") << "it means nothing to others";
  EXPECT_EQ(other.counts.prompt_tokens, 3U);
}

TEST(openai_decoder, reads_text_and_what_belongs_to_it) {
  const std::string stream = events(
      {R"({"choices":[{"text":" 1","index":0,"logprobs":{"content": [{"token":" 1"}]},"finish_reason":null}]})",
       R"({"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"length"}],"usage":{"completion_tokens":1}})",
       "[DONE]"});
  const auto got = hear(llama(), text({{"prompt", "p"}}), stream);
  EXPECT_THAT(got.pieces, ElementsAre(R"(probs {"content":[{"token":" 1"}]})", " 1"));
  EXPECT_EQ(got.failed, "");
}

std::string line(const std::string& message, const std::string& more = R"("done":false)") {
  return R"({"model":"m","created_at":"2026-11-20T13:00:00Z",)" + message + "," + more + "}\n";
}

TEST(ollama_decoder, makes_deltas_of_whole_calls) {
  const auto got = hear(
      ollama(), openai(hello),
      line(
          R"("message":{"role":"assistant","content":"","tool_calls":[)"
          R"({"id":"c9","function":{"index":0,"name":"f","arguments":{"n": 3}}},{"function":{"name":"g\""}}]})") +
          line(
              R"("message":{"content":"","tool_calls":[{"id":"","function":{"name":"h","arguments":{}}}]})") +
          line(R"("message":{"content":""})", R"("done":true,"done_reason":"stop")"));
  EXPECT_THAT(
      got.pieces,
      ElementsAre(
          R"(calls [{"index":0,"id":"c9","type":"function","function":{"name":"f","arguments":"{\"n\":3}"}},)"
          R"({"index":1,"id":"call_1","type":"function","function":{"name":"g\"","arguments":"{}"}}])",
          R"(calls [{"index":2,"id":"call_2","type":"function","function":{"name":"h","arguments":"{}"}}])"));
  EXPECT_EQ(got.failed, "");
}

TEST(ollama_decoder, reads_what_generates) {
  const std::string stream = line(R"("response":"","thinking":"hm")") + line(R"("response":" 1")") +
                             line(R"("response":"")", R"("done":true,"done_reason":"stop","context":[1, 2])");
  auto got = hear(ollama(), generate({{"prompt", "p"}}), stream);
  EXPECT_THAT(got.pieces, ElementsAre("thinks hm", " 1"));
  EXPECT_EQ(got.end, R"(stop "context":[1,2] )");
  got = hear(ollama(), text({{"prompt", "p"}}), stream);
  EXPECT_THAT(got.pieces, ElementsAre("thinks hm", " 1"));
  EXPECT_EQ(got.end, "stop  ");
  EXPECT_THAT(hear(ollama(), chat(hello), stream).failed, StartsWith("bad_response"));
}

TEST(ollama_decoder, logprobs_come_before_what_they_belong_to) {
  const auto got = hear(ollama(), chat(hello),
                        line(R"("message":{"content":"","thinking":"hm"},"logprobs":[{"token":"hm"}])") +
                            line(R"("message":{"content":" 1"},"logprobs":[{"token":" 1"}])") +
                            line(R"("message":{"content":""})", R"("done":true)"));
  EXPECT_THAT(got.pieces, ElementsAre(R"(probs {"content":[{"token":"hm"}]})", "thinks hm",
                                      R"(probs {"content":[{"token":" 1"}]})", " 1"));
}

TEST(anthropic_decoder, reads_ollamas_too) {
  // It guesses at the start how long the prompt is, counts at the end, and says nothing of stop sequences.
  const auto q = first(parse_anthropic(with(hello, {{"max_tokens", 5}}).dump()));
  const std::string stream = events(
      {R"({"type":"message_start","message":{"usage":{"input_tokens":3,"output_tokens":0}}})",
       R"({"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}})",
       R"({"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"so"}})",
       R"({"type":"content_block_stop","index":0})",
       R"({"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":9,"output_tokens":4}})",
       R"({"type":"message_stop"})"});
  const auto got = hear(ollama(), q, stream);
  EXPECT_THAT(got.pieces, ElementsAre("so"));
  EXPECT_EQ(got.end,
            R"(stop "stop_reason":"end_turn","stop_sequence":null {"input_tokens":9,"output_tokens":4})");
  EXPECT_EQ(got.counts.prompt_tokens, 9U);
  const auto cut = hear(ollama(), q, stream.substr(0, stream.rfind("data: ")));
  EXPECT_NE(cut.failed, "") << "an error in mid-stream is nothing but an end that is missing";
}

TEST(anthropic_decoder, reads_blocks) {
  const auto q = first(parse_anthropic(with(hello, {{"max_tokens", 5}}).dump()));
  const std::string start =
      R"({"type":"message_start","message":{"usage":{"input_tokens":7,"cache_read_input_tokens":2,"output_tokens":0}}})";
  const std::string stream = events(
      {start, R"({"type":"ping"})",
       R"({"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}})",
       R"({"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}})",
       R"({"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"x"}})",
       R"({"type":"content_block_stop","index":0})",
       R"({"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"so"}})",
       R"({"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"t","name":"f\"","input":{}}})",
       R"({"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"n\""}})",
       R"({"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":4}})",
       R"({"type":"message_stop"})"});
  const auto got = hear(llama(), q, stream);
  EXPECT_THAT(
      got.pieces,
      ElementsAre(
          "thinks hm", "so",
          R"(calls [{"index":0,"id":"t","type":"function","function":{"name":"f\"","arguments":""}}])",
          R"(calls [{"index":0,"function":{"arguments":"{\"n\""}}])"));
  EXPECT_EQ(got.end, R"(tool_calls "stop_reason":"tool_use","stop_sequence":null )"
                     R"({"input_tokens":7,"cache_read_input_tokens":2,"output_tokens":4})");
  EXPECT_EQ(got.counts.prompt_tokens, 9U);
  EXPECT_EQ(got.counts.cached_tokens, 2U);
  const auto failed = [&](const std::string& last) { return hear(llama(), q, events({start, last})).failed; };
  EXPECT_EQ(failed(R"({"type":"ping"})"), "phone_error the phone ended its answer without an end");
  EXPECT_EQ(failed(R"({"type":"error","error":{"type":"api_error","message":"m"}})"), "phone_error m");
  EXPECT_EQ(failed(R"({"type":"error","error":{"type":"invalid_request_error","message":"m"}})"),
            "rejected m");
  EXPECT_THAT(failed(R"({"choices":[]})"), AllOf(StartsWith("bad_response"), HasSubstr("Anthropic's form")));
}

}  // namespace
}  // namespace pocketfleet
