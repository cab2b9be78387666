#include "pocketfleet/service/desk.hpp"

#include <algorithm>

namespace pocketfleet {

permit& permit::operator=(permit&& other) noexcept {
  if (this != &other) {
    settle(verdict::neutral);
    desk_ = std::exchange(other.desk_, nullptr);
    grant_ = std::move(other.grant_);
    lost_ = std::move(other.lost_);
  }
  return *this;
}

void permit::settle(verdict how, const measured& m, const prefix_chain& holds) {
  if (desk* to = std::exchange(desk_, nullptr)) to->settle(grant_, how, m, holds);
}

std::uint64_t permit::thought_cached(std::uint64_t prompt_tokens) const {
  const forecast& run = grant_.run;
  if (run.prompt_bytes == 0) return 0;
  const double share = static_cast<double>(run.cached.known) / static_cast<double>(run.prompt_bytes);
  return static_cast<std::uint64_t>(std::min(1.0, share) * static_cast<double>(prompt_tokens));
}

void permit::answered() {
  if (desk_ != nullptr && grant_.retry) desk_->answered(grant_);
}

desk::desk(const dispatch_settings& settings, std::unique_ptr<policy> chosen, std::uint32_t seed)
    : dispatcher_(settings, std::move(chosen), seed) {}

/// One event into the dispatcher; those who got their grant are woken when the lock is free again.
template <class Event>
void desk::run(Event event) {
  std::vector<std::shared_ptr<waker>> woken;
  {
    const std::lock_guard lock(mutex_);
    for (granted& g : event(dispatcher_, clock::now())) {
      const auto found = places_.find(g.waiter);
      found->second->got = std::move(g.what);
      woken.push_back(found->second->who);
      places_.erase(found);
    }
  }
  for (const auto& who : woken) who->wake();
}

task<result<permit>> desk::acquire(executor where, const want& wanted, time_point deadline,
                                   std::stop_token stop) {
  std::optional<place> mine;
  {
    const std::lock_guard lock(mutex_);
    const ticket number = ++next_ticket_;
    decision decided = dispatcher_.acquire(number, wanted, clock::now());
    if (auto* now = std::get_if<grant>(&decided)) co_return hand_out(std::move(*now));
    if (auto* why = std::get_if<error>(&decided)) co_return std::move(*why);
    mine.emplace(*this, where);
    mine->number = number;
    places_.emplace(number, &*mine);
  }
  tick();
  bool in_time = true;
  {
    const std::stop_callback on_stop(stop, [who = mine->who] { who->wake(); });
    if (!stop.stop_requested()) in_time = co_await mine->who->wait(deadline);
  }
  const std::lock_guard lock(mutex_);
  // Granted in the same moment as stopped or timed out: it is ours, and the permit gives it back if nobody
  // wants it.
  std::optional<grant> got = std::exchange(mine->got, std::nullopt);
  if (got) co_return hand_out(std::move(*got));
  if (in_time) co_return error(errc::aborted);
  co_return error(errc::queue_timeout, "no phone came free in time", 0, dispatcher_.expected_wait());
}

permit desk::hand_out(grant what) {
  const phone_target& on = *what.phone;
  std::stop_token lost;
  if (!on.group.status_host.empty()) lost = lost_[on.id].get_token();
  return {*this, std::move(what), std::move(lost)};
}

void desk::give_up(phone_id phone) {
  std::stop_source those;
  {
    const std::lock_guard lock(mutex_);
    if (auto found = lost_.extract(phone)) those = std::move(found.mapped());
  }
  those.request_stop();
}

desk::place::~place() {
  std::optional<grant> unused;
  {
    const std::lock_guard lock(at.mutex_);
    if (at.places_.erase(number) != 0) at.dispatcher_.cancel(number);
    unused = std::move(got);
  }
  if (unused) at.settle(*unused, verdict::neutral);
}

void desk::settle(const grant& what, verdict how, const measured& m, const prefix_chain& holds) {
  run([&](dispatcher& d, time_point now) { return d.settle(what, how, now, m, holds); });
}

void desk::answered(grant& what) {
  run([&](dispatcher& d, time_point now) { return d.answered(what, now); });
}

std::optional<permit> desk::spare(const want& wanted) {
  const std::lock_guard lock(mutex_);
  if (auto got = dispatcher_.spare(wanted, clock::now())) return hand_out(std::move(*got));
  return std::nullopt;
}

void desk::configure(const std::vector<phone_config>& phones, std::unique_ptr<policy> chosen) {
  run([&](dispatcher& d, time_point now) {
    if (chosen) d.use_policy(std::move(chosen));
    return d.configure(phones, now);
  });
}

void desk::report(phone_id phone, const phone_report& found) {
  run([&](dispatcher& d, time_point now) { return d.report(phone, found, now); });
}

std::optional<phone_status> desk::hear(std::string_view id, const telemetry& reads, seconds interval) {
  run([&](dispatcher& d, time_point now) { return d.hear(id, reads, interval, now); });
  const std::lock_guard lock(mutex_);
  return dispatcher_.status_of(id, clock::now());
}

std::optional<phone_status> desk::drain(std::string_view name, bool drained) {
  run([&](dispatcher& d, time_point now) { return d.drain(name, drained, now); });
  return status_named(name);
}

std::optional<phone_status> desk::hold_breaker_open(std::string_view name, bool open) {
  run([&](dispatcher& d, time_point now) { return d.hold_breaker_open(name, open, now); });
  return status_named(name);
}

std::optional<phone_status> desk::status_named(std::string_view name) {
  const std::lock_guard lock(mutex_);
  return dispatcher_.status_named(name, clock::now());
}

void desk::tick() {
  run([](dispatcher& d, time_point now) { return d.tick(now); });
}

std::vector<phone_status> desk::status() {
  const std::lock_guard lock(mutex_);
  return dispatcher_.status(clock::now());
}

bool desk::any_healthy() {
  const std::lock_guard lock(mutex_);
  return dispatcher_.any_healthy(clock::now());
}

std::vector<std::shared_ptr<const phone_target>> desk::targets() {
  const std::lock_guard lock(mutex_);
  return dispatcher_.targets();
}

engine_mask desk::engines() {
  const std::lock_guard lock(mutex_);
  return dispatcher_.engines();
}

engine_mask desk::engines(std::string_view model) {
  const std::lock_guard lock(mutex_);
  return dispatcher_.engines(model);
}

std::string desk::stand_in(std::string_view model) {
  const std::lock_guard lock(mutex_);
  return dispatcher_.stand_in(model, clock::now());
}

std::size_t desk::waiting() {
  const std::lock_guard lock(mutex_);
  return dispatcher_.waiting();
}

}  // namespace pocketfleet
