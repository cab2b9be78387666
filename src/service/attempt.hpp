// One try on one phone: from the beginning, or going on with what another phone has begun. Private to this
// layer.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "pocketfleet/engines/codec.hpp"
#include "pocketfleet/service/desk.hpp"
#include "pocketfleet/service/generation.hpp"
#include "pocketfleet/service/ports.hpp"
#include "pocketfleet/service/settings.hpp"
#include "race.hpp"

namespace pocketfleet {

/// What has become of it.
struct attempt_result {
  result<void> how;
  std::string done_reason{};
  usage counts{};                   ///< the phone's own, of this attempt
  extras more{};                    ///< the same
  std::uint64_t tokens_before = 0;  ///< of the beginning that it went on with; in the counts they are prompt
  duration first_token{0};          ///< from sending; 0: none came
  duration spoke{0};                ///< from the first token to the last
  std::size_t pieces = 0;           ///< in which it came
  bool loads = false;               ///< the phone may have had to read the model into memory first
  bool held_up = false;             ///< the clients did not read as fast as it spoke
};

/// What the engine has measured. Where it says nothing of times, as in Anthropic's dialect: how the answer
/// came, if that tells how fast the phone is.
measured measured_in(const attempt_result& a);

/// Lives in the coroutine of the dispatch, on its worker; everything handed in outlives it.
class attempt {
 public:
  attempt(generation& g, phone_client& phones, permit& held, const question& what, const time_limits& times,
          time_point deadline, observer& books, const std::string& traceparent)
      : generation_(g),
        phones_(phones),
        held_(held),
        question_(what),
        times_(times),
        deadline_(deadline),
        observer_(books),
        traceparent_(traceparent) {}

  /// Goes on with this instead of beginning anew; `model` as the phone calls it.
  void go_on_from(const begun_answer& begun, std::string_view model) {
    begun_ = &begun;
    model_ = model;
  }

  attempt(const attempt&) = delete;
  attempt& operator=(const attempt&) = delete;
  ~attempt() { *self_ = nullptr; }

  bool goes_on() const { return begun_ != nullptr; }

  /// It is one of two, and writes only if it is the first to have something to say.
  void runs_in(race& both) { race_ = &both; }

  /// The other one was sooner: ends with errc::aborted.
  void drop();

  /// It has something to say. False: it may not any more.
  bool claim();

  /// Ends with errc::aborted when the generation is stopped.
  task<attempt_result> run();

  /// After a whole answer: reads what is left of the body, so that the connection can be used again.
  task<> read_rest();

 private:
  task<result<void>> ask_how(resumption& how, time_point until);
  task<result<void>> send(const phone_request& request, time_point until);
  task<result<void>> listen(answer_decoder& decoder, time_point until);
  milliseconds patience() const;
  bool loads() const;
  bool stopped() const { return dropped_ || generation_.stop_token().stop_requested(); }
  bool unwanted() const { return lost_ || stopped(); }
  void lose();
  attempt_result ended();
  void begin_answer();
  const phone_target& phone() const { return *held_.phone(); }

  generation& generation_;
  phone_client& phones_;
  permit& held_;
  const question& question_;
  const time_limits& times_;
  const time_point deadline_;  // of the whole request
  observer& observer_;
  const std::string& traceparent_;
  race* race_ = nullptr;
  bool dropped_ = false;
  bool lost_ = false;                                                  // the phone is a group that has failed
  std::shared_ptr<attempt*> self_ = std::make_shared<attempt*>(this);  // for who comes from another thread
  const begun_answer* begun_ = nullptr;
  std::string model_;
  std::unique_ptr<phone_exchange> exchange_;  // the one under way
  time_point sent_{};                         // when the request was
  attempt_result out_{error(errc::aborted)};
};

}  // namespace pocketfleet
