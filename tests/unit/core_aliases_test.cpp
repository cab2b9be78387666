#include <gmock/gmock.h>

#include "core_dispatcher_helpers.hpp"

namespace pocketfleet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing_dispatcher::dispatcher_test;
using testing_dispatcher::good;
using testing_dispatcher::phone_named;

phone_config with_aliases(phone_config c, std::vector<model_alias> aliases) {
  c.aliases = std::move(aliases);
  return c;
}

phone_target ollama_with(std::vector<served_model> models, std::vector<model_alias> aliases,
                         const std::string& its_default = {}) {
  phone_target t;
  t.engine = engine_kind::ollama;
  t.models = std::move(models);
  t.aliases = std::move(aliases);
  t.model = its_default;
  return t;
}

std::vector<std::string> names(const phone_target& phone) {
  std::vector<std::string> out;
  for (const auto& each : names_of(phone)) out.push_back(std::string(each.name) + "=" + each.model->name);
  return out;
}

TEST(aliases, the_phone_is_asked_for_its_own_name) {
  const auto phone = ollama_with({{"qwen2.5:1.5b"}, {"phi"}}, {{"small", "qwen2.5:1.5b"}}, "phi");
  EXPECT_EQ(model_for(phone, "small"), "qwen2.5:1.5b");
  EXPECT_EQ(model_for(phone, "SMALL:latest"), "qwen2.5:1.5b") << "compared as all names are";
  EXPECT_EQ(model_for(phone, "phi"), "phi");
  EXPECT_EQ(model_for(phone, "Other"), "Other") << "left to the phone to refuse";
  EXPECT_EQ(model_for(phone, ""), "phi");
}

TEST(aliases, the_default_may_be_one) {
  const auto phone = ollama_with({{"phi", "1"}, {"qwen", "2"}}, {{"small", "qwen"}}, "small");
  EXPECT_EQ(model_for(phone, ""), "qwen");
  EXPECT_EQ(identity_of(phone, ""), "2");
}

TEST(aliases, a_model_of_that_very_name_goes_before) {
  const auto phone = ollama_with({{"small:latest", "1"}, {"qwen", "2"}}, {{"small", "qwen"}});
  EXPECT_EQ(model_for(phone, "small"), "small");
  EXPECT_EQ(identity_of(phone, "small:latest"), "1");
  EXPECT_THAT(names(phone), ElementsAre("small:latest=small:latest", "qwen=qwen"));
}

TEST(aliases, what_is_behind_one_is_known) {
  const auto phone = ollama_with({{"phi", "1"}, {"Qwen:latest", "2"}}, {{"small", "qwen"}, {"big", "gone"}});
  EXPECT_EQ(identity_of(phone, "small:latest"), "2");
  EXPECT_EQ(identity_of(phone, "big:latest"), "");
  EXPECT_THAT(names(phone), ElementsAre("phi=phi", "Qwen:latest=Qwen:latest", "small=Qwen:latest"))
      << "none whose model is not there";
}

TEST(aliases, are_just_names_for_the_one_model_of_a_llama_server) {
  phone_target phone = ollama_with({{"/data/q.gguf", "1"}}, {{"small", "whatever"}}, "qwen");
  phone.engine = engine_kind::llama_server;
  EXPECT_EQ(identity_of(phone, "small:latest"), "1");
  EXPECT_THAT(names(phone),
              ElementsAre("/data/q.gguf=/data/q.gguf", "small=/data/q.gguf", "qwen=/data/q.gguf"));
  phone.models.clear();
  EXPECT_THAT(names(phone), ElementsAre());
}

TEST_F(dispatcher_test, an_alias_is_a_model_where_the_phone_has_what_is_behind_it) {
  begin({with_aliases(phone_named("a", 4, 1, ""), {{"small", "qwen:1b"}}),
         with_aliases(phone_named("b", 4, 1, ""), {{"small", "phi"}, {"Big", "gone:7b"}})});
  d_->report(id("a"), good({"qwen:1b"}), now_);
  d_->report(id("b"), good({"phi:latest"}), now_);
  EXPECT_NE(asked(model("small:latest")), asked(model("small:latest"))) << "both have it";
  EXPECT_EQ(asked(model("qwen:1b")), "a");
  const error e = refused(model("big:latest"));
  EXPECT_EQ(e.code, errc::model_not_found);
  EXPECT_THAT(e.message, HasSubstr("phi:latest, qwen:1b, small"));
}

TEST_F(dispatcher_test, aliases_come_and_go_with_the_file) {
  begin({phone_named("a", 4)});
  d_->report(id("a"), good(), now_);
  EXPECT_EQ(asked(model("small:latest")), "model_not_found");
  d_->configure(std::vector{with_aliases(phone_named("a", 4), {{"small", testing_dispatcher::qwen}})}, now_);
  EXPECT_EQ(asked(model("small:latest")), "a");
  d_->configure(std::vector{phone_named("a", 4)}, now_);
  EXPECT_EQ(asked(model("small:latest")), "model_not_found");
}

TEST_F(dispatcher_test, an_alias_for_the_default_counts_before_the_phone_has_said_what_it_has) {
  begin({with_aliases(phone_named("a", 4, 1, "qwen"), {{"small", "QWEN:latest"}, {"big", "phi"}})});
  phone_report r = good();
  r.models.reset();
  d_->report(id("a"), r, now_);
  EXPECT_EQ(asked(model("small:latest")), "a");
  EXPECT_EQ(asked(model("qwen:latest")), "a");
}

TEST_F(dispatcher_test, a_default_that_is_an_alias_counts_with_the_model_behind_it) {
  begin({with_aliases(phone_named("a", 4, 1, "small"), {{"small", "qwen"}})});
  phone_report r = good();
  r.models.reset();
  d_->report(id("a"), r, now_);
  EXPECT_EQ(asked(model("small:latest")), "a");
  EXPECT_EQ(asked(model("qwen:latest")), "a");
  d_->report(id("a"), good({"qwen:latest"}), now_);
  EXPECT_EQ(asked(), "a");
}

TEST_F(dispatcher_test, the_engines_for_a_model) {
  constexpr auto ollama = mask_of(engine_kind::ollama);
  constexpr auto llama = mask_of(engine_kind::llama_server);
  begin({with_aliases(phone_named("a", 1, 1, "", engine_kind::ollama), {{"small", "phi"}}),
         phone_named("b", 1, 1, "", engine_kind::llama_server)});
  EXPECT_EQ(d_->engines("phi:latest"), any_engine) << "nothing is known yet of either";
  d_->report(id("a"), good({"phi", "qwen"}), now_);
  d_->report(id("b"), good({"qwen"}, engine_kind::llama_server), now_);
  EXPECT_EQ(d_->engines("phi:latest"), ollama);
  EXPECT_EQ(d_->engines("small:latest"), ollama);
  EXPECT_EQ(d_->engines("qwen:latest"), any_engine);
  EXPECT_EQ(d_->engines(""), any_engine);
  EXPECT_EQ(d_->engines("gone:latest"), any_engine) << "for acquire() to refuse";
  d_->configure(std::vector{phone_named("b", 1, 1, "", engine_kind::llama_server)}, now_);
  EXPECT_EQ(d_->engines(""), llama);
  d_->configure(std::vector{phone_named("b", 1, 1, "", engine_kind::llama_server),
                            phone_named("c", 1, 1, "", engine_kind::unknown)},
                now_);
  EXPECT_EQ(d_->engines("qwen:latest"), any_engine) << "c may have it, and be anything";
}

}  // namespace
}  // namespace pocketfleet
