// From a question to an answer: the cache, a permit, attempts on phones, and the books.
#pragma once

#include <memory>
#include <stop_token>

#include "pocketfleet/service/answers.hpp"
#include "pocketfleet/service/desk.hpp"
#include "pocketfleet/service/generation.hpp"
#include "pocketfleet/service/ports.hpp"
#include "pocketfleet/service/settings.hpp"
#include "pocketfleet/wire/question.hpp"

namespace pocketfleet {

/// Where a request runs.
struct worker_context {
  executor where;
  phone_client* phones = nullptr;
};

/// What became of a question. Exactly one of the two.
struct asked {
  std::shared_ptr<const kept_answer> hit{};  ///< it was answered before
  std::unique_ptr<listener> answer{};        ///< it is being answered
  bool joined = false;                       ///< ... for somebody who asked the same before
  bool cacheable = false;
};

/// Owned by the application, used from every worker; outlives the workers.
class dispatch {
 public:
  dispatch(desk& fleet, observer& books, const service_settings& settings)
      : desk_(fleet), observer_(books), settings_(settings), answers_(settings.cache) {}

  /// Begins to answer, or finds the answer. `each_piece`: the caller will stream. Errors: errc::unsupported.
  result<asked> ask(const worker_context& worker, question q, bool use_cache, bool each_piece);

  /// Running answers end with errc::shutting_down.
  void shut_down() { shutdown_.request_stop(); }

  cache_status cache() const { return answers_.status(); }

 private:
  struct job {
    question what;
    want wanted;
    bool keep = false;  // the answer goes into the cache
    cache_key key{};
    time_point began{};
    time_point deadline{};
  };
  struct attempt_result {
    result<void> how;
    std::string done_reason{};
    usage counts{};
    duration first_token{0};
  };

  task<> produce(std::shared_ptr<generation> g, phone_client& phones, std::shared_ptr<const job> j);
  task<result<void>> attempts(generation& g, phone_client& phones, const job& j);
  task<attempt_result> attempt(generation& g, phone_exchange& exchange, const phone_target& phone,
                               const job& j);
  void finish(generation& g, const attempt_result& a, const job& j);
  milliseconds first_token_limit(const phone_target& phone, const question& q) const;
  bool caches(const question& q, bool use_cache) const;

  desk& desk_;
  observer& observer_;
  const service_settings settings_;
  answers answers_;
  std::stop_source shutdown_;
};

}  // namespace pocketfleet
