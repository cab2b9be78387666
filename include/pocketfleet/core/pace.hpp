// How fast a phone has been of late, and from that how long its silence may last before it is taken for dead.
#pragma once

#include <cstdint>

#include "pocketfleet/core/time.hpp"

namespace pocketfleet {

/// What an engine has measured in one answer; 0 where it does not say.
struct measured {
  std::uint64_t prompt_tokens = 0;
  std::uint64_t answer_tokens = 0;
  nanoseconds prompt_time{0};
  nanoseconds answer_time{0};
  std::uint64_t cached_tokens = 0;  ///< of the prompt: those that the phone had read before
  nanoseconds load_time{0};
  nanoseconds first_token{0};  ///< from sending the request to the first token, as the gateway saw it
};

/// Of one phone. Leans to the slow side: a slower answer counts at once, a faster one little by little, and
/// no phone counts as reading more than 200 tokens of prompt a second, so that a cached prompt or a cool
/// moment does not make a phone look dead afterwards.
class pace {
 public:
  void learn(const measured& m);

  /// Until the first token of an answer to a prompt of that many bytes. `limit` is for a phone that is not
  /// known yet; one that is known gets less for a short prompt, and more for one that it cannot read in that
  /// time.
  milliseconds first_token(std::uint64_t prompt_bytes, milliseconds limit) const;

  /// Between two tokens: at most `limit`.
  milliseconds between_tokens(milliseconds limit) const;

  nanoseconds prompt_token() const { return prompt_token_; }  ///< 0: not known
  nanoseconds answer_token() const { return answer_token_; }

 private:
  nanoseconds prompt_token_{0};  // time for one
  nanoseconds answer_token_{0};
};

}  // namespace pocketfleet
