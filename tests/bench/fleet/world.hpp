// The fleet, its clients and the gateway in virtual time. The same seed, the same run, to the last digit.
#pragma once

#include <memory>
#include <queue>
#include <set>

#include "machine.hpp"
#include "pocketfleet/core/dispatcher.hpp"
#include "workload.hpp"

namespace pocketfleet::fleet {

/// The virtual second as the core's time.
time_point at(double second);

/// A request goes to a phone now; if it is under way on another, it is broken off there and goes on here.
struct start {
  std::size_t request = 0;
  std::size_t phone = 0;
  pace known{};  ///< for the patience with it
};
using starts = std::vector<start>;

/// What nobody in the gateway can know; for contenders that are to show what knowing it would be worth.
class truth {
 public:
  virtual ~truth() = default;
  // Seconds. `answer`: tokens that it is thought to take; 0: as many as it will.
  virtual double takes(std::size_t phone, std::size_t request, bool by_cache, double answer = 0) const = 0;
  virtual double busy_for(std::size_t phone, double answer = 0) const = 0;
  /// Of a request under way: there, and if it were broken off and went on on another phone.
  virtual double left(std::size_t phone, std::size_t request, double answer = 0) const = 0;
  virtual double goes_on(std::size_t phone, std::size_t request, double answer = 0) const = 0;
  /// What was read there for somebody else, and would be lost.
  virtual double displaces(std::size_t phone, std::size_t request) const = 0;
};

/// Who gives requests to phones. All requests under way are known by their numbers.
class balancer {
 public:
  balancer() = default;
  balancer(const balancer&) = delete;
  balancer& operator=(const balancer&) = delete;
  virtual ~balancer() = default;

  /// False: refused, and there is no point in waiting.
  virtual bool arrive(std::size_t request, const want& wanted, double now, starts& out) = 0;
  virtual void shown(std::size_t, double, starts&) {}
  virtual void answered(std::size_t, const prefix_chain&) {
  }  ///< with what its next turn begins; then ended()
  virtual void ended(std::size_t request, std::size_t phone, verdict how, const measured& m, double now,
                     starts& out) = 0;
  virtual void found(std::size_t phone, const phone_report& what, double now, starts& out) = 0;
  virtual void heard(std::size_t, const telemetry&, double, starts&) {}
  virtual bool ticks() const { return false; }
  virtual void tick(double, starts&) {}
  virtual void learn_before(std::size_t, const want&, const measured&) {}  ///< the workload's `known`
};

/// By name; `real` is to be one of the dispatcher's policies.
std::unique_ptr<balancer> make_balancer(std::string_view name, const std::vector<phone_spec>& phones,
                                        const truth& world, std::uint64_t seed);
std::vector<std::string> balancer_names();

/// What became of a request.
struct fate {
  enum class end : std::uint8_t { none, answered, failed, refused, dropped };
  double arrived = 0;
  double first_token = 0;  ///< when
  double ended = 0;
  end how = end::none;
  unsigned tries = 0;
  unsigned ends = 0;          ///< must be 1, but for what a horizon cuts off
  std::uint32_t cached = 0;   ///< tokens of the prompt, at the first try
  std::uint32_t at_best = 0;  ///< ... on the phone that had most of it then
  std::uint32_t ever = 0;     ///< ... that any phone had read before
  std::size_t phone = 0;      ///< the last
};

struct run_result {
  std::vector<fate> fates;
  double ended = 0;           ///< virtual seconds
  double tokens_wasted = 0;   ///< read or written for nothing
  double tokens_written = 0;  ///< of answers, those under way at the end included
  double tokens_read = 0;
};

class world final : public truth {
 public:
  world(const std::vector<phone_spec>& phones, const workload& work, std::uint64_t seed);
  run_result run(balancer& by);

  double takes(std::size_t phone, std::size_t request, bool by_cache, double answer) const override;
  double busy_for(std::size_t phone, double answer) const override;
  double left(std::size_t phone, std::size_t request, double answer) const override;
  double goes_on(std::size_t phone, std::size_t request, double answer) const override;
  double displaces(std::size_t phone, std::size_t request) const override;

 private:
  enum class kind : std::uint8_t { arrival, phone, give_up, fault, back, stall_end, probe, beat, tick };
  struct event {
    double when = 0;
    std::uint64_t number = 0;  // among those of the same moment
    kind what{};
    std::size_t whom = 0;
    std::uint64_t stamp = 0;  // it is void if that has changed
    errc why{};
    bool operator>(const event& o) const { return when != o.when ? when > o.when : number > o.number; }
  };
  struct place {
    place(machine m, random_source r) : what(std::move(m)), luck(r) {}

    machine what;
    std::uint64_t stamp = 0;
    bool up = true;
    bool answers_no = true;  // if not up: its host refuses; false: silence
    double stalled_until = 0;
    // The prober's:
    bool seen_up = true;
    bool seen_loaded = false;
    bool in_doubt = false;  // has failed since the last good look
    unsigned good = 0, bad = 0;
    random_source luck;
  };
  struct progress {
    want wanted;
    std::uint64_t attempt = 0;  // the one under way
    std::optional<std::size_t> phone;
    std::uint32_t have = 0;  // tokens of the answer, from earlier tries
    unsigned tries = 0;      // in a row that brought nothing
    unsigned rescues = 0;
    pace known{};
    std::optional<job> lost{};  // what the phone was at when it died
  };

  void schedule(double in, kind what, std::size_t whom, std::uint64_t stamp = 0, errc why = {});
  void happen(const event& e);
  void settle_in();
  void wind_up();
  void issue(std::size_t r);
  bool stalled(const place& p) const { return p.stalled_until > now_; }
  void ask(std::size_t r);
  void carry_out(starts what);
  void begin(const start& s);
  void look_at(std::size_t phone);
  void first_token(std::size_t r);
  void whole(std::size_t r);
  void broken_off(std::size_t r, errc why);
  void leave(std::size_t r);
  void end(std::size_t r, fate::end how);
  void note_prefix(std::size_t r);
  enum class trouble : std::uint8_t { kill, reboot, stall };
  void expect(std::size_t phone, trouble what);
  void fault(std::size_t phone, trouble what);
  void come_back(std::size_t phone);
  void end_stall(std::size_t phone);
  void probe(std::size_t phone);
  void beat(std::size_t phone);
  text text_of(std::size_t r) const;
  measured measured_of(const job& j, const phone_spec& by) const;

  const workload& work_;
  std::vector<place> phones_;
  std::vector<progress> requests_;
  std::vector<std::vector<std::size_t>> next_;  // those that come after
  std::set<std::uint64_t> ever_read_;
  std::priority_queue<event, std::vector<event>, std::greater<>> events_;
  std::uint64_t events_made_ = 0;
  balancer* by_ = nullptr;
  random_source luck_;
  run_result result_;
  double now_ = 0;
  std::size_t issued_ = 0;
  std::size_t open_ = 0;  // requests that have not ended
};

}  // namespace pocketfleet::fleet
