// The fleet and who may use it: permits, breakers, the queue. Events in, effects out.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "pocketfleet/core/breaker.hpp"
#include "pocketfleet/core/condition.hpp"
#include "pocketfleet/core/error.hpp"
#include "pocketfleet/core/forecast.hpp"
#include "pocketfleet/core/pace.hpp"
#include "pocketfleet/core/phone.hpp"
#include "pocketfleet/core/policy.hpp"
#include "pocketfleet/core/retry.hpp"
#include "pocketfleet/core/sessions.hpp"
#include "pocketfleet/core/telemetry.hpp"
#include "pocketfleet/core/time.hpp"
#include "pocketfleet/core/wait_line.hpp"
#include "pocketfleet/core/want.hpp"

namespace pocketfleet {

struct dispatch_settings {
  std::size_t queue_capacity = 64;
  breaker_settings breaker{};
  double retry_share = 0.2;
  std::size_t retry_floor = 3;
  seconds probe_interval{5};  ///< how soon a phone that is down may be seen again: the least Retry-After
  rest_settings rest{};
  bool hedging = false;       ///< a second phone is asked when the first is later than it almost ever is
  double hedge_share = 0.05;  ///< of the requests in flight that may run on a second phone; at least one may
};

/// The right to run one request on one phone. Given back by exactly one settle().
struct grant {
  std::shared_ptr<const phone_target> phone;
  time_point since{};
  pace known{};            ///< the phone's, as of now
  bool retry = false;      ///< counts against the retry budget
  bool trial = false;      ///< the one that a half-open breaker lets through
  bool alone = false;      ///< nothing else ran on the phone when it was given
  bool hedge = false;      ///< beside another phone that is late
  bool foreseen = false;   ///< by a policy that wants to know what the phone's cache has
  forecast run{};          ///< what it was thought to take
  duration late_after{0};  ///< a first token later than that is later than 19 of 20; 0: not known
};

struct queued {};  ///< a place in the queue; a granted effect or cancel() ends it
using decision =
    std::variant<grant, queued, error>;  ///< error: no_phone, queue_full, model_not_found, unsupported

/// Effect: a waiter got its grant.
struct granted {
  ticket waiter = 0;
  grant what{};
};

/// How a phone stands, for /health and metrics.
struct phone_status {
  phone_config config;
  std::string model;  ///< used when a request names none; empty: not known yet
  engine_kind engine = engine_kind::unknown;
  health state = health::unknown;
  std::string reason;  ///< why it gets no requests now; empty if it does
  bool healthy = false;
  bool draining = false;  ///< no longer in the fleet: its last requests are being finished
  bool drained = false;   ///< by hand: in the fleet, but gets no new requests
  bool suspect = false;   ///< has just failed: asked only if there is no other, until it is seen well again
  bool quiet = false;     ///< its heartbeats, or a member's, have stopped: asked only if there is no other
  rest_kind rests = rest_kind::none;
  std::string resting{};               ///< why; empty if it does not
  std::optional<telemetry> reads{};    ///< of its last heartbeat
  std::optional<seconds> heard_ago{};  ///< since then
  std::uint32_t in_flight = 0;
  std::uint32_t permits = 0;  ///< as limited now by slots and slow start
  breaker_state breaker = breaker_state::closed;
  bool breaker_held = false;  ///< opened by hand: stays so until it is closed by hand
  std::optional<std::uint32_t> slots{};
  std::vector<std::string> models{};
  std::vector<std::string> loaded{};
  std::shared_ptr<const phone_target> target{};
  std::optional<group_report> group{};   ///< as its supervisor last said
  std::vector<member_status> members{};  ///< of its group, as they said themselves; in the file's order
  std::vector<model_speed> speeds{};     ///< as learned
};

/// Single-threaded; service/desk.hpp owns the only one, locks it, and wakes those it has granted.
///
/// Late binding: a request is bound to a phone when one is free for it, never queued behind a particular one.
/// Whatever frees a phone (settle, report, configure, tick) hands it at once to the first waiter that can use
/// it, so that a free phone and a waiter that could use it never stand side by side. But for later tries:
/// they wait for the retry budget, and rather than try a phone that has just failed they wait for one that
/// has not. And but for a policy that foresees: it may leave a slow phone idle for a waiter that is answered
/// sooner by a fast one that is still busy; each event makes it think again.
class dispatcher {
 public:
  dispatcher(const dispatch_settings& settings, std::unique_ptr<policy> chosen, std::uint32_t seed);

  /// Takes the fleet's phones. Those known by host and port keep their state; one known by its id that has
  /// another address now is looked at anew before it gets requests, but what has been learned of it stays;
  /// those no longer named get no new requests and are forgotten when their last one has ended.
  std::vector<granted> configure(std::span<const phone_config> phones, time_point now);
  void use_policy(std::unique_ptr<policy> chosen) { policy_ = std::move(chosen); }

  /// A request wants a phone. `queued` means that `who` will be named by a later effect; call tick() then.
  decision acquire(ticket who, const want& wanted, time_point now);

  /// A second phone for a request, at once and without waiting; nothing if none is to spare.
  std::optional<grant> spare(const want& wanted, time_point now);

  /// A waiter leaves the queue. False: it is not there (it was granted before).
  bool cancel(ticket who) { return line_.leave(who); }

  /// The phone answers: a retry no longer counts against the budget.
  std::vector<granted> answered(grant& what, time_point now);

  /// A grant ends. `m`: what the engine has measured, if it has. `holds`: what the phone's cache has of it
  /// now, if more than the prompt.
  std::vector<granted> settle(const grant& what, verdict how, time_point now, const measured& m = {},
                              const prefix_chain& holds = {});

  /// A heartbeat of the phone, or of the member of a group, with that id; without one nothing happens. When
  /// no other comes for three intervals, the phone is quiet.
  std::vector<granted> hear(std::string_view id, const telemetry& reads, seconds interval, time_point now);

  /// By hand, of the phone with that name; without such a phone nothing happens. A drained phone gets no new
  /// requests and finishes those it has. That, and a breaker held open, stay until they are taken back: over
  /// every configure(), and with a phone that has an id wherever it goes, out of the fleet and back too.
  std::vector<granted> drain(std::string_view name, bool drained, time_point now);
  std::vector<granted> hold_breaker_open(std::string_view name, bool open, time_point now);

  /// A probe's finding. Removed phones are ignored.
  std::vector<granted> report(phone_id phone, const phone_report& found, time_point now);

  /// Time has passed: an open breaker may have become half-open.
  std::vector<granted> tick(time_point now);

  std::vector<phone_status> status(time_point now);
  std::optional<phone_status> status_of(std::string_view id, time_point now);  ///< its own, or a member's
  std::optional<phone_status> status_named(std::string_view name, time_point now);
  bool any_healthy(time_point now);                                  ///< is there a phone that gets requests?
  std::vector<std::shared_ptr<const phone_target>> targets() const;  ///< of all phones that are not removed
  /// Of the fleet; a phone whose engine is not known yet counts as every engine.
  engine_mask engines() const;

  /// Of the phones that have the model (normalized; empty: any model), or have not said yet what they have.
  /// Every engine if there is none: acquire() tells better what is wrong.
  engine_mask engines(std::string_view model) const;

  /// Who answers instead of a model (normalized) that only a group has which cannot be used now: its
  /// stand-in, if a phone can be used for that. Empty: nobody.
  std::string stand_in(std::string_view model, time_point now);
  std::size_t waiting() const { return line_.size(); }

  /// When a permit would come free for a request that came now: for Retry-After, from the measured drain
  /// rate.
  seconds expected_wait() const;
  std::size_t in_flight() const { return in_flight_; }

 private:
  struct phone {
    phone(phone_config c, const dispatch_settings& settings)
        : config(std::move(c)), cut_out(settings.breaker), vital(settings.rest) {}

    /// What is true of a phone wherever it is.
    void take_over(const phone& same) {
      known = same.known;
      vital = same.vital;
      drained = same.drained;
      past = same.past;
      if (same.cut_out.held_open()) cut_out.hold_open();
    }

    phone_config config;
    std::shared_ptr<const phone_target> target;
    std::string own_model;  // normalized; used when a request names none
    breaker cut_out;
    health state = health::unknown;
    std::string reason;
    engine_kind engine = engine_kind::unknown;
    std::vector<served_model> models;
    std::vector<std::string> normalized;  // their names and aliases, to compare; with the configured one
    std::vector<served_model> loaded;
    std::optional<std::uint32_t> slots;
    bool vision = true;                 // until the phone says otherwise
    bool messages = true;               // likewise
    std::optional<group_report> group;  // what its supervisor last said
    bool removed = false;
    bool drained = false;  // by hand
    bool suspect = false;  // has failed, and has neither answered nor been seen well since
    std::uint32_t in_flight = 0;
    std::size_t place = 0;  // in glances_, unless it is removed
    pace known;
    condition vital;  // by heartbeats
    phone_past past;
  };
  /// Phones that serve the same requests: whether they do is looked at once for all of them.
  struct kind {
    explicit kind(const phone& like);
    bool fits(const phone& p) const;
    bool has_model(const want& wanted) const;
    bool serves(const want& wanted) const;

    std::shared_ptr<const phone_target> target;
    std::vector<std::string> normalized;
    bool vision, messages;
  };
  /// What was said by hand of a phone that is not in the fleet now.
  struct said {
    bool drained = false;
    bool breaker_held = false;
  };
  /// The better ones are asked first, and the others only if none of these is free.
  enum class standing : std::uint8_t {
    sound,
    spared,   // by its battery, its heat, or because it has stopped to say how it is
    suspect,  // has just failed
  };

  /// All that a choice asks of each phone, side by side: a fleet of a thousand is looked through in a few
  /// microseconds. Made anew when something has happened to the phone or its time is over.
  struct glance {
    phone* of = nullptr;
    std::int64_t credit = 0;  // the policy's
    time_point until = time_point::min();
    std::uint32_t in_flight = 0;
    std::uint32_t permits = 0;
    std::uint32_t weight = 0;
    std::uint32_t what = 0;  // in kinds_
    standing its = standing::sound;
    bool usable = false;

    bool operator==(const glance&) const = default;
  };

  bool has_model(const phone& p, const want& wanted) const { return kinds_[kind_of(p)].has_model(wanted); }
  bool serves(const phone& p, const want& wanted) const {
    return (!wanted.only || *wanted.only == p.target->id) && kinds_[kind_of(p)].serves(wanted);
  }
  std::uint32_t kind_of(const phone& p) const { return glances_[p.place].what; }
  bool usable(phone& p, time_point now) const;
  static bool healthy(phone& p, time_point now);
  static standing how_good(const phone& p, time_point now);
  std::uint32_t permits(phone& p, time_point now) const;
  void line_up();
  void sort_out(const phone& p);
  void changed(const phone& p);
  glance look(const glance& before, time_point now) const;
  const glance& fresh(glance& g, time_point now) const;
  bool find_candidates(const want& wanted, time_point now);
  static std::uint32_t weight(phone& p, time_point now);
  static std::string_view speed_name(const phone& p, const want& wanted, std::string& made);
  candidate foreseen(glance& g, const want& wanted, time_point now);
  const candidate& choose(const want& wanted);
  void book_those_before(wait_line::iterator place, time_point now);
  std::optional<grant> try_grant(const want& wanted, time_point now);
  grant give(const candidate& to, const want& wanted, time_point now);
  bool permit_there(time_point now);
  std::vector<granted> serve_queue(time_point now);
  bool retry_room() const { return retries_.room(in_flight_ + line_.size()); }
  std::optional<error> why_never(const want& wanted, time_point now);
  std::string models_there() const;
  void rebuild(phone& p, phone_id id);
  phone_status look_at(phone& p, time_point now) const;
  phone* named(std::string_view name);
  void forget_ended();

  dispatch_settings settings_;
  std::unique_ptr<policy> policy_;
  std::minstd_rand random_;
  retry_budget retries_;
  std::vector<std::unique_ptr<phone>> phones_;  // by phone_id; null: removed, and its last request has ended
  std::vector<phone_id> order_;                 // those in the file, in its order
  std::vector<glance> glances_;                 // likewise
  std::vector<kind> kinds_;
  std::map<std::string, said, std::less<>> away_;  // by phone_config::id
  wait_line line_;
  forecaster forecasts_;
  sessions sessions_;
  std::uint64_t pass_ = 0;  // over the waiters: what they have in mind is forgotten with the next
  std::size_t in_flight_ = 0;
  std::size_t hedges_ = 0;             // of these
  double mean_held_ = 0;               // seconds a permit is held; exponentially weighted
  std::vector<candidate> candidates_;  // scratch, as is the next
  std::vector<std::int8_t> serving_;   // by kind: 1 it does, 0 not, -1 not asked yet
};

}  // namespace pocketfleet
