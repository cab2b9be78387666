// What is asked of the fleet, and when.
#pragma once

#include <optional>

#include "phones.hpp"

namespace pocketfleet::fleet {

struct request {
  double arrival = 0;  ///< seconds; with `after`: from that one's end
  std::optional<std::size_t> after{};
  text prompt;
  std::uint32_t answer = 1;     ///< tokens; nobody knows before
  std::uint32_t limit = 0;      ///< set by the client; 0: none
  std::uint64_t answer_id = 0;  ///< of the text that ends with the answer
  std::uint32_t prompt_bytes = 0;
  std::uint32_t answer_bytes = 0;    ///< 0: nobody goes on behind it
  std::vector<std::uint32_t> bytes;  ///< of each segment of the prompt
  std::uint64_t owner = 0;
  bool batch = false;
};

struct workload {
  std::string name;
  std::vector<request> requests;
  double horizon = 0;          ///< the run is broken off then; 0: when all is done
  double counted_from = 0;     ///< latencies of requests that came earlier do not count: the fleet was new
  std::size_t population = 0;  ///< closed loop: so many under way at any time, and arrivals mean nothing
  bool known = true;           ///< the fleet has answered a little before
};

/// batch-N, batch-N-cold, poisson-PERCENT, conversations-PERCENT, mixed, hour.
workload make_workload(std::string_view name, const std::vector<phone_spec>& phones, std::uint64_t seed);

/// Requests a second that the fleet could do at most, cool, each of that many tokens to read and to write.
double capacity(const std::vector<phone_spec>& phones, double prompt, double answer);

}  // namespace pocketfleet::fleet
