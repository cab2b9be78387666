#include "pocketfleet/core/retry.hpp"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

namespace pocketfleet {
namespace {

struct rule {
  errc code;
  bool retried;
  verdict says;
};

const std::vector<rule> rules{
    // the client's doing: fails everywhere, says nothing of the phone
    {errc::bad_request, false, verdict::neutral},
    {errc::model_not_found, false, verdict::neutral},
    {errc::unsupported, true, verdict::neutral},
    {errc::not_served, true, verdict::neutral},
    {errc::rejected, false, verdict::neutral},
    // the fleet's
    {errc::no_phone, false, verdict::neutral},
    {errc::queue_full, false, verdict::neutral},
    {errc::queue_timeout, false, verdict::neutral},
    {errc::deadline, false, verdict::neutral},
    {errc::shutting_down, false, verdict::neutral},
    {errc::overloaded, false, verdict::neutral},
    // the phone's
    {errc::connect_failed, true, verdict::unreachable},
    {errc::connection_lost, true, verdict::failure},
    {errc::first_token_timeout, true, verdict::failure},
    {errc::stalled, true, verdict::failure},
    {errc::bad_response, true, verdict::failure},
    {errc::phone_error, true, verdict::failure},
    {errc::phone_busy, true, verdict::failure},
    {errc::phone_loading, true, verdict::neutral},
    {errc::model_missing, true, verdict::neutral},
    {errc::truncated, false, verdict::failure},
    // nobody's
    {errc::client_gone, false, verdict::neutral},
    {errc::aborted, false, verdict::neutral},
};

TEST(retry, another_phone_is_tried_for_what_it_may_do_better_and_nothing_else) {
  for (const auto& r : rules) EXPECT_EQ(retryable(r.code), r.retried) << to_string(r.code);
}

TEST(retry, only_what_a_phone_has_done_is_held_against_it) {
  for (const auto& r : rules) EXPECT_EQ(verdict_of(r.code), r.says) << to_string(r.code);
}

TEST(retry, an_error_never_speaks_for_a_phone) {
  for (int code = 0; code <= static_cast<int>(errc::aborted); ++code) {
    EXPECT_NE(verdict_of(static_cast<errc>(code)), verdict::success) << code;
  }
}

TEST(error, each_code_has_a_name_of_its_own) {
  std::set<std::string_view> names;
  for (int code = 0; code <= static_cast<int>(errc::aborted); ++code) {
    const auto name = to_string(static_cast<errc>(code));
    EXPECT_NE(name, "unknown") << code;
    EXPECT_TRUE(names.insert(name).second) << name;
    EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_"), std::string_view::npos) << name;
  }
}

TEST(retry_budget, a_few_retries_are_always_there) {
  retry_budget b(0.2, 3);
  EXPECT_TRUE(b.take(1));
  EXPECT_TRUE(b.take(1));
  EXPECT_TRUE(b.take(0));
  EXPECT_FALSE(b.take(1));
  EXPECT_EQ(b.in_flight(), 3U);
}

TEST(retry_budget, allows_a_fifth_of_many_requests) {
  retry_budget b(0.2, 3);
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(b.take(100)) << i;
  EXPECT_FALSE(b.take(100));
  EXPECT_TRUE(b.take(105)) << "more requests, more retries";
}

TEST(retry_budget, a_place_given_back_can_be_taken_again) {
  retry_budget b(0.2, 1);
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(b.take(1));
    ASSERT_FALSE(b.take(1));
    b.give_back();
  }
  EXPECT_EQ(b.in_flight(), 0U);
}

TEST(retry_budget, fewer_requests_take_nothing_back_but_allow_nothing_new) {
  retry_budget b(0.5, 0);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(b.take(10));
  EXPECT_FALSE(b.take(4));
  EXPECT_EQ(b.in_flight(), 5U);
  for (int i = 0; i < 4; ++i) b.give_back();
  EXPECT_TRUE(b.take(4));
}

TEST(retry_budget, none_at_all_can_be_set) {
  retry_budget b(0, 0);
  EXPECT_FALSE(b.take(1000));
}

// ---- after a failure

next_step after(const failed_attempt& f) {
  return after_failure(f, {3, 2});
}

TEST(after_failure, before_the_first_content_another_phone_tries) {
  EXPECT_EQ(after({.code = errc::connect_failed, .tries = 1}), next_step::again);
  EXPECT_EQ(after({.code = errc::connection_lost, .tries = 2}), next_step::again);
  EXPECT_EQ(after({.code = errc::connection_lost, .tries = 3}), next_step::give_up);
  EXPECT_EQ(after({.code = errc::rejected, .tries = 1}), next_step::give_up) << "the client's doing";
}

TEST(after_failure, what_was_shown_is_gone_on_with_or_ends) {
  failed_attempt f{.code = errc::stalled, .pieces = 1, .shown = true, .can_resume = true, .tries = 1};
  EXPECT_EQ(after(f), next_step::rescue);
  f.rescues = 2;
  EXPECT_EQ(after(f), next_step::give_up);
  f.rescues = 0;
  f.can_resume = false;
  EXPECT_EQ(after(f), next_step::give_up) << "never again from the beginning";
}

TEST(after_failure, what_nobody_has_seen_goes_the_cheaper_way) {
  failed_attempt f{.code = errc::stalled, .pieces = 15, .can_resume = true, .tries = 1};
  EXPECT_EQ(after(f), next_step::again);
  f.pieces = 16;
  EXPECT_EQ(after(f), next_step::rescue);
  f.resumed = true;
  EXPECT_EQ(after(f), next_step::again) << "where going on has failed, any phone may begin anew";
  f.resumed = false;
  f.can_resume = false;
  EXPECT_EQ(after(f), next_step::again);
}

TEST(after_failure, a_request_that_makes_two_phones_fail_is_not_given_to_a_third) {
  EXPECT_EQ(after({.code = errc::phone_error, .tries = 1, .phone_errors = 1}), next_step::again);
  EXPECT_EQ(after({.code = errc::phone_error, .tries = 2, .phone_errors = 2}), next_step::give_up);
}

TEST(after_failure, a_clean_end_without_the_end_marker_is_not_repeated) {
  EXPECT_EQ(after({.code = errc::truncated, .pieces = 40, .shown = true, .can_resume = true, .tries = 1}),
            next_step::give_up);
}

}  // namespace
}  // namespace pocketfleet
