// What simulated phones keep of the prompts that they have read, and how they say so.
#include "sim_helpers.hpp"

namespace pocketfleet::sim_test {
namespace {

json said(const char* role, const std::string& content) {
  return {{"role", role}, {"content", content}};
}

/// Two turns of a conversation, the second with the answer to the first.
json talk(bool second, const std::string& about = "count") {
  json messages = json::array({said("system", "be brief, be exact"), said("user", about)});
  if (second) {
    messages.push_back(said("assistant", count(1, 4)));
    messages.push_back(said("user", "and on"));
  }
  return json{{"model", "qwen2.5:1.5b"}, {"messages", messages}, {"stream", false}};
}

json llama_talk(bool second, const std::string& about = "count") {
  json body = talk(second, about);
  body["max_tokens"] = 4;
  return body;
}

TEST_F(sim_llama, the_next_turn_is_read_from_where_the_last_one_ended) {
  const json first = ask("/v1/chat/completions", llama_talk(false)).object();
  EXPECT_EQ(first["timings"]["cache_n"], 0);
  const json second = ask("/v1/chat/completions", llama_talk(true)).object();
  const auto told = second["usage"]["prompt_tokens"].get<std::size_t>();
  const auto cached = second["timings"]["cache_n"].get<std::size_t>();
  EXPECT_GE(cached, first["usage"]["prompt_tokens"].get<std::size_t>() + 4) << "the answer too";
  EXPECT_EQ(cached + second["timings"]["prompt_n"].get<std::size_t>(), told);
  EXPECT_EQ(second["usage"]["prompt_tokens_details"]["cached_tokens"], cached);
  EXPECT_EQ(state().cached_tokens, cached);
  EXPECT_NE(
      get("/metrics").body.find("\nllamacpp:prompt_tokens_cached_total " + std::to_string(cached) + "\n"),
      std::string::npos);

  const json again = ask("/v1/chat/completions", llama_talk(true)).object();
  EXPECT_EQ(again["timings"]["prompt_n"], 1) << "the last token is read in any case";
  json anew = llama_talk(true);
  anew["cache_prompt"] = false;
  EXPECT_EQ(ask("/v1/chat/completions", anew).object()["timings"]["cache_n"], 0);
}

TEST_F(sim_llama, progress_begins_behind_what_is_cached) {
  ask("/v1/chat/completions", llama_talk(false, std::string(2000, 'x')));
  json body = llama_talk(true, std::string(2000, 'x'));
  body["stream"] = body["return_progress"] = true;
  const json first = json::parse(ask("/v1/chat/completions", body).events()[0])["prompt_progress"];
  EXPECT_GT(first["cache"], 500);
  EXPECT_EQ(first["processed"], first["cache"]);
}

TEST_F(sim_llama, each_slot_keeps_the_prompt_it_read_last) {
  auto settings = fast(engine_kind::llama_server);
  settings.slots = 2;
  run(settings);
  const auto cached = [&](char about) {
    const json messages = json::array({said("user", std::string(800, about))});
    const json body{{"messages", messages}, {"max_tokens", 1}};
    return ask("/v1/chat/completions", body).object()["timings"]["cache_n"].get<int>();
  };
  EXPECT_EQ(cached('a'), 0);
  EXPECT_LT(cached('b'), 10) << "no more than what the template begins with";
  EXPECT_GT(cached('a'), 200);
  EXPECT_GT(cached('b'), 200);
  EXPECT_LT(cached('c'), 10) << "takes the place of the one that was not used for longest";
  EXPECT_GT(cached('b'), 200);
  EXPECT_LT(cached('a'), 10);
}

TEST_F(sim_llama, who_starts_anew_or_crashes_has_read_nothing) {
  const auto cached = [&] {
    return ask("/v1/chat/completions", llama_talk(true)).object()["timings"]["cache_n"].get<int>();
  };
  EXPECT_EQ(cached(), 0);
  EXPECT_GT(cached(), 0);
  phones_->stop_phone(0);
  phones_->start_phone(0);
  EXPECT_EQ(cached(), 0);
  set(fault_kind::crash);
  phones_->clear_fault(0);
  EXPECT_EQ(cached(), 0);
}

TEST_F(sim_llama, reads_everything_without_the_cache) {
  auto settings = fast(engine_kind::llama_server);
  settings.prompt_cache = false;
  run(settings);
  for (int i = 0; i < 2; ++i)
    EXPECT_EQ(ask("/v1/chat/completions", llama_talk(true)).object()["timings"]["cache_n"], 0);
}

TEST_F(sim_ollama, counts_the_whole_prompt_and_the_time_of_what_was_read) {
  auto settings = fast(engine_kind::ollama);
  settings.prefill_rate = 2000;
  settings.other_models = {"tiny"};
  run(settings);
  const auto turn = [&](bool second, const char* model = "qwen2.5:1.5b") {
    json body = talk(second, std::string(1600, 'x'));
    body["model"] = model;
    body["options"]["num_predict"] = 4;
    return ask("/api/chat", body).object();
  };
  const json first = turn(false);
  EXPECT_GT(first["prompt_eval_duration"], 200'000'000);
  const json second = turn(true);
  EXPECT_GT(second["prompt_eval_count"], first["prompt_eval_count"]) << "with those of the cache";
  EXPECT_GT(state().cached_tokens, 400U);
  const auto read = state().prompt_tokens;
  EXPECT_LT(read, 2 * first["prompt_eval_count"].get<std::uint64_t>());

  const auto before = state().cached_tokens;
  turn(true, "tiny");
  turn(true);
  EXPECT_EQ(state().cached_tokens, before) << "another model has been in between";
}

}  // namespace
}  // namespace pocketfleet::sim_test
