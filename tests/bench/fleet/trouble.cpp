// What goes wrong with phones, and how the gateway gets to know.
#include <algorithm>

#include "world.hpp"

namespace pocketfleet::fleet {
namespace {

constexpr double look_every = 5;  // the prober's settings
constexpr double look_again = 1;  // while it is in doubt
constexpr double look_limit = 2;
constexpr unsigned fall = 3;
constexpr unsigned rise = 2;
constexpr double beat_every = 10;     // phone_setup.sh --interval
constexpr double silence_limit = 25;  // TCP keepalive: 10 s, then 3 times 5

}  // namespace

void world::expect(std::size_t phone, trouble what) {
  const fault_habits& f = phones_[phone].what.spec().faults;
  const double mean = what == trouble::kill ? f.kill : what == trouble::reboot ? f.reboot : f.stall;
  if (mean > 0)
    schedule(exponential(phones_[phone].luck, mean), kind::fault, phone, static_cast<std::uint64_t>(what));
}

void world::fault(std::size_t phone, trouble what) {
  place& p = phones_[phone];
  expect(phone, what);
  if (!p.up) return;
  p.what.advance(now_);
  if (what == trouble::stall) {
    const double lasts = uniform(p.luck, 1, 30);
    p.stalled_until = std::max(p.stalled_until, now_ + lasts);
    schedule(p.stalled_until - now_, kind::stall_end, phone);
    for (const job& j : p.what.jobs()) {
      const progress& r = requests_[j.request];
      const double limit = std::chrono::duration<double>(r.known.between_tokens(seconds{30})).count();
      if (j.shown && lasts > limit) schedule(limit, kind::give_up, j.request, r.attempt, errc::stalled);
    }
    return;
  }
  const bool whole_phone = what == trouble::reboot;
  std::vector<std::size_t> hit;
  for (const job& j : p.what.jobs()) {
    requests_[j.request].lost = j;
    hit.push_back(j.request);
  }
  p.what.die();
  p.up = false;
  p.answers_no = !whole_phone;
  const double restart = 5;
  const double load = p.what.spec().ollama ? 0 : p.what.spec().load_s;
  schedule((whole_phone ? uniform(p.luck, 120, 600) : restart) + load, kind::back, phone);
  look_at(phone);
  for (const std::size_t r : hit)
    schedule(whole_phone ? silence_limit : 0, kind::give_up, r, requests_[r].attempt, errc::connection_lost);
}

void world::come_back(std::size_t phone) {
  phones_[phone].up = true;
}

void world::end_stall(std::size_t phone) {
  place& p = phones_[phone];
  if (stalled(p)) return;  // another has begun meanwhile
  p.what.advance(now_);
  std::vector<std::size_t> begun, done;
  for (const job& j : p.what.jobs()) {
    if (j.at >= job::phase::writing && !j.shown) begun.push_back(j.request);
    if (j.at == job::phase::written) done.push_back(j.request);
  }
  for (const std::size_t r : begun) first_token(r);
  for (const std::size_t r : done) whole(r);
  look_at(phone);
}

/// Reports only what is new: to be told the same again changes nothing in the dispatcher.
void world::probe(std::size_t phone) {
  place& p = phones_[phone];
  const bool well = p.up && !stalled(p);
  p.good = well ? p.good + 1 : 0;
  p.bad = well ? 0 : p.bad + 1;
  const bool good_again = well && !p.seen_up && p.good >= rise;
  const bool lost = !well && p.seen_up && p.bad >= fall;
  const bool other_memory = well && p.seen_loaded != p.what.loaded();
  if (good_again || lost || (well && p.seen_up && (p.in_doubt || other_memory))) {
    phone_report found;
    found.state = lost ? health::down : health::up;
    found.reason = lost ? "no answer" : "";
    if (!lost) {
      const std::vector<served_model> model{served_model("m", "m1")};
      found.engine = p.what.spec().ollama ? engine_kind::ollama : engine_kind::llama_server;
      found.models = model;
      found.loaded = p.what.loaded() ? model : std::vector<served_model>{};
      if (!p.what.spec().ollama) found.slots = p.what.spec().permits;
      p.seen_loaded = p.what.loaded();
      p.in_doubt = false;
    }
    p.seen_up = !lost;
    starts out;
    by_->found(phone, found, now_, out);
    carry_out(std::move(out));
  }
  const fault_habits& f = p.what.spec().faults;
  if (f.kill + f.reboot + f.stall == 0 && p.what.loaded()) return;  // there will be nothing new
  const bool doubt = well ? !p.seen_up : p.seen_up;
  const double took = well || p.answers_no ? 0 : look_limit;
  schedule((doubt ? look_again : look_every) + took, kind::probe, phone);
}

void world::beat(std::size_t phone) {
  place& p = phones_[phone];
  p.what.advance(now_);
  if (p.up && !stalled(p)) {
    telemetry t;
    t.temperature_c = p.what.heat().battery();
    t.battery_level = 80;
    t.charging = true;
    starts out;
    by_->heard(phone, t, now_, out);
    carry_out(std::move(out));
  }
  schedule(beat_every, kind::beat, phone);
}

}  // namespace pocketfleet::fleet
