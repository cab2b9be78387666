#include "pocketfleet/service/tally.hpp"

#include <gtest/gtest.h>

namespace pocketfleet {
namespace {

using namespace std::chrono_literals;

const time_point start = time_point{} + 1000s;

request_record request(std::string_view route, int status, std::string_view outcome = "ok") {
  request_record r{.request_id = "1", .route = route};
  r.status = status;
  r.outcome = outcome;
  return r;
}

TEST(tally, knows_nothing_of_a_phone_that_has_done_nothing) {
  EXPECT_TRUE(tally().phones(start).empty());
  EXPECT_TRUE(tally().histories(start).empty());
}

TEST(tally, tokens_count_as_they_come) {
  tally t;
  t.on_pieces("a", 9, start);
  const auto a = t.phones(start + 1s).at("a");
  EXPECT_DOUBLE_EQ(a.tokens_per_s, 3);
  EXPECT_FALSE(a.answer_speed || a.first_token) << "no answer has ended yet";
  EXPECT_EQ(t.histories(start + 1s).at("a").back(), 9U);
}

TEST(tally, an_answer_tells_how_fast_it_was) {
  tally t;
  t.on_attempt({.phone = "a", .outcome = "ok", .first_token = 250ms, .answer_tokens = 20, .answer_time = 4s});
  const auto a = t.phones(start).at("a");
  EXPECT_DOUBLE_EQ(a.answer_speed.value(), 5);
  EXPECT_EQ(a.first_token, 250ms);
  EXPECT_EQ(a.answers, 1U);
  EXPECT_EQ(a.answer_tokens, 20U);
}

TEST(tally, a_failure_leaves_the_speed_that_was_known) {
  tally t;
  t.on_attempt({.phone = "a", .outcome = "ok", .first_token = 250ms, .answer_tokens = 20, .answer_time = 4s});
  t.on_attempt({.phone = "a", .outcome = "connection_lost"});
  t.on_attempt({.phone = "a", .outcome = "aborted"});  // its client left
  const auto a = t.phones(start).at("a");
  EXPECT_DOUBLE_EQ(a.answer_speed.value(), 5);
  EXPECT_EQ(a.first_token, 250ms);
  EXPECT_EQ(a.failures, 1U);
}

TEST(tally, only_requests_that_ask_a_model_count) {
  tally t;
  t.on_request(request("/ask", 200));
  t.on_request(request("/v1/chat/completions", 200));
  t.on_request(request("/health", 200));
  t.on_request(request("/events", 200));
  EXPECT_EQ(t.requests().requests, 2U);
  EXPECT_EQ(t.requests().failed, 0U);
}

TEST(tally, what_is_the_clients_own_doing_is_no_failure) {
  tally t;
  t.on_request(request("/ask", 400, "bad_request"));
  t.on_request(request("/ask", 499, "client_gone"));
  EXPECT_EQ(t.requests().failed, 0U);
  t.on_request(request("/ask", 503, "queue_full"));
  t.on_request(request("/ask_stream", 200, "connection_lost"));  // broken off after it had begun
  EXPECT_EQ(t.requests().failed, 2U);
  EXPECT_EQ(t.requests().requests, 4U);
}

}  // namespace
}  // namespace pocketfleet
