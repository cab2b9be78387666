// When two questions are the same question.
#pragma once

#include "pocketfleet/core/lru_cache.hpp"
#include "pocketfleet/wire/question.hpp"

namespace pocketfleet {

/// SHA-256 over everything that shapes the answer, no field running into the next, objects with sorted
/// keys. keep_alive is left out: it changes no answer. `scope` keeps apart those who must not see each
/// other's answers.
cache_key cache_key_of(const question& q, std::string_view scope = {});

/// The same question gives the same answer: temperature 0, or a seed.
bool is_deterministic(const question& q);

}  // namespace pocketfleet
