// Every fault of the simulated phones, before and after the first content: what the client gets, and that
// the phone is free afterwards.
#include <gmock/gmock.h>

#include "gateway_helpers.hpp"

namespace pocketfleet::testing_gateway {
namespace {

using sim::fault_kind;

/// What becomes of a request.
struct outcome {
  fault_kind kind;
  int alone;     ///< status, when the faulty phone is the only one
  bool rescued;  ///< another phone is tried before content has gone out
};

/// Faults that hit before the first content.
std::vector<outcome> early() {
  return {
      {fault_kind::none, 200, false},       {fault_kind::slow, 200, false},
      {fault_kind::refuse, 502, true},      {fault_kind::crash, 502, true},
      {fault_kind::error_500, 502, true},   {fault_kind::busy_503, 503, true},
      {fault_kind::loading_503, 503, true}, {fault_kind::html, 502, true},
      {fault_kind::reset_after, 502, true}, {fault_kind::close_after, 502, true},
      {fault_kind::truncated, 502, true},   {fault_kind::error_in_stream, 502, true},
      {fault_kind::garbage, 502, true},     {fault_kind::end_without_done, 502, true},
      {fault_kind::huge_line, 502, true},
  };
}

/// Faults that hit in mid-answer.
const std::vector<outcome> late{
    {fault_kind::reset_after, 502, true},
    {fault_kind::close_after, 502, true},
    {fault_kind::truncated, 502, true},
    {fault_kind::error_in_stream, 502, true},
    {fault_kind::garbage, 502, true},
    {fault_kind::huge_line, 502, true},
    // The model repeats itself, most of all: another phone would too.
    {fault_kind::end_without_done, 502, false},
};

class gateway_faults_test : public gateway_test, public testing::WithParamInterface<engine_kind> {
 protected:
  sim::phone_settings faulty() {
    auto s = phone(GetParam(), "faulty");
    s.decode_rate = 40;  // so that what came before a fault has arrived when it strikes
    s.answer_tokens = 6;
    return s;
  }
  /// The faulty phone, which gets the requests first, and a good one.
  void start_pair() {
    auto good =
        phone(GetParam() == engine_kind::ollama ? engine_kind::llama_server : engine_kind::ollama, "good");
    good.answer_tokens = 6;
    start_phones({faulty(), good});
    config_.phones[0].weight = 1'000;
    start();
  }
  void all_is_well_again() {
    phones_->clear_fault(0);
    EXPECT_TRUE(becomes_idle());
    EXPECT_TRUE(await([this] {
      const auto all = gateway_->phones();
      return std::none_of(all.begin(), all.end(), [](const auto& p) { return p.suspect; });
    }));
  }
  void make_impatient() {
    auto& times = config_.gateway.service.times;
    times.first_token = times.first_token_loading = times.between_tokens = milliseconds{400};
  }
};

INSTANTIATE_TEST_SUITE_P(engines, gateway_faults_test,
                         testing::Values(engine_kind::ollama, engine_kind::llama_server), [](const auto& p) {
                           return p.param == engine_kind::ollama ? "ollama" : "llama_server";
                         });

TEST_P(gateway_faults_test, before_the_first_content_a_lone_phones_fault_has_its_status) {
  start({faulty()});
  for (const auto& each : early()) {
    for (const auto* target : {"/ask", "/ask_stream"}) {
      set(0, each.kind);
      const auto got = ask(fresh(2), target);
      EXPECT_EQ(got.status, each.alone) << to_string(each.kind) << " " << target << " " << got.body;
      EXPECT_TRUE(got.whole) << to_string(each.kind);
      if (each.alone == 200) {
        EXPECT_EQ(got.text(), count(2)) << to_string(each.kind);
      } else {
        const json body = got.object();
        EXPECT_TRUE(body.contains("error") && body["error"].is_string()) << got.body;
        EXPECT_EQ(got.body.find("Sign in"), std::string::npos) << "a phone's bytes are not passed on";
      }
      all_is_well_again();
    }
  }
  EXPECT_EQ(ask(fresh(3)).text(), count(3));
}

TEST_P(gateway_faults_test, before_the_first_content_another_phone_is_tried) {
  start_pair();
  for (const auto& each : early()) {
    for (const auto* target : {"/ask", "/ask_stream"}) {
      set(0, each.kind);
      const auto got = ask(fresh(2), target);
      if (each.rescued) {
        EXPECT_EQ(got.status, 200) << to_string(each.kind) << " " << target << " " << got.body;
        EXPECT_EQ(got.text(), count(2)) << to_string(each.kind);
        EXPECT_EQ(got.header("X-Phone"), "good") << to_string(each.kind);
        if (got.status == 200) {
          EXPECT_EQ(got.lines().back()["pocketfleet"]["attempts"], 2) << to_string(each.kind);
        }
      } else {
        EXPECT_EQ(got.status, each.alone) << to_string(each.kind) << " " << target << " " << got.body;
        EXPECT_EQ(got.header("X-Phone"), "faulty") << to_string(each.kind);
      }
      all_is_well_again();
    }
  }
}

TEST_P(gateway_faults_test, after_the_first_content_a_stream_goes_on_from_another_phone) {
  auto twin = faulty();
  twin.name = "twin";
  start_phones({faulty(), twin});
  config_.phones[0].weight = 1'000;
  start();
  for (const auto& each : late) {
    set(0, each.kind, 3);
    const auto got = ask(fresh(), "/ask_stream");
    ASSERT_EQ(got.status, 200) << to_string(each.kind);
    if (each.rescued) {
      EXPECT_TRUE(got.whole) << to_string(each.kind) << got.body;
      EXPECT_EQ(got.text(), count(6)) << to_string(each.kind) << ": nothing twice, nothing lost";
      const json last = got.lines().back();
      EXPECT_EQ(last["pocketfleet"]["rescues"], 1) << to_string(each.kind);
      EXPECT_EQ(last["eval_count"], 6) << to_string(each.kind);
    } else {
      EXPECT_FALSE(got.whole) << to_string(each.kind);
      EXPECT_TRUE(got.lines().back().contains("error")) << to_string(each.kind);
    }
    all_is_well_again();
  }
  EXPECT_GT(metric("pocketfleet_rescues_total{outcome=\"ok\"}"), 0);
}

TEST_P(gateway_faults_test, where_no_other_phone_may_go_on_a_stream_ends_with_an_error_and_is_cut) {
  start_pair();
  for (const auto& each : late) {
    set(0, each.kind, 3);
    json asked = fresh();
    asked["rescue"] = false;
    const auto got = ask(asked, "/ask_stream");
    ASSERT_EQ(got.status, 200) << to_string(each.kind);
    EXPECT_FALSE(got.whole) << to_string(each.kind) << ": the body has no proper end";
    const auto lines = got.lines();
    ASSERT_GE(lines.size(), 2U) << to_string(each.kind);
    EXPECT_EQ(count(3).find(got.text()), 0U) << to_string(each.kind) << got.text();
    EXPECT_TRUE(lines.back().contains("error") && lines.back()["error"].is_string()) << to_string(each.kind);
    EXPECT_FALSE(lines.back().contains("done")) << to_string(each.kind);
    all_is_well_again();
  }
}

TEST_P(gateway_faults_test, after_the_first_content_a_whole_answer_is_begun_anew_on_another_phone) {
  start_pair();
  for (const auto& each : late) {
    set(0, each.kind, 3);
    const auto got = ask(fresh());
    EXPECT_EQ(got.status, each.rescued ? 200 : each.alone) << to_string(each.kind) << got.body;
    if (each.rescued) {
      EXPECT_EQ(got.text(), count(6)) << to_string(each.kind) << ": nothing twice, nothing lost";
      EXPECT_EQ(got.header("X-Phone"), "good") << to_string(each.kind);
    }
    all_is_well_again();
  }
}

TEST_P(gateway_faults_test, running_answers_outlive_a_phone_that_stops_listening_but_not_its_crash) {
  start({faulty()});
  http_client client(port_);
  client.post("/ask_stream", fresh());
  client.read_lines(2);
  set(0, fault_kind::refuse);
  auto got = client.read();
  EXPECT_TRUE(got.whole);
  EXPECT_EQ(got.text(), count(6));
  all_is_well_again();

  client.post("/ask_stream", fresh(1'000));
  client.read_lines(2);
  set(0, fault_kind::crash);
  got = client.read();
  EXPECT_FALSE(got.whole);
  EXPECT_TRUE(got.lines().back().contains("error"));
  all_is_well_again();
}

TEST_P(gateway_faults_test, a_silent_phone_is_given_up_in_time) {
  make_impatient();
  start({faulty()});
  for (const auto kind : {fault_kind::hang, fault_kind::silent_after}) {
    set(0, kind);
    EXPECT_EQ(ask(fresh(), "/ask_stream").status, 504) << to_string(kind);
    all_is_well_again();
  }
  set(0, fault_kind::silent_after, 3);
  json asked = fresh();
  asked["rescue"] = false;
  const auto got = ask(asked, "/ask_stream");
  EXPECT_EQ(got.status, 200);
  EXPECT_FALSE(got.whole);
  EXPECT_EQ(got.text(), count(3));
  EXPECT_TRUE(got.lines().back().contains("error"));
  all_is_well_again();
}

TEST_P(gateway_faults_test, a_silent_phones_request_is_done_by_another) {
  make_impatient();
  start_pair();
  for (const auto& [kind, after] :
       {std::pair{fault_kind::hang, 0U}, {fault_kind::silent_after, 0U}, {fault_kind::silent_after, 3U}}) {
    set(0, kind, after);
    const auto got = ask(fresh());
    EXPECT_EQ(got.status, 200) << to_string(kind) << after;
    EXPECT_EQ(got.text(), count(6)) << to_string(kind) << after;
    EXPECT_EQ(got.header("X-Phone"), "good") << to_string(kind) << after;
    all_is_well_again();
  }
}

// ---- more than one request

TEST_F(gateway_test, permits_are_exact_after_many_failures_and_leavings) {
  std::vector<sim::phone_settings> four{
      phone(engine_kind::ollama, "o1"), phone(engine_kind::llama_server, "l1"),
      phone(engine_kind::ollama, "o2"), phone(engine_kind::llama_server, "l2")};
  for (auto& p : four) {
    p.slots = 2;
    p.decode_rate = 500;
  }
  start(std::move(four));
  const std::vector<fault_kind> kinds{fault_kind::reset_after, fault_kind::error_500, fault_kind::close_after,
                                      fault_kind::garbage};
  for (std::size_t i = 0; i < 4; ++i) set(i, kinds[i], static_cast<unsigned>(i), 10);
  std::vector<std::thread> clients;
  for (unsigned c = 0; c < 12; ++c) {
    clients.emplace_back([this, c] {
      for (unsigned i = 0; i < 6; ++i) {
        http_client client(port_);
        client.post((c + i) % 2 == 0 ? "/ask" : "/ask_stream",
                    question(std::to_string(c) + " " + std::to_string(i), 20));
        if ((c * i) % 3 == 1) {
          client.read_lines(i % 2);
          client.leave();
        } else {
          client.read();
        }
      }
    });
  }
  for (auto& c : clients) c.join();
  EXPECT_TRUE(becomes_idle());
  for (std::size_t i = 0; i < 4; ++i) {
    const auto s = phones_->state(i);
    EXPECT_EQ(s.requests, s.completed + s.cancelled + s.failed);
    EXPECT_LE(s.max_active, 2U);
    phones_->clear_fault(i);
  }
  for (unsigned i = 0; i < 8; ++i) EXPECT_EQ(ask(fresh(5)).text(), count(5)) << "every phone serves";
}

TEST_F(gateway_test, a_request_that_fails_everywhere_is_tried_a_bounded_number_of_times) {
  std::vector<sim::phone_settings> five;
  for (const auto* name : {"a", "b", "c", "d", "e"}) five.push_back(phone(engine_kind::ollama, name));
  start(std::move(five));
  for (std::size_t i = 0; i < 5; ++i) set(i, fault_kind::html);
  EXPECT_EQ(ask(fresh()).status, 502);
  EXPECT_EQ(requests_seen(), 3U) << "three attempts, each on another phone";
  for (std::size_t i = 0; i < 5; ++i) EXPECT_LE(phones_->state(i).requests, 1U);
}

TEST_F(gateway_test, a_request_that_makes_every_phone_fail_opens_at_most_one_breaker) {
  config_.gateway.dispatch.breaker.failures = 5;
  std::vector<sim::phone_settings> four;
  for (const auto* name : {"a", "b", "c", "d"}) four.push_back(phone(engine_kind::ollama, name));
  start(std::move(four));
  for (std::size_t i = 0; i < 4; ++i) set(i, fault_kind::error_500);
  for (std::size_t i = 1; i <= 4; ++i) {
    EXPECT_EQ(ask(fresh()).status, 502);
    EXPECT_EQ(requests_seen(), 2 * i) << "a second phone is asked, and no third";
  }
  for (const auto& p : gateway_->phones()) EXPECT_NE(p.breaker, breaker_state::open) << p.config.name;
}

TEST_F(gateway_test, a_phone_that_fails_again_and_again_is_left_alone) {
  config_.gateway.dispatch.breaker.failures = 5;
  start({phone(engine_kind::ollama, "one")});
  set(0, fault_kind::error_500);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(ask(fresh()).status, 502);
  const auto got = ask(fresh());
  EXPECT_EQ(got.status, 503);
  EXPECT_GE(std::stoi("0" + got.header("Retry-After")), 20) << "as long as it rests";
  EXPECT_EQ(requests_seen(), 5U);
  const json health = http_client(port_).get("/health").object()["phones"][0];
  EXPECT_EQ(health["healthy"], false);
  EXPECT_EQ(health["breaker"], "open");
}

TEST_F(gateway_test, a_phone_that_goes_and_comes_back_is_noticed) {
  config_.gateway.service.probe.fall = 3;
  config_.gateway.service.probe.timeout = milliseconds{1'000};
  start({phone(engine_kind::llama_server, "one")});
  phones_->stop_phone(0);
  ASSERT_TRUE(await([&] { return !gateway_->phones()[0].healthy; }));
  const auto got = ask(fresh());
  EXPECT_EQ(got.status, 503);
  EXPECT_NE(got.header("Retry-After"), "");
  phones_->start_phone(0);
  ASSERT_TRUE(await([&] { return gateway_->phones()[0].healthy; }));
  EXPECT_EQ(ask(fresh()).status, 200);
}

TEST_F(gateway_test, a_retry_under_way_uses_up_the_budget) {
  config_.gateway.dispatch.retry_share = 0;
  config_.gateway.dispatch.retry_floor = 1;
  const auto ollama = engine_kind::ollama;
  auto good = phone(ollama, "good");
  good.slots = 2;
  start_phones({phone(ollama, "bad"), good});
  config_.phones[1].max_concurrency = 2;
  config_.phones[0].weight = 1'000;  // it is asked first
  start();
  set(0, fault_kind::error_500);
  set(1, fault_kind::hang, 0, 1);
  http_client first(port_);
  first.post("/ask", fresh(3));  // its retry hangs
  ASSERT_TRUE(await([this] { return phones_->state(1).requests == 1; }));
  ASSERT_TRUE(await([this] { return !gateway_->phones()[0].suspect; }));
  http_client second(port_);
  second.post("/ask", fresh(3));
  ASSERT_TRUE(await([this] { return metric("pocketfleet_queue_length") == 1; }))
      << "it waits for the only place for a retry, though the good phone has a permit left";
  EXPECT_EQ(phones_->state(1).requests, 1U);
  first.leave();
  EXPECT_EQ(second.read().text(), count(3)) << "the place is free again";
  EXPECT_TRUE(becomes_idle());
}

}  // namespace
}  // namespace pocketfleet::testing_gateway
