// The desk: the only lock on the fleet. Requests get their permits here, or wait.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <unordered_map>
#include <vector>

#include "pocketfleet/core/dispatcher.hpp"
#include "pocketfleet/service/async.hpp"

namespace pocketfleet {

class desk;

/// The right to run one request on one phone. Given back once: by settle(), or without a verdict when it is
/// destroyed.
class permit {
 public:
  permit() = default;
  permit(desk& from, grant what, std::stop_token lost)
      : desk_(&from), grant_(std::move(what)), lost_(std::move(lost)) {}
  permit(permit&& other) noexcept
      : desk_(std::exchange(other.desk_, nullptr)),
        grant_(std::move(other.grant_)),
        lost_(std::move(other.lost_)) {}
  permit& operator=(permit&& other) noexcept;
  permit(const permit&) = delete;
  permit& operator=(const permit&) = delete;
  ~permit() { settle(verdict::neutral); }

  /// `holds`: as dispatcher::settle().
  void settle(verdict how, const measured& m = {}, const prefix_chain& holds = {});
  void answered();  ///< the phone answers: a retry no longer counts against the budget
  const std::shared_ptr<const phone_target>& phone() const { return grant_.phone; }
  const pace& known() const { return grant_.known; }
  /// Asked for, on any thread, when the phone is a group that has failed: nothing more will come.
  const std::stop_token& lost() const { return lost_; }
  duration late_after() const { return grant_.late_after; }  ///< as grant::late_after
  bool foreseen() const { return grant_.foreseen; }          ///< as grant::foreseen

  /// Of a prompt of that many tokens: those that were thought to be in the phone's cache.
  std::uint64_t thought_cached(std::uint64_t prompt_tokens) const;

 private:
  desk* desk_ = nullptr;
  grant grant_;
  std::stop_token lost_{};
};

/// Owned by the application, used from every worker. The lock is never held across a wait, I/O or a log call.
class desk {
 public:
  desk(const dispatch_settings& settings, std::unique_ptr<policy> chosen, std::uint32_t seed);

  /// A permit now, or when a phone comes free, until the deadline (errc::queue_timeout) or until `stop` is
  /// asked for on the executor's thread (errc::aborted). Other errors: as dispatcher::acquire.
  task<result<permit>> acquire(executor where, const want& wanted, time_point deadline, std::stop_token stop);

  /// A second phone, at once; nothing if none is to spare.
  std::optional<permit> spare(const want& wanted);

  /// Without a policy the present one stays.
  void configure(const std::vector<phone_config>& phones, std::unique_ptr<policy> chosen = nullptr);
  void report(phone_id phone, const phone_report& found);
  void give_up(phone_id phone);  ///< what runs on it now is asked to end, as permit::lost() has it

  /// A heartbeat. How the phone stands then; nothing if there is none with that id.
  std::optional<phone_status> hear(std::string_view id, const telemetry& reads, seconds interval);
  /// By hand, as dispatcher::drain() and hold_breaker_open(). How the phone stands then; nothing: there is
  /// none with that name.
  std::optional<phone_status> drain(std::string_view name, bool drained);
  std::optional<phone_status> hold_breaker_open(std::string_view name, bool open);
  void tick();

  std::vector<phone_status> status();
  std::optional<phone_status> status_named(std::string_view name);  ///< of the fleet, not of one that is gone
  bool any_healthy();                                               ///< is there a phone that gets requests?
  std::vector<std::shared_ptr<const phone_target>> targets();
  engine_mask engines();
  engine_mask engines(std::string_view model);   ///< as dispatcher::engines()
  std::string stand_in(std::string_view model);  ///< as dispatcher::stand_in()
  std::size_t waiting();

 private:
  friend class permit;
  /// A waiter's place in the queue; lives in its acquire(). Destroyed early, it leaves the queue.
  struct place {
    place(desk& d, executor where) : at(d), who(std::make_shared<waker>(where)) {}
    place(const place&) = delete;
    place& operator=(const place&) = delete;
    ~place();

    desk& at;
    std::shared_ptr<waker> who;
    ticket number = 0;
    std::optional<grant> got{};  // guarded by at.mutex_
  };

  permit hand_out(grant what);  // locked
  void settle(const grant& what, verdict how, const measured& m = {}, const prefix_chain& holds = {});
  void answered(grant& what);
  template <class Event>
  void run(Event event);

  std::mutex mutex_;
  // guarded by mutex_
  dispatcher dispatcher_;
  std::unordered_map<ticket, place*> places_;  // those in the queue
  ticket next_ticket_ = 0;
  std::unordered_map<phone_id, std::stop_source> lost_;  // of groups with a supervisor
};

}  // namespace pocketfleet
