#include "pocketfleet/engines/probe.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pocketfleet {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

const std::vector<std::string> rubbish{"",
                                       "{",
                                       "null",
                                       "7",
                                       "[]",
                                       "{}",
                                       "\"x\"",
                                       "<html></html>",
                                       "{\"models\":7}",
                                       "{\"data\":7}",
                                       "{}{}",
                                       "{\"models\":\"a\",\"data\":\"a\"}"};

TEST(identify, llama_server_by_its_server_field_and_ollama_by_its_words) {
  EXPECT_EQ(identify("", "Ollama is running"), engine_kind::ollama);
  EXPECT_EQ(identify("llama.cpp", "<html>web page</html>"), engine_kind::llama_server);
  EXPECT_EQ(identify("llama.cpp", ""), engine_kind::llama_server);
  EXPECT_EQ(identify("llama.cpp", "Ollama is running"), engine_kind::llama_server)
      << "some builds answer Ollama's pages too: the field tells";
}

TEST(identify, anything_else_is_unknown) {
  EXPECT_EQ(identify("", ""), engine_kind::unknown);
  EXPECT_EQ(identify("nginx/1.22.1", "<html>Welcome</html>"), engine_kind::unknown);
  EXPECT_EQ(identify("Ollama", "{}"), engine_kind::unknown);
}

TEST(serves_messages, from_the_release_on_that_does) {
  for (const char* version : {"0.14.0", "0.14.0-rc1", "0.14", "0.33.0", "1.0.0"})
    EXPECT_EQ(serves_messages(R"({"version":")" + std::string(version) + "\"}"), true) << version;
  for (const char* version : {"0.13.5", "0.9.99", "0.1.32"})
    EXPECT_EQ(serves_messages(R"({"version":")" + std::string(version) + "\"}"), false) << version;
}

TEST(serves_messages, is_not_known_of_other_builds) {
  for (const char* version : {"0.0.0", "", "v0.14", "main", "7", "-1.2", "0.x", "99999999999.1", "0."})
    EXPECT_EQ(serves_messages(R"({"version":")" + std::string(version) + "\"}"), std::nullopt) << version;
  for (const std::string& body : rubbish) EXPECT_EQ(serves_messages(body), std::nullopt) << body;
  EXPECT_EQ(serves_messages(R"({"version":14})"), std::nullopt);
}

TEST(read_ollama_models, names_in_their_order) {
  const auto names = read_ollama_models(
      R"({"models":[{"name":"qwen2.5:1.5b","model":"qwen2.5:1.5b","modified_at":"2026-01-02T03:04:05Z","size":986061892,)"
      R"("digest":"65ec","details":{"family":"qwen2","families":["qwen2"]}},{"name":"gemma:2b"},{"name":"qwen2.5:1.5b"}]})");
  ASSERT_TRUE(names.has_value());
  EXPECT_THAT(*names, ElementsAre(served_model("qwen2.5:1.5b", "65ec"), served_model("gemma:2b")))
      << "each once";
}

TEST(read_ollama_models, keeps_what_the_phone_says_of_each_unless_it_is_too_much) {
  const auto models = read_ollama_models(R"({"models":[{"name":"a","size":7,"details":{"family":"qwen2"}},)"
                                         R"({"name":"b","more":")" +
                                         std::string(most_about, 'x') + R"("},{"name":"c"}]})");
  ASSERT_TRUE(models.has_value());
  ASSERT_THAT(*models, SizeIs(3));
  EXPECT_EQ(*models->at(0).about, R"({"details":{"family":"qwen2"},"name":"a","size":7})");
  EXPECT_EQ(models->at(1).about, nullptr);
  EXPECT_EQ(*models->at(2).about, R"({"name":"c"})");
}

TEST(read_ollama_models, none_is_a_good_answer) {
  EXPECT_THAT(*read_ollama_models(R"({"models":[]})"), IsEmpty());
  EXPECT_THAT(*read_ollama_models(R"({"models":null})"), IsEmpty());
}

TEST(read_ollama_models, passes_over_what_is_no_name) {
  const auto names = read_ollama_models(R"({"models":[7,null,{},{"name":7},{"name":""},{"name":")" +
                                        std::string(513, 'n') + R"("},{"name":"good"}]})");
  ASSERT_TRUE(names.has_value());
  EXPECT_THAT(*names, ElementsAre(served_model("good")));
}

TEST(read_ollama_models, keeps_a_bounded_number) {
  std::string body = R"({"models":[)";
  for (int i = 0; i < 3000; ++i)
    body += (i == 0 ? "" : ",") + std::string(R"({"name":"m)") + std::to_string(i) + R"("})";
  EXPECT_THAT(*read_ollama_models(body + "]}"), SizeIs(1000));
}

TEST(read_ollama_models, refuses_what_is_not_ollamas) {
  for (const auto& body : rubbish) EXPECT_FALSE(read_ollama_models(body).has_value()) << body;
  EXPECT_FALSE(read_ollama_models(R"({"data":[{"id":"x"}]})").has_value());
}

TEST(read_llama_models, ids_and_aliases) {
  const auto names = read_llama_models(
      R"({"models":[{"name":"phone","model":"phone"}],"object":"list","data":[{"id":"phone","aliases":["phone","qwen"],"tags":[],)"
      R"("object":"model","created":1795179600,"owned_by":"llamacpp","meta":{"n_vocab":2345}}]})");
  ASSERT_TRUE(names.has_value());
  EXPECT_THAT(*names, ElementsAre(served_model("phone"), served_model("qwen")));
}

TEST(read_llama_models, keeps_what_is_said_once_for_all_its_names) {
  const auto models = read_llama_models(R"({"data":[{"id":"a","aliases":["b"],"meta":{"n_ctx":4096}}]})");
  ASSERT_TRUE(models.has_value());
  ASSERT_THAT(*models, SizeIs(2));
  EXPECT_EQ(*models->at(0).about, R"({"aliases":["b"],"id":"a","meta":{"n_ctx":4096}})");
  EXPECT_EQ(models->at(0).about, models->at(1).about);
}

TEST(read_llama_models, the_files_path_is_a_name) {
  EXPECT_THAT(*read_llama_models(R"({"object":"list","data":[{"id":"/data/q4.gguf","meta":null}]})"),
              ElementsAre(served_model("/data/q4.gguf")));
}

TEST(read_llama_models, passes_over_what_is_no_name) {
  EXPECT_THAT(*read_llama_models(
                  R"({"data":[7,{"id":null},{"id":"a","aliases":7},{"id":"b","aliases":[1,null,"c",""]}]})"),
              ElementsAre(served_model("a"), served_model("b"), served_model("c")));
}

TEST(read_llama_models, what_a_model_is_shows_in_what_is_said_of_it) {
  const auto identity = [](const std::string& meta, std::string_view file) {
    auto models = *read_llama_models(R"({"data":[{"id":"phone","meta":)" + meta + "}]}");
    name_file(models, file);
    return models.at(0).identity;
  };
  const std::string meta = R"({"n_vocab":151936,"n_params":1543714304,"size":986061892,"ftype":"Q4_K_M"})";
  EXPECT_EQ(identity(meta, "q.gguf"), "gguf 986061892 1543714304 151936 Q4_K_M q.gguf");
  EXPECT_NE(identity(meta, "q.gguf"), identity(meta, "coder.gguf")) << "of one make, and another model";
  EXPECT_EQ(identity(meta, ""), "") << "without the file's name nothing is sure";
  EXPECT_EQ(identity(R"({"n_vocab":151936,"size":986061892})", "q.gguf"), "");
  EXPECT_EQ(identity("null", "q.gguf"), "");
  EXPECT_EQ(identity(R"({"n_vocab":"x","n_params":-1,"size":1})", "q.gguf"), "");
}

TEST(read_llama_models, refuses_what_is_not_llama_servers) {
  for (const auto& body : rubbish) EXPECT_FALSE(read_llama_models(body).has_value()) << body;
}

TEST(read_llama_props, slots_and_vision) {
  const auto props = read_llama_props(
      R"({"default_generation_settings":{"params":{},"n_ctx":4096},"total_slots":2,"model_alias":"phone",)"
      R"("modalities":{"vision":true,"audio":false},"chat_template":"...","is_sleeping":false})");
  ASSERT_TRUE(props.has_value());
  EXPECT_EQ(props->slots, 2U);
  EXPECT_EQ(props->vision, true);
}

TEST(read_llama_props, what_is_not_said_is_not_known) {
  const auto props = read_llama_props("{}");
  ASSERT_TRUE(props.has_value());
  EXPECT_EQ(props->slots, std::nullopt);
  EXPECT_EQ(props->vision, std::nullopt);
}

TEST(read_llama_props, odd_values_are_not_taken) {
  for (const auto* slots : {"-1", "\"2\"", "1.5", "null", "[]"}) {
    const auto props = read_llama_props(std::string(R"({"total_slots":)") + slots + "}");
    ASSERT_TRUE(props.has_value());
    EXPECT_EQ(props->slots, std::nullopt) << slots;
  }
  EXPECT_EQ(read_llama_props(R"({"total_slots":18446744073709551615})")->slots, 1024U) << "bounded";
  EXPECT_EQ(read_llama_props(R"({"modalities":{"vision":"yes"}})")->vision, std::nullopt);
  EXPECT_EQ(read_llama_props(R"({"modalities":7})")->vision, std::nullopt);
}

TEST(read_group_status, what_a_supervisor_says) {
  const auto got = read_group_status(
      R"({"state":"healing","usable":false,"fault":"worker_frozen","reason":"a stands stopped","members":[
          {"name":"a","state":"frozen"},{"name":"master","state":"up"}]})");
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(got->state, "healing");
  EXPECT_FALSE(got->usable);
  EXPECT_EQ(got->fault, "worker_frozen");
  EXPECT_EQ(got->reason, "a stands stopped");
  ASSERT_EQ(got->members.size(), 2U);
  EXPECT_EQ(got->members[0].name, "a");
  EXPECT_EQ(got->members[0].state, "frozen");
}

TEST(read_group_status, words_from_elsewhere_are_made_harmless) {
  const auto got = read_group_status(
      R"({"state":"xyz","usable":"yes","fault":"none","reason":"a\nb\u001b","members":[7,{"name":7}]})");
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(got->state, "unknown") << "it becomes a label";
  EXPECT_FALSE(got->usable);
  EXPECT_EQ(got->fault, "");
  EXPECT_EQ(got->reason, "a?b?");
  EXPECT_EQ(got->members.size(), 1U);
  for (const auto* body : {"", "[]", "{}", "<html>"})
    EXPECT_FALSE(read_group_status(body).has_value()) << body;
}

TEST(read_llama_props, refuses_what_is_no_object) {
  for (const auto* body : {"", "[]", "null", "<html>"})
    EXPECT_FALSE(read_llama_props(body).has_value()) << body;
}

}  // namespace
}  // namespace pocketfleet
