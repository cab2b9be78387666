// One answer while it is being made, and those who wait for it.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "pocketfleet/service/async.hpp"
#include "pocketfleet/service/ports.hpp"
#include "pocketfleet/wire/answer.hpp"

namespace pocketfleet {

class listener;

/// How a generation stands; a copy that listeners may look at without its lock.
struct generation_state {
  bool finished = false;
  std::optional<error> failed{};  ///< set: it ended with this instead of an answer
  phase at = phase::queued;
  std::string phone{};  ///< of the attempt under way, or of the last
  unsigned attempts = 0;
  unsigned rescues = 0;  ///< times that another phone has gone on with it
  milliseconds queued{0};
};

/// Written by one producer (the dispatch), read by any number of listeners, on whatever workers these are.
/// The producer goes on as long as somebody listens: the client that began it may leave, others who asked the
/// same get their answer. Shared by all of them.
class generation : public std::enable_shared_from_this<generation> {
 public:
  generation(executor where, std::size_t most_bytes) : executor_(where), most_bytes_(most_bytes) {}

  // ---- for the producer

  /// Asked for on the producer's own thread, when nobody listens any more or when the process ends.
  std::stop_token stop_token() const { return stop_.get_token(); }
  executor where() const { return executor_; }

  void begin(std::string model, std::string created_at);
  bool append(piece_kind kind, std::string_view text);  ///< false: over the size that is kept
  void update(phase at, std::string_view phone, unsigned attempts);
  void advance(phase at);
  void leads(std::string_view phone);  ///< of two that were asked, this one answers
  void waited(milliseconds queued);
  void rescued(unsigned times);
  bool restart();  ///< drops what there is, to begin anew; false: some of it may be with a client
  void complete(std::string_view done_reason, const usage& counts, extras more = {});
  void fail(error why);
  void announce();       ///< tells the listeners what has changed: after a batch of appends, and at the end
  bool crowded() const;  ///< every listener lags more than it should: wait_for_room() before reading on
  task<> wait_for_room();

  /// From any thread; ends the producer with errc::aborted.
  void stop();

  // ---- for anybody

  std::size_t pieces() const;
  bool shown() const;          ///< a client may have seen some of it
  begun_answer begun() const;  ///< no text if it is still reasoning

  generation_state state() const;

  /// Calls f(const answer&, const generation_state&) under the lock.
  template <class F>
  auto look(F f) const {
    const std::lock_guard lock(mutex_);
    return f(answer_, state_);
  }

  /// What it has become; only once it has been seen finished: then nothing changes any more.
  const answer& whole() const { return answer_; }

  /// `wake` is told of news; one who listens to several answers gives the same to each. Null if nobody has
  /// listened to the end and the producer is being stopped: too late to join.
  std::unique_ptr<listener> join(std::shared_ptr<waker> wake, bool each_piece);

 private:
  friend class listener;
  void leave(listener& who);
  bool shown_here() const;                   // under the lock
  std::size_t lag(const listener& l) const;  // under the lock: bytes that the client has not got yet

  executor executor_;
  std::size_t most_bytes_;
  std::stop_source stop_;

  mutable std::mutex mutex_;
  // guarded by mutex_
  answer answer_;
  generation_state state_;
  std::vector<listener*> listeners_;
  bool abandoned_ = false;
  bool waiting_for_room_ = false;
  std::shared_ptr<waker> room_{};  // made when it is first waited for
};

/// One who waits for the answer. Owned by the coroutine that serves a client; gone with it.
class listener {
 public:
  listener(std::shared_ptr<generation> to, std::shared_ptr<waker> wake, bool each_piece)
      : to_(std::move(to)), waker_(std::move(wake)), each_piece_(each_piece) {}
  listener(const listener&) = delete;
  listener& operator=(const listener&) = delete;
  ~listener() { to_->leave(*this); }

  /// This many bytes of the text, in so many pieces, are with the client.
  void taken(std::size_t bytes, std::size_t pieces);

  generation& of() const { return *to_; }

 private:
  friend class generation;
  std::shared_ptr<generation> to_;
  std::shared_ptr<waker> waker_;
  bool each_piece_;
  std::size_t taken_ = 0;         // guarded by the generation's mutex
  std::size_t taken_pieces_ = 0;  // the same
};

}  // namespace pocketfleet
