// A group of processes that serve one model together, llama.cpp's master and its workers: what is wrong with
// it, and what is to be done, in which order. Events in, actions out; no process, socket or clock.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/core/time.hpp"

namespace pocketfleet {

struct group_limits {
  milliseconds listen{20'000};    ///< from a worker's start until it listens
  milliseconds ready{120'000};    ///< from the master's start until its model is loaded
  milliseconds stall{20'000};     ///< how long a slot may be busy without anything moving
  milliseconds frozen{3'000};     ///< how long a process may stand stopped
  milliseconds grace{2'000};      ///< between SIGTERM and SIGKILL at the end
  milliseconds first_pause{500};  ///< before the first new start; doubled by each failure that follows
  milliseconds longest_pause{60'000};
  milliseconds settled{30'000};  ///< a group that serves so long has got over its failures
  unsigned restarts = 5;         ///< failed ones in a row until a member counts as lost
};

enum class group_phase : std::uint8_t {
  off,
  workers,  ///< workers are starting
  master,   ///< the master is starting: loading, or stuck on a worker
  serving,
  clearing,  ///< what is in the way is being ended
  pausing,   ///< before the next start
  ending,    ///< by request
  ended,
};

enum class group_fault : std::uint8_t {
  none,
  worker_dead,    ///< its process has ended
  worker_frozen,  ///< its process stands stopped
  worker_silent,  ///< does not listen in time, or where the master looks for it
  master_dead,
  master_frozen,
  master_stuck,  ///< not ready in time: a worker serves somebody else, or cannot be reached
  master_hung,   ///< busy with nothing moving, and a worker is no longer connected to it; or answers nobody
  link_down,     ///< busy with nothing moving, though all are alive and connected
  version_mismatch,  ///< master and that worker speak other versions
};
std::string_view to_string(group_fault fault);  ///< "worker_frozen"
std::string_view to_string(group_phase phase);  ///< "serving"; clearing and pausing are "healing"

enum class process_state : std::uint8_t { unknown, running, stopped };

/// What one look has found of a process.
struct process_look {
  process_state state = process_state::unknown;
  std::optional<milliseconds> cpu{};  ///< its time so far
  std::optional<unsigned> clients{};  ///< of a worker: who is connected to its port; at most one is served
  bool unheard = false;               ///< sends again and again what nobody acknowledges
};

/// What one look has found of the group.
struct group_look {
  bool ready = false;          ///< the master's model is loaded
  bool answers = true;         ///< the master tells what its slots do
  bool busy = false;           ///< one of them works
  std::uint64_t progress = 0;  ///< another number as soon as a token has come, or a part of a prompt
  std::vector<process_look> workers{};
  process_look master{};
};

struct group_action {
  enum class what : std::uint8_t {
    start,
    terminate,  ///< ask it to end
    kill,
    lost,  ///< nothing to do at once: this member is lost, and a plan without it is wanted
  };
  what kind;
  std::size_t who;  ///< a worker's index, or their number: the master

  bool operator==(const group_action&) const = default;
};

/// Why a process has ended, where it has said so.
struct group_cause {
  group_fault fault;
  std::size_t who;  ///< to whom it is laid
};

/// Something that was wrong, and for how long.
struct group_event {
  group_fault fault;
  std::size_t who;
  time_point noticed;
  std::optional<time_point> healed{};
};

struct group_member_state {
  bool runs = false;
  bool listens = false;  ///< the master: is ready
  bool ending = false;   ///< has been told to end
  bool stopped = false;  ///< stands stopped, as of the last look
  bool lost = false;
  unsigned failures = 0;  ///< in a row
  unsigned starts = 0;
};

/// A worker that has died takes the master with it, and a master that has vanished without a word leaves a
/// worker that serves nobody: so the master is ended first, then the worker concerned, and started in the
/// opposite order.
class group_watch {
 public:
  group_watch(std::size_t workers, const group_limits& limits);

  using actions = std::vector<group_action>;
  actions begin(time_point now);
  actions listening(std::size_t worker, time_point now);
  /// A process has ended.
  actions exited(std::size_t who, std::optional<group_cause> because, time_point now);
  actions looked(const group_look& look, time_point now);
  actions tick(time_point now);
  /// All are to end; phase() is `ended` when they have.
  actions end(time_point now);

  std::size_t master() const { return members_.size() - 1; }
  group_phase phase() const { return phase_; }
  time_point since() const { return since_; }  ///< in this phase
  /// Serves, and nothing is known against it.
  bool usable() const;
  group_fault fault() const { return fault_; }  ///< what it has not got over yet
  std::size_t whose_fault() const { return whose_; }
  const std::vector<group_member_state>& members() const { return members_; }
  const std::deque<group_event>& events() const { return events_; }  ///< the last ones, oldest first

 private:
  void enter(group_phase phase, time_point now);
  void start(std::size_t who, actions& out);
  void start_workers(time_point now, actions& out);
  void fail(group_fault fault, std::size_t who, time_point now, actions& out);
  void blame(group_fault fault, std::size_t who, time_point now, actions& out);
  void kill(std::size_t who, actions& out);
  void end_next(time_point now, actions& out);
  bool still_ending() const;
  milliseconds pause() const;
  void doubt(const group_look& look);
  void watch_stopped(const group_look& look, time_point now, actions& out);
  void watch_progress(const group_look& look, time_point now, actions& out);
  void stalled(const group_look& look, time_point now, actions& out);

  group_limits limits_;
  std::vector<group_member_state> members_;  // the master last
  std::vector<std::optional<time_point>> stopped_since_;
  std::vector<milliseconds> cpu_;
  group_phase phase_ = group_phase::off;
  time_point since_{};
  group_fault fault_ = group_fault::none;
  std::size_t whose_ = 0;
  unsigned tries_ = 0;  // failures since it last served for long
  std::uint64_t progress_ = 0;
  time_point moved_{};                   // when something last did
  time_point answered_{};                // when the master last told of its slots
  std::optional<std::size_t> in_doubt_;  // the worker on which a starting master seems to wait
  std::deque<group_event> events_;
};

}  // namespace pocketfleet
