// The way to a phone's slots: a line of waiting requests, the model in memory, and the slots.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "heat.hpp"
#include "pocketfleet/core/time.hpp"
#include "pocketfleet/sim/phone.hpp"
#include "sleeper.hpp"
#include "text.hpp"

namespace pocketfleet::sim {

class gate;

/// How many tokens both begin with.
std::size_t common_prefix(const std::vector<token_id>& a, const std::vector<token_id>& b);

/// How long a model stays in memory when idle; absent: for ever.
using keep_alive = std::optional<nanoseconds>;

/// A slot that is held; given back when destroyed. Empty when the client left before there was one. Lives in
/// the coroutine of its request, not longer than the phone's server.
class ticket {
 public:
  ticket() = default;
  ticket(gate& owner, unsigned slot) : owner_(&owner), slot_(slot) {}
  ticket(ticket&& other) noexcept { *this = std::move(other); }
  ticket& operator=(ticket&& other) noexcept;
  ~ticket() { release(); }
  explicit operator bool() const { return owner_ != nullptr; }
  unsigned slot() const { return slot_; }
  nanoseconds load_time() const { return load_time_; }

 private:
  friend class gate;
  void release();

  gate* owner_ = nullptr;
  unsigned slot_ = 0;
  bool loading_ = false;
  nanoseconds load_time_{0};
};

/// Requests pass in order of arrival. The one at the head passes when a slot of its model is free; when
/// another model (or the same with other load-time options) is in memory it waits until that one is idle,
/// then loads its own. Owned by the phone's server, on its thread.
class gate {
 public:
  /// What /slots tells of one slot.
  struct slot_view {
    bool busy = false;
    std::uint64_t task = 0;
    std::size_t prompt_tokens = 0;
    std::uint64_t decoded = 0;
    std::int64_t remain = 0;
  };

  gate(const phone_settings& settings, heat& warmth, phone_state& counters);
  gate(const gate&) = delete;
  gate& operator=(const gate&) = delete;

  /// Waits for a slot with `model` in memory, `options` being the load-time options as text. `keep` absent
  /// leaves what the model has. An empty ticket: the client left; a load that it had caused is given up.
  /// The slot is one that has read what `prompt` begins with, if there is one, or else the one that has been
  /// idle longest.
  boost::asio::awaitable<ticket> enter(sleeper& who, std::string model, std::string options,
                                       std::optional<keep_alive> keep,
                                       const std::vector<token_id>* prompt = nullptr);

  /// What the slot has in its cache: the holder's to change.
  std::vector<token_id>& read_by(unsigned slot) { return caches_[slot].tokens; }

  /// Waits while a model is being read; false: the client left.
  boost::asio::awaitable<bool> not_loading(sleeper& who);

  void preload(const std::string& model);  ///< in memory for ever, at no time: llama-server after its start
  void unload();                           ///< as soon as it is idle
  void forget_prompts();                   ///< the caches are empty
  void forget();                           ///< what was in memory is gone, for a phone that starts anew

  std::string loaded(time_point now);                  ///< model in memory; empty: none
  std::optional<duration> expires_in(time_point now);  ///< absent: never
  bool loading() const { return loading_; }
  unsigned slots() const { return static_cast<unsigned>(slots_.size()); }
  unsigned active() const;
  slot_view& slot(unsigned index) { return slots_[index]; }

 private:
  friend class ticket;
  struct waiter {
    sleeper& who;
    const std::string& model;
    const std::string& options;
    const std::vector<token_id>* prompt;
    std::optional<unsigned> slot{};
  };

  struct cache {
    std::vector<token_id> tokens{};
    std::uint64_t used = 0;  // the number of its last task
  };

  void serve();
  std::optional<unsigned> best_slot(const std::vector<token_id>* prompt) const;
  void drop_model();
  void settle(time_point now);  // keep_alive has run out: nothing in memory
  bool fits(const waiter& next) const { return next.model == model_ && next.options == options_; }

  const phone_settings& settings_;
  heat& heat_;
  phone_state& counters_;
  std::vector<slot_view> slots_;
  std::vector<cache> caches_;  // of the slots
  std::list<waiter*> line_;
  std::list<sleeper*> watchers_;  // wait for the end of a load
  std::uint64_t tasks_ = 0;

  std::string model_;  // in memory, or being read when loading_
  std::string options_;
  bool loading_ = false;
  keep_alive keep_;
  time_point idle_since_{};
};

}  // namespace pocketfleet::sim
