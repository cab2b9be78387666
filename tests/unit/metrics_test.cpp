// What /metrics says, as text.
#include "pocketfleet/app/metrics.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pocketfleet {
namespace {

using testing::HasSubstr;

/// The file lets no such name through, nor do heartbeats: the writer is the second fence.
TEST(metrics, what_would_break_a_line_is_escaped) {
  metrics all;
  phone_status p;
  p.config.name = "a\"b\\c\nd } 1 \u00fc";
  attempt_record r;
  r.phone = p.config.name;
  r.outcome = "ok";
  all.on_attempt(r);
  metrics_look now;
  now.phones = {p};
  const std::string text = all.text(now);
  const std::string name = R"(phone="a\"b\\c\nd } 1 )"
                           "\u00fc\"";
  EXPECT_THAT(text, HasSubstr("pocketfleet_phone_healthy{" + name + "} 0\n"));
  EXPECT_THAT(text, HasSubstr("pocketfleet_attempts_total{outcome=\"ok\"," + name + "} 1\n"));
  now.phones[0].config.name = std::string(1000, 'x');
  EXPECT_THAT(all.text(now), HasSubstr("{phone=\"" + std::string(1000, 'x') + "\"}"));
}

}  // namespace
}  // namespace pocketfleet
