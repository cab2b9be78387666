#include "pocketfleet/wire/embeddings.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <random>

namespace pocketfleet {
namespace {

constexpr auto openai = embeddings_dialect::openai;
constexpr auto ollama = embeddings_dialect::ollama;
constexpr auto old = embeddings_dialect::ollama_prompt;
constexpr auto llama_server = engine_kind::llama_server;
constexpr auto ollama_phone = engine_kind::ollama;

result<embeddings_request> parse(embeddings_dialect dialect, const json& body, embeddings_rules rules = {}) {
  return parse_embeddings(dialect, body.dump(), rules);
}

embeddings_request good(embeddings_dialect dialect, const json& body) {
  auto r = parse(dialect, body);
  EXPECT_TRUE(r) << (r ? "" : r.error().message) << body;
  return r ? std::move(*r) : embeddings_request{};
}

std::string mistake(embeddings_dialect dialect, const json& body) {
  const auto r = parse(dialect, body);
  if (r) return "none";
  EXPECT_EQ(r.error().code, errc::bad_request);
  return r.error().message;
}

json sent(const embeddings_request& r, engine_kind engine, std::size_t first, std::size_t count) {
  return json::parse(encode_embeddings(r, engine, "own", first, count).body);
}

// ---- inputs

TEST(embeddings, inputs_of_openai) {
  EXPECT_EQ(good(openai, {{"model", "m"}, {"input", "a"}}).inputs, (std::vector<json>{"a"}));
  EXPECT_EQ(good(openai, {{"model", "m"}, {"input", {"a", "b"}}}).inputs, (std::vector<json>{"a", "b"}));
  const auto one = good(openai, {{"model", "m"}, {"input", {1, 2, 3}}});
  EXPECT_EQ(one.inputs, (std::vector<json>{{1, 2, 3}}));
  EXPECT_EQ(one.engines, mask_of(llama_server));
  EXPECT_TRUE(one.why.starts_with("input: ")) << one.why;
  const auto two = good(openai, {{"model", "m"}, {"input", {{1, 2}, {3}}}});
  EXPECT_EQ(two.inputs, (std::vector<json>{{1, 2}, json::array({3})}));
  EXPECT_TRUE(two.why.starts_with("input[0]: ")) << two.why;
}

TEST(embeddings, mistakes_in_the_input_of_openai_are_named) {
  for (const json& input : std::vector<json>{nullptr, "", json::array(), 5, json::object(), true})
    EXPECT_TRUE(mistake(openai, {{"model", "m"}, {"input", input}}).starts_with("input: ")) << input;
  for (const json& input :
       std::vector<json>{{"a", ""}, {"a", 1}, {"a", nullptr}, {"a", json::array()}, {"a", {1, "b"}}})
    EXPECT_TRUE(mistake(openai, {{"model", "m"}, {"input", input}}).starts_with("input[1]: ")) << input;
  for (const json& input : std::vector<json>{{1, "a"}, {1, -1}, {1, 0.5}, {1, 5000000000}, {1, {2}}})
    EXPECT_TRUE(mistake(openai, {{"model", "m"}, {"input", input}}).starts_with("input: ")) << input;
  EXPECT_TRUE(mistake(openai, {{"model", "m"}}).starts_with("input: "));
}

TEST(embeddings, inputs_of_ollama) {
  EXPECT_EQ(good(ollama, {{"model", "m"}, {"input", "a"}}).inputs, (std::vector<json>{"a"}));
  EXPECT_EQ(good(ollama, {{"model", "m"}, {"input", {"a", "b"}}}).inputs, (std::vector<json>{"a", "b"}));
  EXPECT_EQ(good(old, {{"model", "m"}, {"prompt", "a"}}).inputs, (std::vector<json>{"a"}));
  for (const json& none : std::vector<json>{nullptr, "", json::array()})
    EXPECT_TRUE(good(ollama, {{"model", "m"}, {"input", none}}).inputs.empty()) << none;
  EXPECT_TRUE(good(old, {{"model", "m"}, {"prompt", ""}}).inputs.empty());
  EXPECT_TRUE(good(old, {{"model", "m"}}).inputs.empty());
  EXPECT_EQ(good(ollama, {{"model", "m"}, {"input", {"a", ""}}}).engines, mask_of(ollama_phone));
  EXPECT_TRUE(mistake(ollama, {{"model", "m"}, {"input", {"a", 1}}}).starts_with("input[1]: "));
  EXPECT_TRUE(mistake(ollama, {{"model", "m"}, {"input", {{1, 2}}}}).starts_with("input[0]: "));
  EXPECT_TRUE(mistake(ollama, {{"model", "m"}, {"input", 1}}).starts_with("input: "));
  EXPECT_TRUE(mistake(old, {{"model", "m"}, {"prompt", {"a"}}}).starts_with("prompt: "));
}

TEST(embeddings, as_many_inputs_as_openai_takes) {
  for (const auto dialect : {openai, ollama}) {
    EXPECT_EQ(good(dialect, {{"model", "m"}, {"input", std::vector<json>(2048, "a")}}).inputs.size(), 2048U);
    EXPECT_TRUE(
        mistake(dialect, {{"model", "m"}, {"input", std::vector<json>(2049, "a")}}).starts_with("input: "));
  }
  EXPECT_EQ(good(openai, {{"model", "m"}, {"input", std::vector<json>(5000, 7)}}).inputs.size(), 1U);
}

TEST(embeddings, the_model_is_named) {
  for (const auto dialect : {openai, ollama, old}) {
    EXPECT_TRUE(mistake(dialect, {{"input", "a"}, {"prompt", "a"}}).starts_with("model: "));
    for (const json& model : std::vector<json>{nullptr, "", 5, std::string(300, 'm')})
      EXPECT_TRUE(
          mistake(dialect, {{"model", model}, {"input", "a"}, {"prompt", "a"}}).starts_with("model: "));
  }
}

// ---- what engines are told

TEST(embeddings, openai_to_llama_server) {
  const auto r = good(openai, {{"model", "m"},
                               {"input", {"a", "b", "c"}},
                               {"user", "u"},
                               {"encoding_format", "base64"},
                               {"embd_normalize", 1}});
  EXPECT_TRUE(r.base64);
  EXPECT_EQ(r.engines, mask_of(llama_server));
  EXPECT_TRUE(r.why.starts_with("embd_normalize: ")) << r.why;
  EXPECT_EQ(encode_embeddings(r, llama_server, "own", 0, 1).target, "/v1/embeddings");
  EXPECT_EQ(sent(r, llama_server, 1, 2), (json{{"model", "own"},
                                               {"input", {"b", "c"}},
                                               {"encoding_format", "float"},
                                               {"user", "u"},
                                               {"embd_normalize", 1}}));
}

TEST(embeddings, openai_to_ollama) {
  const auto r = good(openai, {{"model", "m"}, {"input", "a"}, {"user", "u"}, {"dimensions", 64}});
  EXPECT_EQ(r.engines, mask_of(ollama_phone));
  EXPECT_TRUE(r.why.starts_with("dimensions: ")) << r.why;
  EXPECT_EQ(encode_embeddings(r, ollama_phone, "own", 0, 1).target, "/api/embed");
  EXPECT_EQ(sent(r, ollama_phone, 0, 1), (json{{"model", "own"}, {"input", {"a"}}, {"dimensions", 64}}));
  EXPECT_EQ(good(openai, {{"model", "m"}, {"input", "a"}, {"user", "u"}}).engines, any_engine);
}

TEST(embeddings, ollama_to_ollama_untouched) {
  const json rest{{"options", {{"temperature", 0.5}}},
                  {"truncate", true},
                  {"keep_alive", "10m"},
                  {"dimensions", 4},
                  {"something", {1}},
                  {"null", nullptr}};
  for (const auto dialect : {ollama, old}) {
    json body = rest;
    body["model"] = "m";
    body[dialect == old ? "prompt" : "input"] = "a";
    const auto r = good(dialect, body);
    EXPECT_EQ(r.engines, mask_of(ollama_phone));
    json expected = rest;
    expected["model"] = "own";
    if (dialect == old) {
      expected["prompt"] = "a";
      EXPECT_EQ(encode_embeddings(r, ollama_phone, "own", 0, 1).target, "/api/embeddings");
    } else {
      expected["input"] = {"a"};
      EXPECT_EQ(encode_embeddings(r, ollama_phone, "own", 0, 1).target, "/api/embed");
    }
    EXPECT_EQ(sent(r, ollama_phone, 0, 1), expected);
  }
}

TEST(embeddings, ollama_to_llama_server) {
  for (const json& rest : std::vector<json>{json::object(),
                                            {{"truncate", false}},
                                            {{"keep_alive", "10m"}},
                                            {{"keep_alive", -1}},
                                            {{"options", json::object()}},
                                            {{"options", {{"num_ctx", nullptr}}}},
                                            {{"options", nullptr}, {"dimensions", nullptr}}}) {
    json body = rest;
    body["model"] = "m";
    body["input"] = "a";
    const auto r = good(ollama, body);
    EXPECT_EQ(r.engines, any_engine) << rest << r.why;
    EXPECT_EQ(sent(r, llama_server, 0, 1),
              (json{{"model", "own"}, {"input", {"a"}}, {"encoding_format", "float"}}));
  }
}

TEST(embeddings, what_llama_server_would_lose_is_named) {
  for (const auto& [field, value] : std::vector<std::pair<std::string, json>>{{"truncate", true},
                                                                              {"keep_alive", 0},
                                                                              {"keep_alive", "0"},
                                                                              {"keep_alive", "0s"},
                                                                              {"keep_alive", "0h0.0m"},
                                                                              {"dimensions", 5},
                                                                              {"options", {{"seed", 1}}},
                                                                              {"whatever", 1}}) {
    const auto r = good(ollama, {{"model", "m"}, {"input", "a"}, {field, value}});
    EXPECT_EQ(r.engines, mask_of(ollama_phone)) << field;
    EXPECT_TRUE(r.why.starts_with(field + ": ")) << r.why;
  }
}

TEST(embeddings, what_no_engine_can_do_has_no_engine) {
  EXPECT_EQ(good(openai, {{"model", "m"}, {"input", {1, 2}}, {"dimensions", 5}}).engines, 0);
}

TEST(embeddings, mistakes_beside_the_input_are_named) {
  const auto with = [](embeddings_dialect dialect, const char* field, const json& value) {
    return mistake(dialect, {{"model", "m"}, {"input", "a"}, {field, value}});
  };
  EXPECT_TRUE(with(openai, "encoding_format", "int8").starts_with("encoding_format: "));
  EXPECT_TRUE(with(openai, "encoding_format", 1).starts_with("encoding_format: "));
  EXPECT_TRUE(with(openai, "user", 1).starts_with("user: "));
  for (const json& value : std::vector<json>{0, -1, 1.5, "5", json::array(), 70000}) {
    EXPECT_TRUE(with(openai, "dimensions", value).starts_with("dimensions: "));
    EXPECT_TRUE(with(ollama, "dimensions", value).starts_with("dimensions: "));
  }
  EXPECT_TRUE(with(ollama, "truncate", "yes").starts_with("truncate: "));
  for (const json& value : std::vector<json>{"300", "m", "", "-", "1x", "1 m", json::array(), true})
    EXPECT_TRUE(with(ollama, "keep_alive", value).starts_with("keep_alive: ")) << value;
  EXPECT_TRUE(with(ollama, "options", 1).starts_with("options: "));
  const auto left_out = parse(ollama, {{"model", "m"}, {"input", "a"}, {"options", {{"num_ctx", 8192}}}});
  ASSERT_TRUE(left_out);
  EXPECT_EQ(left_out->ignored, std::vector<std::string>{"num_ctx"});
  EXPECT_EQ(left_out->rest, json::object()) << "nothing is left of them, so any engine will do";
  EXPECT_EQ(left_out->engines, any_engine);
  embeddings_rules rules;
  rules.pass_load_options = true;
  EXPECT_TRUE(parse(ollama, {{"model", "m"}, {"input", "a"}, {"options", {{"num_ctx", 8192}}}}, rules));
}

TEST(embeddings, no_text_is_given_back) {
  const std::string secret = "do not repeat me";
  for (const json& body : std::vector<json>{{{"model", "m"}, {"input", {"a", {secret}}}},
                                            {{"model", "m"}, {"input", {{"x", secret}}}},
                                            {{"model", "m"}, {"input", "a"}, {"encoding_format", secret}},
                                            {{"model", "m"}, {"input", "a"}, {secret, 1}}}) {
    const auto r = parse(openai, body);
    EXPECT_EQ((r ? r->why : r.error().message).find(secret), std::string::npos);
  }
}

// ---- what phones answer

const char* const llama_answer =
    R"({"model":"x","object":"list","usage":{"prompt_tokens":7,"total_tokens":7},"data":[)"
    R"({"embedding":[0.5,-0.012345679104328156,1e-7],"index":1,"object":"embedding"},)"
    R"({"embedding":[1,2,3],"index":0,"object":"embedding"}]})";

TEST(embeddings, reads_llama_server) {
  const auto r = good(openai, {{"model", "m"}, {"input", {"a", "b"}}});
  const auto part = decode_embeddings(r, llama_server, 2, llama_answer);
  ASSERT_TRUE(part) << part.error().message;
  EXPECT_EQ(part->dimensions, 3U);
  EXPECT_EQ(part->prompt_tokens, 7U);
  EXPECT_EQ(json::parse(part->vectors[0]), (json{1, 2, 3}));
  EXPECT_EQ(json::parse(part->vectors[1]), (json{0.5, -0.012345679104328156, 1e-7}))
      << "the very same numbers";
}

TEST(embeddings, reads_ollama) {
  const auto r = good(ollama, {{"model", "m"}, {"input", {"a", "b"}}});
  const auto part = decode_embeddings(
      r, ollama_phone, 2,
      R"({"model":"m","embeddings":[[0.1,0.2],[0.3,0.4]],"load_duration":5,"prompt_eval_count":3})");
  ASSERT_TRUE(part) << part.error().message;
  EXPECT_EQ(part->vectors, (std::vector<std::string>{"[0.1,0.2]", "[0.3,0.4]"}));
  EXPECT_EQ(part->load_time, nanoseconds{5});
  EXPECT_EQ(part->prompt_tokens, 3U);
  const auto one = good(old, {{"model", "m"}, {"prompt", "a"}});
  const auto single = decode_embeddings(one, ollama_phone, 1, R"({"embedding":[3,4]})");
  ASSERT_TRUE(single);
  EXPECT_EQ(single->vectors, (std::vector<std::string>{"[3,4]"}));
}

TEST(embeddings, base64_is_float32_with_the_lowest_byte_first) {
  const auto r = good(openai, {{"model", "m"}, {"input", "a"}, {"encoding_format", "base64"}});
  const auto part = decode_embeddings(r, ollama_phone, 1, R"({"embeddings":[[1,-2.5,0]]})");
  ASSERT_TRUE(part);
  EXPECT_EQ(part->vectors, (std::vector<std::string>{R"("AACAPwAAIMAAAAAA")"}));
}

TEST(embeddings, odd_answers_are_refused) {
  const auto two = good(openai, {{"model", "m"}, {"input", {"a", "b"}}});
  for (const char* text : {
           "",
           "[]",
           "<html>",
           R"({"data":[]})",
           R"({"data":[{"embedding":[1]}]})",
           R"({"data":[{"embedding":[1],"index":0},{"embedding":[1],"index":0}]})",
           R"({"data":[{"embedding":[1],"index":0},{"embedding":[1],"index":2}]})",
           R"({"data":[{"embedding":[1],"index":0},{"embedding":[1,2],"index":1}]})",
           R"({"data":[{"embedding":[1],"index":0},{"embedding":[null],"index":1}]})",
           R"({"data":[{"embedding":[],"index":0},{"embedding":[],"index":1}]})",
           R"({"data":[{"embedding":[[1]],"index":0},{"embedding":[[1]],"index":1}]})",
           R"({"data":[{"embedding":[1]},{"embedding":[1]},{"embedding":[1]}]})",
       }) {
    const auto part = decode_embeddings(two, llama_server, 2, text);
    ASSERT_FALSE(part) << text;
    EXPECT_EQ(part.error().code, errc::bad_response);
  }
  for (const char* text :
       {R"({"embeddings":[]})", R"({"embeddings":[[1]]})", R"({"embeddings":[[1],[1],[1]]})",
        R"({"embeddings":[[1],[1,2]]})", R"({"embeddings":[[1],"x"]})", R"({"embedding":[1]})"})
    EXPECT_FALSE(decode_embeddings(two, ollama_phone, 2, text)) << text;
}

TEST(embeddings, answers_in_each_dialect) {
  const std::vector<std::string> vectors{"[1,2]", "[3,4]"};
  const embeddings_counts counts{5, nanoseconds{6}, nanoseconds{7}};
  const auto said = [&](embeddings_dialect dialect, const std::vector<std::string>& v) {
    embeddings_request r;
    r.dialect = dialect;
    r.model = "the \"model\"";
    return json::parse(render_embeddings(r, v, counts));
  };
  EXPECT_EQ(said(openai, vectors), json::parse(R"({"object":"list","data":[
    {"object":"embedding","embedding":[1,2],"index":0},{"object":"embedding","embedding":[3,4],"index":1}],
    "model":"the \"model\"","usage":{"prompt_tokens":5,"total_tokens":5}})"));
  EXPECT_EQ(said(ollama, vectors), json::parse(R"({"model":"the \"model\"","embeddings":[[1,2],[3,4]],
    "total_duration":7,"load_duration":6,"prompt_eval_count":5})"));
  EXPECT_EQ(said(ollama, {})["embeddings"], json::array());
  EXPECT_EQ(said(old, {"[1,2]"}), (json{{"embedding", {1, 2}}}));
  EXPECT_EQ(said(old, {}), (json{{"embedding", json::array()}}));
}

// ---- anything at all

json anything(std::mt19937& random, int depth) {
  switch (random() % (depth > 3 ? 7 : 9)) {
    case 0: return nullptr;
    case 1: return random() % 2 == 0;
    case 2: return static_cast<std::int64_t>(random()) - 1000;
    case 3: return 0.5 * static_cast<double>(random() % 100);
    case 4: return "";
    case 5: return "text";
    case 6: return random() % 10;
    case 7: {
      json list = json::array();
      for (auto n = random() % 4; n > 0; --n) list.push_back(anything(random, depth + 1));
      return list;
    }
    default: {
      json object = json::object();
      for (auto n = random() % 4; n > 0; --n)
        object[std::string(1, 'a' + random() % 5)] = anything(random, depth + 1);
      return object;
    }
  }
}

TEST(embeddings, whatever_comes_is_refused_or_can_be_said_to_an_engine) {
  std::mt19937 random(7);
  const std::vector<std::string> fields{"model", "input",    "prompt",     "encoding_format", "dimensions",
                                        "user",  "truncate", "keep_alive", "options",         "x"};
  int taken = 0;
  for (int i = 0; i < 20'000; ++i) {
    json body = json::object();
    if (random() % 4 != 0) body["model"] = "m";
    for (auto n = random() % 4; n > 0; --n) body[fields[random() % fields.size()]] = anything(random, 0);
    const auto dialect = std::array{openai, ollama, old}[random() % 3];
    const auto r = parse(dialect, body);
    if (!r) {
      EXPECT_EQ(r.error().code, errc::bad_request) << body;
      EXPECT_FALSE(r.error().message.empty());
      continue;
    }
    ++taken;
    EXPECT_EQ(r->engines == any_engine, r->why.empty()) << body;
    for (const auto engine : {ollama_phone, llama_server}) {
      if ((r->engines & mask_of(engine)) == 0 || r->inputs.empty()) continue;
      const json said = sent(*r, engine, 0, 1);
      EXPECT_EQ(said["model"], "own");
    }
  }
  EXPECT_GT(taken, 1000);
}

}  // namespace
}  // namespace pocketfleet
