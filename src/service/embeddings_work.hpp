// One request for embeddings, spread over the phones that have the model. Private to this layer.
#pragma once

#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "page.hpp"
#include "pocketfleet/service/desk.hpp"
#include "pocketfleet/service/embeddings_refusals.hpp"
#include "pocketfleet/service/ports.hpp"
#include "pocketfleet/service/settings.hpp"
#include "pocketfleet/wire/embeddings.hpp"

namespace pocketfleet {

/// The inputs are cut into chunks; runners, as many as there are permits, take one after the other to a phone
/// each. A runner that finds none left looks after those who are late: it has their chunk made a second time
/// on a phone that is free, and who is first wins. Lives in the handler, on its worker; everything handed in
/// outlives it.
class embeddings_work {
 public:
  embeddings_work(desk& fleet, observer& books, const service_settings& settings,
                  embeddings_refusals& refusals, http_call& call, const embeddings_request& request);

  /// Ends with errc::aborted when the client leaves.
  task<result<void>> run();

  /// Ends it with errc::shutting_down; may be called on any thread, and when it is over.
  std::function<void()> stopper() const;

  // When it has ended well.

  const std::vector<std::string>& vectors() const { return vectors_; }
  embeddings_counts counts() const;
  std::string phones() const;  ///< that have had a part in it

 private:
  struct chunk {
    std::size_t first = 0;
    std::size_t count = 0;
    bool done = false;
    unsigned running = 0;       // tries under way
    unsigned tries = 0;         // that have failed
    unsigned phone_errors = 0;  // of those
    std::vector<phone_id> avoid{};
    std::optional<error> last{};
  };
  struct a_try {
    chunk* of = nullptr;
    phone_id phone{};
    phone_exchange* exchange = nullptr;
    time_point since{};
  };

  bool over() const { return left_ == 0 || stop_.stop_requested(); }
  std::size_t look_at_fleet();
  bool others_left();
  task<> runner(std::size_t i);
  task<> work(waker& news);
  task<bool> next_chunk(chunk& c);
  bool without_permit(chunk& c, const error& why);
  task<> look_after_late(waker& news);
  a_try* latest();
  want wanted_for(const chunk& c) const;

  task<> try_on(chunk& c, permit& held);
  result<embeddings_part> read(const chunk& c, const phone_target& phone, const result<page>& got) const;
  milliseconds patience(const chunk& c, const permit& held) const;
  void note(const chunk& c, permit& held, const result<embeddings_part>& part, time_point began);
  void take(chunk& c, const phone_target& phone, embeddings_part part, duration took);
  void failed(chunk& c, const phone_target& phone, const error& why);
  void again(chunk& c, std::string_view reason);
  void fail(error why);
  void abort_tries();
  void wake_all();

  desk& desk_;
  observer& observer_;
  const service_settings& settings_;
  embeddings_refusals& refusals_;
  http_call& call_;
  const embeddings_request& request_;
  const std::string model_;  // normalized
  const std::uint64_t owner_;
  const time_point deadline_;

  std::vector<chunk> chunks_;
  std::deque<chunk*> pending_;
  std::list<a_try> tries_;                      // under way
  std::vector<std::shared_ptr<waker>> wakers_;  // of the runners
  bool queueing_ = false;                       // a runner waits for a permit
  std::size_t left_ = 0;                        // chunks that are not done
  std::vector<duration> times_{};               // of the chunks that are

  std::vector<phone_id> refused_{};  // have said in this request that they make no embeddings
  std::vector<phone_id> known_{};    // have said so before
  std::optional<error> refusal_{};   // what they have said
  std::optional<error> failure_{};
  std::stop_source stop_;

  std::vector<std::string> vectors_;
  std::size_t dimensions_ = 0;
  std::size_t bytes_ = 0;
  std::uint64_t prompt_tokens_ = 0;
  nanoseconds load_time_{0};
  std::set<std::string> phones_{};
};

}  // namespace pocketfleet
