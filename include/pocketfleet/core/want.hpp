// What a request needs of a phone, and what is known of it beforehand.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "pocketfleet/core/phone.hpp"
#include "pocketfleet/core/prefix.hpp"

namespace pocketfleet {

/// Which try of a request it is. Later tries have waited their turn before: they go to the front of the
/// queue.
enum class turn : std::uint8_t {
  first,
  retry,   ///< held back while the retry budget is used up
  rescue,  ///< its client has half an answer: waits for a phone even while none is usable
};

/// How a request stands to others that wait.
enum class urgency : std::uint8_t {
  interactive,  ///< somebody looks on
  batch,        ///< waits for all that are interactive, but not for ever
};

struct want {
  std::string model;                 ///< normalized; empty: any phone's default
  engine_mask engines = any_engine;  ///< engines that can do what is asked
  bool vision = false;               ///< images are sent along
  bool messages = false;             ///< by Anthropic's Messages API
  std::vector<phone_id> avoid{};     ///< phones that have failed this request
  std::optional<phone_id> only{};    ///< this phone and no other
  std::string identity{};            ///< this very model, whatever a phone calls it (served_model::identity)
  turn which = turn::first;

  // What it will take, and where it is best placed; all of it may be unknown.
  std::uint64_t prompt_bytes = 0;
  std::uint32_t answer_limit = 0;  ///< tokens; 0: the client has set none
  prefix_chain prefix{};           ///< of the prompt
  std::uint64_t session = 0;       ///< requests of one session are best kept on one phone; 0: it has none
  std::uint64_t owner = 0;         ///< who asks: those who wait take turns by it
  urgency how_soon = urgency::interactive;
};

}  // namespace pocketfleet
