#include "pocketfleet/service/generation.hpp"

#include <algorithm>

namespace pocketfleet {
namespace {

constexpr std::size_t lag_high = std::size_t{64} << 10U;  // unread bytes at which the phone is no longer read
constexpr std::size_t piece_overhead = 128;  // what a piece of a few bytes takes as a line of its own
constexpr std::size_t lag_low = std::size_t{32} << 10U;  // and at which it is again

}  // namespace

std::string_view to_string(phase p) {
  switch (p) {
    case phase::reading: return "reading";
    case phase::queued: return "queued";
    case phase::connecting: return "connecting";
    case phase::waiting: return "waiting";
    case phase::streaming: return "streaming";
    case phase::done: break;
  }
  return "done";
}

void generation::begin(std::string model, std::string created_at) {
  const std::lock_guard lock(mutex_);
  if (!answer_.pieces.empty()) return;  // another phone goes on with it
  answer_.model = std::move(model);
  answer_.created_at = std::move(created_at);
}

bool generation::append(piece_kind kind, std::string_view text) {
  const std::lock_guard lock(mutex_);
  if (answer_.text.size() + text.size() > most_bytes_) return false;
  answer_.append(kind, text);
  state_.at = phase::streaming;
  return true;
}

void generation::update(phase at, std::string_view phone, unsigned attempts) {
  const std::lock_guard lock(mutex_);
  state_.at = at;
  state_.phone = phone;
  state_.attempts = attempts;
}

void generation::waited(milliseconds queued) {
  const std::lock_guard lock(mutex_);
  state_.queued = queued;
}

void generation::leads(std::string_view phone) {
  const std::lock_guard lock(mutex_);
  state_.phone = phone;
}

void generation::advance(phase at) {
  const std::lock_guard lock(mutex_);
  state_.at = at;
}

std::size_t generation::pieces() const {
  const std::lock_guard lock(mutex_);
  return answer_.pieces.size();
}

bool generation::shown() const {
  const std::lock_guard lock(mutex_);
  return shown_here();
}

bool generation::shown_here() const {
  return !answer_.pieces.empty() &&
         std::any_of(listeners_.begin(), listeners_.end(), [](const listener* l) { return l->each_piece_; });
}

begun_answer generation::begun() const {
  const std::lock_guard lock(mutex_);
  begun_answer out;
  for (std::size_t i = 0; i < answer_.pieces.size(); ++i) {
    const piece_kind kind = answer_.pieces[i].kind;
    const bool content = kind == piece_kind::content;
    out.reasoning += kind == piece_kind::reasoning ? 1U : 0U;
    out.other = out.other || kind == piece_kind::tool_call || kind == piece_kind::logprobs;
    if (content) out.text.append(answer_.piece_text(i));
    out.pieces += content ? 1U : 0U;
  }
  return out;
}

void generation::rescued(unsigned times) {
  const std::lock_guard lock(mutex_);
  state_.rescues = times;
}

bool generation::restart() {
  const std::lock_guard lock(mutex_);
  if (shown_here()) return false;
  answer_.text.clear();
  answer_.pieces.clear();
  return true;
}

void generation::complete(std::string_view done_reason, const usage& counts, extras more) {
  const std::lock_guard lock(mutex_);
  answer_.done_reason = done_reason;
  answer_.counts = counts;
  answer_.more = std::move(more);
  state_.at = phase::done;
  state_.finished = true;
}

void generation::fail(error why) {
  const std::lock_guard lock(mutex_);
  state_.failed = std::move(why);
  state_.finished = true;
}

void generation::announce() {
  std::shared_ptr<waker> first;  // nearly always there is but one
  std::vector<std::shared_ptr<waker>> others;
  {
    const std::lock_guard lock(mutex_);
    for (const listener* l : listeners_) {
      if (!l->each_piece_ && !state_.finished) continue;
      if (first) {
        others.push_back(l->waker_);
      } else {
        first = l->waker_;
      }
    }
  }
  if (first) first->wake();
  for (const auto& w : others) w->wake();
}

std::size_t generation::lag(const listener& l) const {
  return answer_.text.size() - l.taken_ + piece_overhead * (answer_.pieces.size() - l.taken_pieces_);
}

bool generation::crowded() const {
  const std::lock_guard lock(mutex_);
  // The fastest decides: a listener that stalls must not hold up the others.
  return std::all_of(listeners_.begin(), listeners_.end(),
                     [&](const listener* l) { return l->each_piece_ && lag(*l) > lag_high; });
}

task<> generation::wait_for_room() {
  while (!stop_.stop_requested() && crowded()) {
    std::shared_ptr<waker> room;
    {
      const std::lock_guard lock(mutex_);
      if (!room_) room_ = std::make_shared<waker>(executor_);
      room = room_;
      waiting_for_room_ = true;
    }
    const std::stop_callback on_stop(stop_.get_token(), [&room] { room->wake(); });
    co_await room->wait();
  }
}

void generation::stop() {
  if (executor_.running_in_this_thread()) {
    stop_.request_stop();
  } else {
    asio::post(executor_, [self = shared_from_this()] { self->stop_.request_stop(); });
  }
}

generation_state generation::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

std::unique_ptr<listener> generation::join(std::shared_ptr<waker> wake, bool each_piece) {
  auto joined = std::make_unique<listener>(shared_from_this(), std::move(wake), each_piece);
  {
    const std::lock_guard lock(mutex_);
    if (!abandoned_) {
      listeners_.push_back(joined.get());
      return joined;
    }
  }
  return nullptr;
}

void generation::leave(listener& who) {
  bool last = false;
  {
    const std::lock_guard lock(mutex_);
    const auto found = std::find(listeners_.begin(), listeners_.end(), &who);
    if (found == listeners_.end()) return;
    listeners_.erase(found);
    last = listeners_.empty() && !state_.finished;
    if (last) abandoned_ = true;
  }
  if (last) stop();
}

void listener::taken(std::size_t bytes, std::size_t pieces) {
  std::shared_ptr<waker> room;
  {
    const std::lock_guard lock(to_->mutex_);
    taken_ = bytes;
    taken_pieces_ = pieces;
    if (to_->waiting_for_room_ && to_->lag(*this) <= lag_low) {
      to_->waiting_for_room_ = false;
      room = to_->room_;
    }
  }
  if (room) room->wake();
}

}  // namespace pocketfleet
