// From a question to an answer: the cache, a permit, attempts on phones, and the books.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <stop_token>

#include "pocketfleet/service/answers.hpp"
#include "pocketfleet/service/desk.hpp"
#include "pocketfleet/service/generation.hpp"
#include "pocketfleet/service/ports.hpp"
#include "pocketfleet/service/settings.hpp"
#include "pocketfleet/wire/answer.hpp"
#include "pocketfleet/wire/prefix_chain.hpp"
#include "pocketfleet/wire/question.hpp"

namespace pocketfleet {

struct attempt_result;
struct runner;
using runner_maker = std::function<std::unique_ptr<runner>(permit)>;

/// Where a request runs.
struct worker_context {
  executor where;
  phone_client* phones = nullptr;
};

/// How a question is to be answered.
struct ask_manner {
  bool use_cache = true;
  bool each_piece = false;        ///< the caller will stream
  bool rescue = true;             ///< another phone may go on with what one has begun
  std::shared_ptr<waker> wake{};  ///< told of news; null: one of its own
  std::string traceparent{};      ///< of the client's trace; empty: none
  std::uint64_t session = 0;      ///< kept together on one phone, as far as that is no loss; 0: none
  std::uint64_t owner = 0;        ///< who asks
  urgency how_soon = urgency::interactive;
  std::string_view scope{};  ///< kept answers are shared within it; empty: with everybody without one
  const cache_key* text{};   ///< digest of the request, for again(); null: it is not to be known again
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

  /// Begins to answer, or finds the answer. Errors: errc::unsupported, not_served.
  result<asked> ask(const worker_context& worker, question q, const ask_manner& how);

  /// The model that answers instead of one (as a client spells it) whose group cannot now; empty: none.
  std::string stand_in(const std::string& model);

  /// The kept answer to a request of that very text that was asked before; null: read it and ask().
  std::shared_ptr<const kept_answer> again(const cache_key& text) { return answers_.again(text); }

  /// Running answers end with errc::shutting_down.
  void shut_down() { shutdown_.request_stop(); }

  cache_status cache() const { return answers_.status(); }
  std::size_t clear_cache() { return answers_.clear(); }

 private:
  struct job {
    question what;
    want wanted;
    prompt_end end{};      // of the prompt
    std::string cannot{};  // why some engines cannot do it; empty: all can
    bool rescue = true;
    bool keep = false;  // the answer goes into the cache
    cache_key key{};
    std::string traceparent{};
    time_point began{};
    time_point deadline{};
  };
  /// A request's way over the phones.
  struct story {
    unsigned number = 0;        // attempts in all
    unsigned tries = 0;         // in a row that brought nothing new
    unsigned phone_errors = 0;  // of all attempts
    unsigned rescues = 0;
    bool brought = false;  // some attempt brought a part of the answer
    milliseconds queued{0};
    duration spoke{0};                    // how long the phones before took for the tokens in `begun`
    std::optional<begun_answer> begun{};  // set: the next attempt goes on from here
    error last{};
  };

  task<> produce(std::shared_ptr<generation> g, phone_client& phones, std::shared_ptr<const job> j);
  task<std::unique_ptr<runner>> run_hedged(std::unique_ptr<runner> first, const want& wanted,
                                           const runner_maker& make);
  task<result<void>> attempts(generation& g, phone_client& phones, const job& j);
  static void begin_anew(want& wanted, story& so_far, const job& j);
  void note(story& so_far, generation& g, const job& j, permit& held, const attempt_result& a,
            time_point began, bool progressed);
  void finish(generation& g, const attempt_result& a, const story& so_far, const job& j);
  bool caches(const question& q, bool use_cache) const;

  desk& desk_;
  observer& observer_;
  const service_settings settings_;
  answers answers_;
  std::stop_source shutdown_;
};

}  // namespace pocketfleet
