#include "pocketfleet/core/group_watch.hpp"

#include <algorithm>

namespace pocketfleet {
namespace {

constexpr std::size_t most_events = 16;
// Of one core, over the time between two looks: who computes is not stuck. A process that waits has less,
// even if it answers a question now and then.
constexpr double computing = 0.2;

using what = group_action::what;

}  // namespace

std::string_view to_string(group_fault fault) {
  switch (fault) {
    case group_fault::none: return "none";
    case group_fault::worker_dead: return "worker_dead";
    case group_fault::worker_frozen: return "worker_frozen";
    case group_fault::worker_silent: return "worker_silent";
    case group_fault::master_dead: return "master_dead";
    case group_fault::master_frozen: return "master_frozen";
    case group_fault::master_stuck: return "master_stuck";
    case group_fault::master_hung: return "master_hung";
    case group_fault::link_down: return "link_down";
    case group_fault::version_mismatch: return "version_mismatch";
  }
  return "none";
}

std::string_view to_string(group_phase phase) {
  switch (phase) {
    case group_phase::off: return "off";
    case group_phase::workers:
    case group_phase::master: return "starting";
    case group_phase::serving: return "serving";
    case group_phase::clearing:
    case group_phase::pausing: return "healing";
    case group_phase::ending: return "ending";
    case group_phase::ended: return "ended";
  }
  return "off";
}

group_watch::group_watch(std::size_t workers, const group_limits& limits)
    : limits_(limits), members_(workers + 1), stopped_since_(workers + 1), cpu_(workers + 1) {}

bool group_watch::usable() const {
  return phase_ == group_phase::serving &&
         std::none_of(members_.begin(), members_.end(), [](const auto& m) { return m.stopped; });
}

void group_watch::enter(group_phase phase, time_point now) {
  phase_ = phase;
  since_ = now;
}

void group_watch::start(std::size_t who, actions& out) {
  auto& m = members_[who];
  m.runs = true;
  m.listens = m.ending = m.stopped = false;
  ++m.starts;
  stopped_since_[who].reset();
  cpu_[who] = milliseconds{0};
  out.push_back({what::start, who});
}

group_watch::actions group_watch::begin(time_point now) {
  actions out;
  start_workers(now, out);
  return out;
}

void group_watch::start_workers(time_point now, actions& out) {
  enter(group_phase::workers, now);
  for (std::size_t i = 0; i < master(); ++i) {
    if (!members_[i].runs) start(i, out);
  }
}

group_watch::actions group_watch::listening(std::size_t worker, time_point) {
  if (members_[worker].runs && !members_[worker].ending) members_[worker].listens = true;
  return {};
}

void group_watch::kill(std::size_t who, actions& out) {
  if (!members_[who].runs || members_[who].ending) return;
  members_[who].ending = true;
  out.push_back({what::kill, who});
}

bool group_watch::still_ending() const {
  return std::any_of(members_.begin(), members_.end(), [](const auto& m) { return m.runs && m.ending; });
}

milliseconds group_watch::pause() const {
  milliseconds p = limits_.first_pause;
  for (unsigned i = 1; i < tries_ && p < limits_.longest_pause; ++i) p *= 2;
  return std::min(p, limits_.longest_pause);
}

/// Whom a failure is laid to.
void group_watch::blame(group_fault fault, std::size_t who, time_point now, actions& out) {
  fault_ = fault;
  whose_ = who;
  events_.push_back({fault, who, now});
  if (events_.size() > most_events) events_.pop_front();
  auto& m = members_[who];
  if (++m.failures <= limits_.restarts || m.lost) return;
  m.lost = true;
  out.push_back({what::lost, who});
}

/// The group no longer works, or not yet: what is in the way of a new start is ended, the master first.
void group_watch::fail(group_fault fault, std::size_t who, time_point now, actions& out) {
  ++tries_;
  blame(fault, who, now, out);
  kill(master(), out);
  const bool of_connections = fault == group_fault::master_stuck || fault == group_fault::master_hung ||
                              fault == group_fault::link_down;
  for (std::size_t i = 0; i < master(); ++i) {
    // Nothing ends a connection whose other end is gone: such a worker waits for it, and serves nobody else.
    if (of_connections || i == who) kill(i, out);
  }
  enter(group_phase::clearing, now);
}

group_watch::actions group_watch::exited(std::size_t who, std::optional<group_cause> because,
                                         time_point now) {
  actions out;
  auto& m = members_[who];
  const bool expected = m.ending;
  m.runs = m.listens = m.ending = m.stopped = false;
  stopped_since_[who].reset();
  if (phase_ == group_phase::ending) return tick(now);
  if (expected || phase_ == group_phase::off || phase_ == group_phase::ended) return tick(now);
  const group_cause dead{who == master() ? group_fault::master_dead : group_fault::worker_dead, who};
  const group_cause why = because.value_or(dead);
  if (phase_ != group_phase::clearing && phase_ != group_phase::pausing) {
    fail(why.fault, why.who, now, out);
  } else if (who != master() && !events_.empty() &&
             (fault_ == group_fault::master_dead || fault_ == group_fault::version_mismatch)) {
    // The master was seen to end first, but this is what ended it.
    --members_[whose_].failures;
    events_.pop_back();
    blame(why.fault, why.who, now, out);
  }
  for (const auto& more : tick(now)) out.push_back(more);
  return out;
}

group_watch::actions group_watch::looked(const group_look& look, time_point now) {
  actions out;
  if (phase_ == group_phase::master && look.ready) {
    members_[master()].listens = true;
    if (!events_.empty() && !events_.back().healed) {
      for (auto& e : events_) {
        if (!e.healed) e.healed = now;
      }
    }
    fault_ = group_fault::none;
    progress_ = look.progress;
    moved_ = answered_ = now;
    enter(group_phase::serving, now);
  }
  if (phase_ == group_phase::master) doubt(look);
  if (phase_ == group_phase::serving || phase_ == group_phase::master) watch_stopped(look, now, out);
  if (phase_ == group_phase::serving && out.empty()) watch_progress(look, now, out);
  for (const auto& more : tick(now)) out.push_back(more);
  return out;
}

/// A worker that cannot be reached, or at which somebody else is connected too.
void group_watch::doubt(const group_look& look) {
  in_doubt_.reset();
  for (std::size_t i = 0; i < look.workers.size() && i < master(); ++i) {
    if (look.workers[i].unheard || look.workers[i].clients.value_or(0) > 1) in_doubt_ = i;
  }
}

void group_watch::watch_stopped(const group_look& look, time_point now, actions& out) {
  for (std::size_t i = 0; i < members_.size(); ++i) {
    if (i < master() && i >= look.workers.size()) continue;
    const auto& seen = i == master() ? look.master : look.workers[i];
    members_[i].stopped = members_[i].runs && seen.state == process_state::stopped;
    if (!members_[i].stopped) {
      stopped_since_[i].reset();
      continue;
    }
    if (!stopped_since_[i]) stopped_since_[i] = now;
    if (now - *stopped_since_[i] < limits_.frozen) continue;
    fail(i == master() ? group_fault::master_frozen : group_fault::worker_frozen, i, now, out);
    return;
  }
}

void group_watch::watch_progress(const group_look& look, time_point now, actions& out) {
  bool moves = !look.busy || look.progress != progress_;
  const auto passed = std::chrono::duration<double>(now - answered_);
  for (std::size_t i = 0; look.answers && i < members_.size(); ++i) {
    if (i < master() && i >= look.workers.size()) continue;
    const auto& seen = i == master() ? look.master : look.workers[i];
    if (!seen.cpu) continue;
    const auto used = std::chrono::duration<double>(*seen.cpu - cpu_[i]);
    // The part of a prompt that is being read takes long and shows nowhere else.
    if (passed.count() > 0 && cpu_[i].count() > 0 && used > computing * passed) moves = true;
    cpu_[i] = *seen.cpu;
  }
  if (look.answers) {
    answered_ = now;
    progress_ = look.progress;
    if (moves) moved_ = now;
  }
  // Who stands stopped explains it, and may go on yet.
  if (std::any_of(members_.begin(), members_.end(), [](const auto& m) { return m.stopped; })) return;
  if (now - answered_ >= limits_.stall) {
    fail(group_fault::master_hung, master(), now, out);
  } else if (now - moved_ >= limits_.stall) {
    stalled(look, now, out);
  }
}

/// Nothing moves though a slot is busy, and nobody is dead or stopped.
void group_watch::stalled(const group_look& look, time_point now, actions& out) {
  for (std::size_t i = 0; i < look.workers.size() && i < master(); ++i) {
    if (look.workers[i].clients == 0U) return fail(group_fault::master_hung, i, now, out);
  }
  for (std::size_t i = 0; i < look.workers.size() && i < master(); ++i) {
    if (look.workers[i].unheard) return fail(group_fault::link_down, i, now, out);
  }
  fail(group_fault::link_down, master(), now, out);
}

group_watch::actions group_watch::tick(time_point now) {
  actions out;
  const auto here = now - since_;
  switch (phase_) {
    case group_phase::workers: {
      const auto late =
          std::find_if(members_.begin(), members_.end() - 1, [](auto& m) { return !m.listens; });
      if (late == members_.end() - 1) {
        enter(group_phase::master, now);
        in_doubt_.reset();
        start(master(), out);
      } else if (here >= limits_.listen) {
        fail(group_fault::worker_silent, static_cast<std::size_t>(late - members_.begin()), now, out);
      }
      break;
    }
    case group_phase::master:
      if (here >= limits_.ready) fail(group_fault::master_stuck, in_doubt_.value_or(master()), now, out);
      break;
    case group_phase::serving:
      if (here < limits_.settled) break;
      tries_ = 0;
      for (auto& m : members_) m.failures = 0;
      break;
    case group_phase::clearing:
      if (!still_ending()) enter(group_phase::pausing, now);
      break;
    case group_phase::pausing:
      if (here >= pause()) start_workers(now, out);
      break;
    case group_phase::ending: end_next(now, out); break;
    case group_phase::off:
    case group_phase::ended: break;
  }
  return out;
}

group_watch::actions group_watch::end(time_point now) {
  actions out;
  if (phase_ == group_phase::ending || phase_ == group_phase::ended) return out;
  enter(group_phase::ending, now);
  for (auto& m : members_) m.ending = false;
  end_next(now, out);
  return out;
}

/// The master first, which would abort over a worker that ends before it; after the grace by force.
void group_watch::end_next(time_point now, actions& out) {
  if (std::none_of(members_.begin(), members_.end(), [](const auto& m) { return m.runs; }))
    return enter(group_phase::ended, now);
  const bool masters_turn = members_[master()].runs;
  const std::size_t first = masters_turn ? master() : 0;
  const std::size_t last = masters_turn ? members_.size() : master();
  const bool over = now - since_ >= limits_.grace;
  for (std::size_t i = first; i < last; ++i) {
    if (!members_[i].runs) continue;
    if (!members_[i].ending) {
      members_[i].ending = true;
      since_ = now;
      out.push_back({what::terminate, i});
    } else if (over) {
      out.push_back({what::kill, i});
    }
  }
}

}  // namespace pocketfleet
