// What a request needs of a phone, and which phones can do it.
#include "core_dispatcher_helpers.hpp"

#include <gmock/gmock.h>

namespace pocketfleet::testing_dispatcher {
namespace {

using testing::SizeIs;

TEST_F(dispatcher_test, only_engines_that_can_do_it_are_granted) {
  begin_up({phone_named("o"), phone_named("l", 1, 1, qwen, engine_kind::llama_server)});
  want w;
  w.engines = mask_of(engine_kind::llama_server);
  EXPECT_EQ(asked(w), "l");
  EXPECT_EQ(asked(w), "queued");
  EXPECT_EQ(d_->engines(), any_engine);
}

TEST_F(dispatcher_test, what_no_engine_of_the_fleet_can_do_is_unsupported) {
  begin_up({phone_named("l", 1, 1, qwen, engine_kind::llama_server)});
  want w;
  w.engines = mask_of(engine_kind::ollama);
  EXPECT_EQ(refused(w).code, errc::unsupported);
  EXPECT_EQ(d_->engines(), mask_of(engine_kind::llama_server));
}

TEST_F(dispatcher_test, an_engine_that_is_not_known_yet_may_turn_out_to_be_any) {
  begin({phone_named("a", 1, 1, qwen, engine_kind::unknown)});
  want w;
  w.engines = mask_of(engine_kind::llama_server);
  EXPECT_EQ(d_->engines(), any_engine);
  EXPECT_EQ(asked(w), "queued");
  const auto out = d_->report(id("a"), good({qwen}, engine_kind::llama_server), now_);
  ASSERT_THAT(out, SizeIs(1));
  EXPECT_EQ(out[0].what.phone->engine, engine_kind::llama_server) << "what was found, not what was known";
}

TEST_F(dispatcher_test, images_go_only_to_phones_that_take_them) {
  begin_up({phone_named("a"), phone_named("b")});
  auto blind = good();
  blind.vision = false;
  d_->report(id("a"), blind, now_);
  want w;
  w.vision = true;
  EXPECT_EQ(asked(w), "b");
  d_->report(id("b"), blind, now_);
  EXPECT_EQ(refused(w).code, errc::unsupported);
  EXPECT_EQ(asked(), "a") << "without images it serves";
}

TEST_F(dispatcher_test, anthropics_api_is_asked_of_phones_that_serve_it) {
  begin_up({phone_named("a"), phone_named("b")});
  auto old = good();
  old.messages = false;
  d_->report(id("a"), old, now_);
  want w;
  w.messages = true;
  EXPECT_EQ(asked(w), "b");
  d_->report(id("b"), old, now_);
  EXPECT_EQ(refused(w).code, errc::unsupported);
  EXPECT_EQ(asked(), "a") << "it serves otherwise";
}

TEST_F(dispatcher_test, another_engine_may_do_what_the_one_before_could_not) {
  begin_up({phone_named("a")});
  auto old = good();
  old.messages = old.vision = false;
  d_->report(id("a"), old, now_);
  want w;
  w.messages = w.vision = true;
  EXPECT_EQ(refused(w).code, errc::unsupported);
  d_->report(id("a"), good({qwen}, engine_kind::llama_server), now_);
  EXPECT_EQ(asked(w), "a");
}

}  // namespace
}  // namespace pocketfleet::testing_dispatcher
