#include "pocketfleet/wire/catalog.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pocketfleet/wire/digest.hpp"
#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {
namespace {

using testing::ElementsAre;

const std::string digest = "65ec06548149b04c096a120e4a6da9d4017ea809c91734ea5631e89f96ddc57b";
const std::string tags_entry =
    R"({"details":{"families":["qwen2"],"family":"qwen2","format":"gguf","parameter_size":"1.5B","quantization_level":"Q4_K_M"},)"
    R"("digest":")" +
    digest +
    R"(","model":"qwen2.5:1.5b","modified_at":"2026-01-02T03:04:05.678901234+01:00","name":"qwen2.5:1.5b","size":986061892})";
const std::string llama_entry =
    R"({"id":"tiny","aliases":["tiny","also"],"object":"model","created":1795179600,"owned_by":"llamacpp",)"
    R"("meta":{"n_ctx":4096,"n_ctx_train":8192,"n_embd":64,"n_params":374208,"n_vocab":2345,"size":398536,"ftype":"Q8_0"}})";

served_model model_with(const std::string& name, const std::string& identity, const std::string& about) {
  served_model m(name, identity);
  if (!about.empty()) m.about = std::make_shared<const std::string>(about);
  return m;
}

std::shared_ptr<phone_target> ollama(const std::string& name = "a") {
  auto p = std::make_shared<phone_target>();
  p->name = name;
  p->engine = engine_kind::ollama;
  p->models = {model_with("qwen2.5:1.5b", digest, tags_entry)};
  p->aliases = {{"small", "QWEN2.5:1.5b"}};
  return p;
}

std::shared_ptr<phone_target> llama(const std::string& name = "b") {
  auto p = std::make_shared<phone_target>();
  p->name = name;
  p->engine = engine_kind::llama_server;
  p->models = {model_with("tiny", "gguf 1", llama_entry), model_with("also", "gguf 1", llama_entry)};
  p->in_memory = p->models;
  return p;
}

std::vector<std::string> names(const json& list, const char* field) {
  std::vector<std::string> out;
  for (const auto& each : list) out.push_back(each.at(field).get<std::string>());
  return out;
}

TEST(catalog, an_empty_fleet_has_empty_lists) {
  EXPECT_EQ(openai_models({}), R"({"data":[],"object":"list"})");
  EXPECT_EQ(ollama_tags({}), R"({"models":[]})");
  EXPECT_EQ(ollama_ps({}), R"({"models":[]})");
}

TEST(catalog, openais_list_is_the_union_by_name) {
  const json list = *parse_json(openai_models({ollama("a"), llama(), ollama("c")}));
  EXPECT_EQ(list.at("object"), "list");
  EXPECT_THAT(names(list.at("data"), "id"), ElementsAre("also", "qwen2.5:1.5b", "small", "tiny"));
  EXPECT_EQ(list.at("data").at(1),
            json::parse(R"({"id":"qwen2.5:1.5b","object":"model","created":1767319445,)"
                        R"("owned_by":"pocketfleet"})"))
      << "when it was put on the phone";
  const json& tiny = list.at("data").at(3);
  EXPECT_EQ(tiny.at("created"), 1795179600);
  EXPECT_EQ(tiny.at("owned_by"), "pocketfleet");
  EXPECT_EQ(tiny.at("meta").at("n_ctx_train"), 8192);
}

TEST(catalog, a_name_is_spelled_as_the_first_phone_does) {
  auto other = ollama("z");
  other->models[0].name = "Qwen2.5:1.5B";
  const json list = *parse_json(openai_models({other, ollama()}));
  EXPECT_THAT(names(list.at("data"), "id"), ElementsAre("Qwen2.5:1.5B", "small"));
}

TEST(catalog, one_model) {
  const catalog_phones phones{ollama(), llama()};
  EXPECT_EQ(parse_json(*openai_model(phones, "SMALL"))->at("id"), "small");
  EXPECT_EQ(openai_model(phones, "qwen2.5"), std::nullopt);
  EXPECT_EQ(openai_model(phones, ""), std::nullopt);
}

TEST(catalog, ollamas_list_has_the_phones_own_entries) {
  const json list = parse_json(ollama_tags({ollama(), llama()}))->at("models");
  EXPECT_THAT(names(list, "name"), ElementsAre("also", "qwen2.5:1.5b", "small", "tiny"));
  EXPECT_EQ(list.at(1), json::parse(tags_entry));
  json small = json::parse(tags_entry);
  small["name"] = small["model"] = "small";
  EXPECT_EQ(list.at(2), small);
}

TEST(catalog, llama_servers_entry_is_made_of_what_it_says) {
  const json list = parse_json(ollama_tags({llama()}))->at("models");
  EXPECT_EQ(list.at(1),
            json::parse(R"({"name":"tiny","model":"tiny","modified_at":"2026-11-20T13:00:00Z",)"
                        R"("size":398536,"digest":")" +
                        sha256_hex("gguf 1") +
                        R"(","details":{"parent_model":"","format":"gguf","family":"",)"
                        R"("families":[],"parameter_size":"374K","quantization_level":"Q8_0"}})"));
}

TEST(catalog, what_a_phone_does_not_say_is_left_empty) {
  auto phone = ollama();
  phone->models = {model_with("x", "", ""), model_with("y", digest, ""), model_with("z", "", "[broken")};
  const json list = parse_json(ollama_tags({phone}))->at("models");
  ASSERT_EQ(list.size(), 3U);
  EXPECT_EQ(list.at(0).at("digest").get<std::string>().size(), 64U) << "Ollama's client cuts it unseen";
  EXPECT_EQ(list.at(1).at("digest"), digest);
  EXPECT_EQ(list.at(2).at("size"), 0);
  EXPECT_EQ(parse_json(openai_models({phone}))->at("data").at(0).at("created"), 0);
}

TEST(catalog, odd_entries_do_no_harm) {
  auto phone = llama();
  phone->models = {
      model_with("x", "",
                 R"({"meta":{"n_params":-1,"size":"big","ftype":7},"created":18446744073709551615})"),
      model_with("y", "", R"({"meta":[],"created":"now","modified_at":"2026-99"})")};
  const json list = parse_json(ollama_tags({phone}))->at("models");
  EXPECT_EQ(list.at(0).at("size"), 0);
  EXPECT_EQ(list.at(0).at("modified_at"), "9999-12-31T23:59:59Z");
  EXPECT_EQ(list.at(1).at("details").at("parameter_size"), "");
  EXPECT_EQ(parse_json(openai_models({phone}))->at("data").at(1).at("created"), 0);
}

TEST(catalog, numbers_of_parameters_as_ollama_writes_them) {
  const auto label = [](const char* n) {
    auto phone = llama();
    phone->models = {model_with("x", "", std::string(R"({"meta":{"n_params":)") + n + "}}")};
    return parse_json(ollama_tags({phone}))
        ->at("models")
        .at(0)
        .at("details")
        .at("parameter_size")
        .get<std::string>();
  };
  EXPECT_EQ(label("1543714304"), "1.5B");
  EXPECT_EQ(label("7000000000"), "7B");
  EXPECT_EQ(label("494032768"), "494.03M");
  EXPECT_EQ(label("999"), "999");
}

TEST(catalog, what_is_loaded_and_where) {
  const std::string ps_entry =
      R"({"name":"qwen2.5:1.5b","model":"qwen2.5:1.5b","size":1200000000,"digest":")" + digest +
      R"(","expires_at":"2026-01-02T03:09:05Z","size_vram":0,"context_length":4096})";
  auto a = ollama("a");
  a->in_memory = {model_with("qwen2.5:1.5b", digest, ps_entry)};
  auto c = ollama("c");
  c->in_memory = {model_with("Qwen2.5:1.5b", digest, "")};
  const json list = parse_json(ollama_ps({a, llama(), c, ollama("d")}))->at("models");
  json expected = json::parse(ps_entry);
  expected["pocketfleet"] = {{"phones", {"a", "c"}}};
  ASSERT_EQ(list.size(), 2U);
  EXPECT_EQ(list.at(0), expected);
  const json& tiny = list.at(1);
  EXPECT_EQ(tiny.at("name"), "tiny");
  EXPECT_EQ(tiny.at("expires_at"), "2999-01-01T00:00:00Z");
  EXPECT_EQ(tiny.at("context_length"), 4096);
  EXPECT_FALSE(tiny.contains("modified_at"));
  EXPECT_EQ(tiny.at("pocketfleet"), json::parse(R"({"phones":["b"]})"));
}

TEST(show, which_model) {
  EXPECT_EQ(parse_show(R"({"model":"a"})")->model, "a");
  EXPECT_EQ(parse_show(R"({"name":"b","model":""})")->model, "b");
  EXPECT_EQ(parse_show(R"({"name":"b","model":"a","verbose":true})")->model, "a");
  EXPECT_TRUE(parse_show(R"({"model":"a","verbose":true})")->verbose);
  EXPECT_FALSE(parse_show(R"({"model":"a","verbose":null})")->verbose);
}

TEST(show, what_is_wrong_is_named) {
  const auto refused = [](const std::string& body) { return parse_show(body).error().message; };
  EXPECT_EQ(refused("{}"), "model: expected a model's name");
  EXPECT_EQ(refused("[]"), "expected a JSON object");
  EXPECT_EQ(refused(R"({"model":7})"), "model: expected a model's name, at most 512 bytes");
  EXPECT_EQ(refused(R"({"name":")" + std::string(513, 'n') + "\"}"),
            "name: expected a model's name, at most 512 bytes");
  EXPECT_EQ(refused(R"({"model":"a","verbose":1})"), "verbose: expected true or false");
  EXPECT_EQ(parse_show("{").error().code, errc::bad_request);
}

TEST(show, what_an_ollama_is_asked) {
  EXPECT_EQ(render_show("a\"b", false), R"({"model":"a\"b"})");
  EXPECT_EQ(render_show("a", true), R"({"model":"a","verbose":true})");
}

TEST(show, llama_servers_model) {
  const auto shown = ollama_show(
      llama()->models[0], R"({"default_generation_settings":{"n_ctx":4096},"chat_template":"{{x}}",)"
                          R"("modalities":{"vision":true},"chat_template_caps":{"supports_tools":true}})");
  ASSERT_TRUE(shown.has_value());
  EXPECT_EQ(
      *parse_json(*shown),
      json::parse(R"({"modelfile":"","parameters":"num_ctx 4096","template":"{{x}}",)"
                  R"("details":{"parent_model":"","format":"gguf","family":"","families":[],)"
                  R"("parameter_size":"374K","quantization_level":"Q8_0"},)"
                  R"("model_info":{"general.architecture":"llama","general.parameter_count":374208,)"
                  R"("llama.context_length":8192,"llama.embedding_length":64,"llama.vocab_size":2345},)"
                  R"("capabilities":["completion","vision","tools"],"modified_at":"2026-11-20T13:00:00Z"})"));
}

TEST(show, llama_servers_model_of_which_little_is_known) {
  const auto shown = ollama_show(served_model("x"), "{}");
  ASSERT_TRUE(shown.has_value());
  const json read = *parse_json(*shown);
  EXPECT_EQ(read.at("capabilities"), json::parse(R"(["completion"])"));
  EXPECT_EQ(read.at("model_info"), json::parse(R"({"general.architecture":"llama"})"));
  for (const auto* odd : {"", "[]", "7", "<html>"}) {
    EXPECT_EQ(ollama_show(served_model("x"), odd).error().code, errc::bad_response) << odd;
  }
}

}  // namespace
}  // namespace pocketfleet
