// Which of the phones that could take a request gets it. One policy a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "pocketfleet/core/phone.hpp"
#include "pocketfleet/core/want.hpp"

namespace pocketfleet {

/// A phone that is healthy, lets requests through and has the model; with a permit free, unless the policy
/// foresees.
struct candidate {
  phone_id phone{};
  std::uint32_t weight = 100;  ///< hundredths, at least 1: the configured weight times the slow start's share
  std::uint32_t in_flight = 0;
  std::uint32_t permits = 1;
  std::int64_t* credit =
      nullptr;  ///< the policy's own memory of this phone, 0 at first; kept by the dispatcher
  // Seconds, for a policy that foresees; else 0.
  double free_in = 0;      ///< until it has a permit for this request; 0: it has one now
  double takes = 0;        ///< what the request takes there from then on: model load, prefill, decode
  double harm = 0;         ///< what it costs others later: prompts that go from the phone's cache
  double first_token = 0;  ///< and of that until its first token
};

/// Called under the fleet's lock, so it decides from what it is given and nothing else.
class policy {
 public:
  policy() = default;
  policy(const policy&) = delete;
  policy& operator=(const policy&) = delete;
  virtual ~policy() = default;

  virtual std::string_view name() const = 0;

  /// It is to be shown phones without a free permit as well, and what the request would take on each.
  virtual bool foresees() const { return false; }

  /// Index of the chosen candidate. `candidates` is never empty and in the order of the file. If it foresees,
  /// the chosen one may have no permit free: the request is then to wait for it.
  virtual std::size_t pick(std::span<const candidate> candidates, urgency how_soon) = 0;
};

/// Smooth weighted round robin, as nginx has it: over any window of sum(weights) picks among the same
/// candidates each gets exactly its weight, and never all in one go.
std::unique_ptr<policy> make_weighted_round_robin();

/// The least busy phone: fewest requests in flight by weight; among equals, weighted round robin.
std::unique_ptr<policy> make_least_loaded();

/// Where the answer is expected to be whole soonest, and what it costs others; that may mean to wait for a
/// fast phone while a slow one is idle: for a batch, whose last answer counts, whenever it is sooner, else
/// only if it is much sooner. A weight counts a little: each halving of it makes a phone appear a tenth
/// slower.
std::unique_ptr<policy> make_adaptive();

/// By the name used in phones.json; null if there is none of that name.
std::unique_ptr<policy> make_policy(std::string_view name);
std::vector<std::string_view> policy_names();

}  // namespace pocketfleet
