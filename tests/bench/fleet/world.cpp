#include "world.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "pocketfleet/core/model_name.hpp"

namespace pocketfleet::fleet {
namespace {

constexpr double endless = 2 * 86400;
constexpr double network = 0.03;  // seconds until a request has reached a phone: Wi-Fi

std::uint64_t scatter(std::uint64_t x) {  // as hashes look
  x = (x ^ (x >> 31U)) * 0x9e3779b97f4a7c15U;
  return x ^ (x >> 29U);
}

want want_of(const request& r) {
  want w;
  w.model = normalized_model("m");
  w.prompt_bytes = r.prompt_bytes;
  w.answer_limit = r.limit;
  w.owner = r.owner;
  w.how_soon = r.batch ? urgency::batch : urgency::interactive;
  std::uint32_t bytes = 0;
  for (std::size_t i = 0; i < r.prompt.size(); ++i) {
    bytes += r.bytes[i];
    w.prefix.push_back({scatter(r.prompt[i].id), bytes});
  }
  return w;
}

}  // namespace

time_point at(double second) {
  constexpr double since_start = 3600;  // so that no time is before the clock's own beginning
  return time_point{} +
         std::chrono::duration_cast<duration>(std::chrono::duration<double>(since_start + second));
}

world::world(const std::vector<phone_spec>& phones, const workload& work, std::uint64_t seed)
    : work_(work), requests_(work.requests.size()), next_(work.requests.size()), luck_(seed * 31 + 5) {
  for (const phone_spec& p : phones) {
    phones_.emplace_back(machine(p, work.known || !p.ollama), random_source(luck_()));
  }
  for (std::size_t r = 0; r < work.requests.size(); ++r) {
    if (const auto& before = work.requests[r].after) next_[*before].push_back(r);
  }
  result_.fates.resize(work.requests.size());
}

void world::schedule(double in, kind what, std::size_t whom, std::uint64_t stamp, errc why) {
  events_.push({now_ + in, ++events_made_, what, whom, stamp, why});
}

run_result world::run(balancer& by) {
  by_ = &by;
  open_ = requests_.size();
  settle_in();
  while (open_ > 0 && !events_.empty()) {
    const event e = events_.top();
    if (work_.horizon > 0 && e.when > work_.horizon) break;
    if (e.when > endless) throw std::runtime_error("requests are left that nobody answers");
    events_.pop();
    now_ = e.when;
    happen(e);
  }
  wind_up();
  return std::move(result_);
}

void world::settle_in() {
  for (std::size_t i = 0; i < phones_.size(); ++i) {
    const phone_spec& p = phones_[i].what.spec();
    phones_[i].good = 2;
    phones_[i].in_doubt = true;
    probe(i);
    if (p.agent) schedule(uniform(luck_, 0, 10), kind::beat, i);
    for (const trouble t : {trouble::kill, trouble::reboot, trouble::stall}) expect(i, t);
    if (!work_.known) continue;
    for (std::size_t n = 0; n < 3; ++n) {
      job j;
      const request& like = work_.requests[below(luck_, work_.requests.size())];
      j.prompt = like.prompt;
      j.answer = like.answer;
      j.began_writing = tokens_of(j.prompt) / p.prefill;
      j.done = j.began_writing + j.answer / p.decode;
      by_->learn_before(i, want_of(like), measured_of(j, p));
    }
  }
  if (by_->ticks()) schedule(1, kind::tick, 0);
  if (work_.population > 0) {
    while (issued_ < std::min(work_.population, requests_.size())) schedule(0, kind::arrival, issued_++);
    return;
  }
  for (std::size_t r = 0; r < requests_.size(); ++r) {
    if (!work_.requests[r].after) schedule(work_.requests[r].arrival, kind::arrival, r);
  }
}

void world::wind_up() {
  result_.ended = work_.horizon > 0 && open_ > 0 ? work_.horizon : now_;
  for (place& p : phones_) {
    p.what.advance(result_.ended);
    for (const job& j : p.what.jobs()) {
      result_.tokens_written += j.tokens_written() + requests_[j.request].have;
      result_.tokens_read += j.tokens_read();
    }
  }
}

void world::happen(const event& e) {
  switch (e.what) {
    case kind::arrival: return issue(e.whom);
    case kind::phone:
      if (e.stamp == phones_[e.whom].stamp) look_at(e.whom);
      return;
    case kind::give_up:
      if (e.stamp == requests_[e.whom].attempt && requests_[e.whom].phone) broken_off(e.whom, e.why);
      return;
    case kind::fault: return fault(e.whom, static_cast<trouble>(e.stamp));
    case kind::back: return come_back(e.whom);
    case kind::stall_end: return end_stall(e.whom);
    case kind::probe: return probe(e.whom);
    case kind::beat: return beat(e.whom);
    case kind::tick: break;
  }
  starts out;
  by_->tick(now_, out);
  carry_out(std::move(out));
  schedule(1, kind::tick, 0);
}

// ---- requests

void world::issue(std::size_t r) {
  requests_[r].wanted = want_of(work_.requests[r]);
  fate& f = result_.fates[r];
  f.arrived = now_;
  for (const segment& s : work_.requests[r].prompt) {
    if (!ever_read_.contains(s.id)) break;
    f.ever += s.tokens;
  }
  ask(r);
}

void world::ask(std::size_t r) {
  progress& p = requests_[r];
  starts out;
  bool taken = by_->arrive(r, p.wanted, now_, out);
  if (!taken && p.wanted.which == turn::rescue && !p.wanted.avoid.empty()) {
    p.wanted.avoid.clear();  // all others are gone; one that failed may be back
    taken = by_->arrive(r, p.wanted, now_, out);
  }
  carry_out(std::move(out));
  if (!taken) end(r, p.attempt == 0 ? fate::end::refused : fate::end::failed);
}

void world::carry_out(starts what) {
  for (const start& s : what) begin(s);
}

void world::begin(const start& s) {
  progress& p = requests_[s.request];
  place& to = phones_[s.phone];
  if (p.phone) leave(s.request);
  p.phone = s.phone;
  p.known = s.known;
  ++p.attempt;
  fate& f = result_.fates[s.request];
  f.phone = s.phone;
  if (++f.tries == 1) note_prefix(s.request);
  constexpr double connect_limit = 2;
  const double wait = to.up ? std::max(0.0, to.stalled_until - now_) : to.answers_no ? 0.01 : connect_limit;
  if (!to.up || wait >= connect_limit)
    return schedule(std::min(wait, connect_limit), kind::give_up, s.request, p.attempt, errc::connect_failed);

  job j;
  j.request = s.request;
  j.prompt = text_of(s.request);
  j.answer = work_.requests[s.request].answer - p.have;
  j.ease = uniform(to.luck, 0.98, 1);  // only ever slower than the table says, so that the bounds hold
  to.what.advance(now_);
  to.what.begin(std::move(j), wait + network);
  const milliseconds limit =
      to.what.loaded() ? p.known.first_token(p.wanted.prompt_bytes + 4 * p.have, seconds{120}) : seconds{300};
  schedule(std::chrono::duration<double>(limit).count(), kind::give_up, s.request, p.attempt,
           errc::first_token_timeout);
  look_at(s.phone);
}

/// By the balancer's will: what there is of the answer goes along. The phone's others are looked at by an
/// event of its own, for whatever ends there must not be told to a balancer in the middle of its move.
void world::leave(std::size_t r) {
  progress& p = requests_[r];
  place& from = phones_[*p.phone];
  from.what.advance(now_);
  const job j = from.what.find(r) != nullptr ? from.what.take(r) : p.lost.value_or(job{});
  const auto got = j.shown ? static_cast<std::uint32_t>(j.tokens_written()) : 0;
  result_.tokens_read += j.tokens_read();
  result_.tokens_wasted += j.tokens_read() + j.tokens_written() - got;
  p.have += got;
  p.lost.reset();
  schedule(0, kind::phone, *p.phone, ++from.stamp);
  p.phone.reset();
}

/// What the request could have had of other phones' caches.
void world::note_prefix(std::size_t r) {
  fate& f = result_.fates[r];
  for (const place& each : phones_) {
    if (each.up) f.at_best = std::max(f.at_best, each.what.cache().longest(work_.requests[r].prompt));
  }
}

text world::text_of(std::size_t r) const {
  const request& asked = work_.requests[r];
  text t = asked.prompt;
  const std::uint32_t have = requests_[r].have;
  if (have > 0) t.push_back({(asked.answer_id << 12U | have) | std::uint64_t{1} << 63U, have});
  return t;
}

/// Something may have come to an end on that phone.
void world::look_at(std::size_t phone) {
  place& p = phones_[phone];
  p.what.advance(now_);
  const machine::news news = p.what.turn(now_);
  if (!stalled(p)) {
    for (const std::size_t r : news.first_token) first_token(r);
    for (const std::size_t r : news.written) whole(r);
  }
  const double next = p.what.next_change(now_);
  ++p.stamp;
  if (next < endless) schedule(next - now_, kind::phone, phone, p.stamp);
}

void world::first_token(std::size_t r) {
  progress& p = requests_[r];
  fate& f = result_.fates[r];
  job& j = *phones_[*p.phone].what.find(r);
  j.shown = true;
  if (f.first_token == 0) f.first_token = now_;
  if (f.tries == 1) {
    f.cached = std::min(j.cached, tokens_of(work_.requests[r].prompt));
    f.at_best = std::max(f.at_best, f.cached);
  }
  for (const segment& s : work_.requests[r].prompt) ever_read_.insert(s.id);
  starts out;
  by_->shown(r, now_, out);
  carry_out(std::move(out));
}

void world::whole(std::size_t r) {
  progress& p = requests_[r];
  const request& asked = work_.requests[r];
  const std::size_t phone = *p.phone;
  text kept = asked.prompt;
  kept.push_back({asked.answer_id, asked.answer});
  ever_read_.insert(asked.answer_id);
  const job j = phones_[phone].what.take(r, std::move(kept));
  result_.tokens_read += j.tokens_read();
  result_.tokens_written += asked.answer;
  p.phone.reset();
  starts out;
  if (asked.answer_bytes > 0) {
    prefix_chain next = p.wanted.prefix;
    next.push_back({scatter(asked.answer_id), asked.prompt_bytes + asked.answer_bytes});
    by_->answered(r, next);
  }
  by_->ended(r, phone, verdict::success, measured_of(j, phones_[phone].what.spec()), now_, out);
  end(r, fate::end::answered);
  carry_out(std::move(out));
}

measured world::measured_of(const job& j, const phone_spec& by) const {
  const auto ns = [](double s) {
    return std::chrono::duration_cast<nanoseconds>(std::chrono::duration<double>(s));
  };
  measured m;
  m.prompt_tokens = tokens_of(j.prompt);
  m.answer_tokens = j.answer;
  m.prompt_time = ns(j.began_writing - j.began_reading);
  m.answer_time = ns(j.done - j.began_writing);
  if (by.ollama) {
    m.load_time = ns(j.loaded_for);
  } else {
    m.cached_tokens = j.cached;
  }
  return m;
}

/// The request's try has failed; what follows is what service/dispatch.cpp does then.
void world::broken_off(std::size_t r, errc why) {
  progress& p = requests_[r];
  const std::size_t phone = *p.phone;
  place& at_phone = phones_[phone];
  const job* running = at_phone.what.find(r);
  if (why == errc::first_token_timeout && running != nullptr && running->shown) return;
  at_phone.what.advance(now_);
  const job j = running != nullptr ? at_phone.what.take(r) : p.lost.value_or(job{});
  p.lost.reset();
  p.phone.reset();
  at_phone.in_doubt = true;
  const auto got = j.shown ? static_cast<std::uint32_t>(j.tokens_written()) : 0;
  result_.tokens_wasted += j.tokens_read() + j.tokens_written() - got;
  result_.tokens_read += j.tokens_read();
  starts out;
  by_->ended(r, phone, verdict_of(why), {}, now_, out);
  carry_out(std::move(out));
  look_at(phone);

  const bool resumed = p.have > 0;
  p.have += got;
  const bool streamed = !work_.requests[r].batch;
  failed_attempt f{.code = why, .pieces = p.have, .shown = streamed && p.have > 0, .can_resume = p.have > 0};
  f.resumed = resumed && got == 0;
  p.tries = got > 0 && f.shown ? 1 : p.tries + 1;
  f.tries = p.tries;
  f.rescues = p.rescues;
  const next_step next = after_failure(f, {});
  if (next != next_step::rescue) result_.tokens_wasted += std::exchange(p.have, 0);
  if (next == next_step::give_up) return end(r, fate::end::failed);
  p.wanted.avoid.push_back(static_cast<phone_id>(phone));
  p.wanted.identity = next == next_step::rescue ? "m1" : "";
  p.wanted.which = next == next_step::rescue && f.shown ? turn::rescue : turn::retry;
  if (next == next_step::rescue) ++p.rescues;
  ask(r);
}

void world::end(std::size_t r, fate::end how) {
  fate& f = result_.fates[r];
  f.ended = now_;
  f.how = how;
  ++f.ends;
  --open_;
  for (const std::size_t n : next_[r]) {
    if (how == fate::end::answered) {
      schedule(work_.requests[n].arrival, kind::arrival, n);
    } else {
      end(n, fate::end::dropped);  // who got no answer does not go on with the conversation
    }
  }
  if (work_.population > 0 && issued_ < requests_.size()) schedule(0, kind::arrival, issued_++);
}

// ---- the truth

double world::takes(std::size_t phone, std::size_t r, bool by_cache, double answer) const {
  const double all = answer > 0 ? answer : work_.requests[r].answer;
  return phones_[phone].what.takes(text_of(r), std::max(1.0, all - requests_[r].have), by_cache);
}

double world::busy_for(std::size_t phone, double answer) const {
  double longest = 0;
  for (const job& j : phones_[phone].what.jobs()) longest = std::max(longest, left(phone, j.request, answer));
  return longest;
}

double world::left(std::size_t phone, std::size_t r, double answer) const {
  return phones_[phone].what.left(r, answer, now_);
}

double world::displaces(std::size_t phone, std::size_t r) const {
  const machine& m = phones_[phone].what;
  return m.cache().displaced(text_of(r)) / (m.spec().prefill * m.heat().speed());
}

double world::goes_on(std::size_t phone, std::size_t r, double answer) const {
  const auto& where = requests_[r].phone;
  const double have = requests_[r].have + (where ? phones_[*where].what.written(r, now_) : 0);
  const phone_spec& p = phones_[phone].what.spec();
  const double all = answer > 0 ? std::max(answer, have + answer / 2) : work_.requests[r].answer;
  return takes(phone, r, true, 1) + have / p.prefill + (all - have) / p.decode;
}

}  // namespace pocketfleet::fleet
