// A group's stand-in: who answers while the group cannot.
#include "core_dispatcher_helpers.hpp"

namespace pocketfleet {
namespace {

using testing_dispatcher::bad;
using testing_dispatcher::dispatcher_test;
using testing_dispatcher::good;
using testing_dispatcher::phone_named;

constexpr auto llama = engine_kind::llama_server;

struct dispatcher_group : dispatcher_test {
  dispatcher_group() {
    phone_config big = phone_named("big", 1, 1, "big", llama);
    big.group.members = {{"a", "10.0.0.2", 50052}};
    big.group.stand_in = "Small";
    begin({big, phone_named("phone", 1, 1, "small", llama)});
    report("big", good({"big"}, llama));
    report("phone", good({"small"}, llama));
  }
  void report(const std::string& name, const phone_report& what) { d_->report(id(name), what, now_); }
};

TEST_F(dispatcher_group, nobody_stands_in_for_a_group_that_serves) {
  EXPECT_EQ(d_->stand_in("big:latest", now_), "");
  take(model("big:latest"));
  EXPECT_EQ(d_->stand_in("big:latest", now_), "") << "busy is not gone: it is waited for";
}

TEST_F(dispatcher_group, its_stand_in_does_while_it_is_down) {
  report("big", bad(health::down));
  EXPECT_EQ(d_->stand_in("big:latest", now_), "Small") << "as the file spells it";
  EXPECT_EQ(d_->stand_in("small:latest", now_), "");
  EXPECT_EQ(d_->stand_in("other:latest", now_), "");
  EXPECT_EQ(d_->stand_in("", now_), "") << "who names no model gets any";
  report("big", good({"big"}, llama));
  EXPECT_EQ(d_->stand_in("big:latest", now_), "");
}

TEST_F(dispatcher_group, it_does_as_soon_as_the_group_has_failed) {
  settle(take(model("big:latest")), verdict::failure);
  EXPECT_EQ(d_->stand_in("big:latest", now_), "Small");
  report("big", good({"big"}, llama));
  EXPECT_EQ(d_->stand_in("big:latest", now_), "") << "seen well since";
}

TEST_F(dispatcher_group, a_stand_in_that_cannot_is_none) {
  report("big", bad(health::down));
  report("phone", bad(health::down));
  EXPECT_EQ(d_->stand_in("big:latest", now_), "");
}

TEST_F(dispatcher_group, another_phone_with_the_model_goes_before) {
  report("big", bad(health::down));
  report("phone", good({"small", "big"}, llama));
  EXPECT_EQ(d_->stand_in("big:latest", now_), "");
}

TEST_F(dispatcher_group, what_its_supervisor_says_is_kept) {
  phone_report r = good({"big"}, llama);
  r.group.emplace();
  r.group->state = "serving";
  report("big", r);
  report("big", bad(health::down));  // that look did not ask
  ASSERT_TRUE(status("big").group.has_value());
  EXPECT_EQ(status("big").group->state, "serving");
}

}  // namespace
}  // namespace pocketfleet
