#include "pocketfleet/core/forecast.hpp"

#include <algorithm>
#include <cmath>

namespace pocketfleet {
namespace {

// An answer of this many tokens moves what is known half-way to itself: a phone that throttles is noticed
// within an answer or two, and one short answer does not upset what is known.
constexpr double half_way_tokens = 64;
constexpr double half_way_prompt = 256;
// A hot phone that is left alone cools with a time constant of 5 to 10 minutes (simulated from measured
// curves; nobody has published recovery times).
constexpr double cooling_s = 420;
// What a phone could do at its best is forgotten slowly, for an update may have made it slower for good.
constexpr double forget_best = 0.02;
constexpr double beside_costs = 0.6;  // each other request on the phone makes a token so much slower

// What nobody has measured yet. Prefill and decode: the slow end of measured phones (1.5B to 2B models, CPU,
// 2026: 26 and 8 tokens a second); English has 4 bytes to a token.
constexpr double first_prefill = 1.0 / 26;
constexpr double first_decode = 1.0 / 8;
constexpr double first_load = 10;
constexpr double first_answer = 128;
constexpr double first_bytes_per_token = 4;
// Later than foretold: it may be done in the next moment, or take as much again.
constexpr double overdue_share = 0.2;
constexpr double forget_s = 3600;   // what was learned so long ago counts by a third
constexpr double least_wait = 0.5;  // no forecast of a first token is better than that
constexpr std::size_t kept_multiples = 64;
constexpr std::size_t multiples_that_tell = 20;
constexpr std::size_t most_models = 16;  // of a phone
constexpr std::size_t most_fleet_models = 256;

double in_seconds(nanoseconds t) {
  return std::chrono::duration<double>(t).count();
}

void move(double& known, double newest, double tokens, double half_way) {
  known = known == 0 ? newest : known + (newest - known) * (1 - std::exp2(-tokens / half_way));
}

}  // namespace

void learned_speed::learn(const measured& m, double beside, time_point now) {
  const std::uint64_t read = m.prompt_tokens - std::min(m.cached_tokens, m.prompt_tokens);
  // A few tokens say more about the phone's overhead than about its speed.
  if (read >= 8 && m.prompt_time > nanoseconds{0})
    move(prefill_, in_seconds(m.prompt_time) / static_cast<double>(read), static_cast<double>(read),
         half_way_prompt);
  if (m.load_time > nanoseconds{500'000'000}) move(load_, in_seconds(m.load_time), 1, 1);
  if (m.answer_tokens < 4 || m.answer_time <= nanoseconds{0}) return;
  const auto tokens = static_cast<double>(m.answer_tokens);
  const double token = in_seconds(m.answer_time) / tokens / (1 + beside_costs * beside);
  decode_ = decode(now);  // as it has cooled meanwhile
  move(decode_, token, tokens, half_way_tokens);
  best_decode_ = best_decode_ == 0 ? decode_ : std::min(decode_, best_decode_ * (1 + forget_best));
  learned_ = now;
  ++answers_;
}

double learned_speed::decode(time_point now) const {
  if (best_decode_ == 0) return 0;
  const double idle = std::chrono::duration<double>(now - learned_).count();
  return best_decode_ + (decode_ - best_decode_) * std::exp(-std::max(0.0, idle) / cooling_s);
}

double learned_speed::slowdown(time_point now) const {
  const double present = decode(now);
  return present <= 0 ? 1 : std::min(1.0, best_decode_ / present);
}

// ---- how late first tokens are

void lateness::learn(double multiple) {
  if (last_.size() < kept_multiples) {
    last_.push_back(static_cast<float>(multiple));
  } else {
    last_[next_] = static_cast<float>(multiple);
    next_ = (next_ + 1) % kept_multiples;
  }
}

double lateness::p95() const {
  if (last_.size() < multiples_that_tell) return 0;
  std::vector<float> sorted = last_;
  const auto at = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() * 19 / 20);
  std::nth_element(sorted.begin(), at, sorted.end());
  return *at;
}

duration phone_past::late_after(const forecast& what) const {
  const std::chrono::duration<double> late(lateness_.p95() * (what.takes.first_token + least_wait));
  return std::chrono::duration_cast<duration>(late);
}

// ---- one phone

const learned_speed* phone_past::with(std::string_view model) const {
  const auto found =
      std::find_if(speeds_.begin(), speeds_.end(), [&](const with_model& s) { return s.model == model; });
  return found == speeds_.end() ? nullptr : &found->speed;
}

double phone_past::free_in(std::uint32_t permits, std::uint64_t pass, time_point now) {
  if (pass_ != pass) {
    pass_ = pass;
    free_at_.clear();
    for (const run& r : runs_) {
      const double passed = in_seconds(now - r.since);
      free_at_.push_back(std::max(in_seconds(r.takes) - passed, overdue_share * passed));
    }
    std::sort(free_at_.begin(), free_at_.end());
    if (free_at_.size() > permits)  // there are fewer permits than there were: the first ends free none
      free_at_.erase(free_at_.begin(), free_at_.end() - permits);
    free_at_.insert(free_at_.begin(), permits - free_at_.size(), 0.0);
  }
  return free_at_.front();
}

void phone_past::place(double takes) {
  free_at_.front() += takes;
  std::sort(free_at_.begin(), free_at_.end());
}

std::vector<model_speed> phone_past::speeds(time_point now) const {
  const auto rate = [](double token) { return token > 0 ? 1 / token : 0; };
  std::vector<model_speed> out;
  out.reserve(speeds_.size());
  for (const auto& [model, speed] : speeds_)
    out.push_back({model, rate(speed.prefill()), rate(speed.decode(now)), speed.load(), speed.slowdown(now),
                   speed.answers()});
  return out;
}

// ---- the fleet

double forecaster::tokens_to_say(const habits* of, std::uint32_t limit) const {
  const double usual = of != nullptr && of->answer_tokens > 0 ? of->answer_tokens : first_answer;
  return limit == 0 ? usual : std::min(usual, static_cast<double>(limit));
}

estimate forecaster::takes(const phone_past& phone, std::string_view model, const want& wanted,
                           const workplace& there, time_point now) const {
  const auto found = models_.find(model);
  const habits* of = found == models_.end() ? nullptr : &found->second;
  const learned_speed* own = phone.with(model);
  // A phone that is not known yet is taken for the best of the fleet: so it is tried, once.
  const auto best = [&](auto&& what, double first) {
    const double known = of != nullptr ? what(of->best) : 0;
    return known > 0 ? known : first;
  };
  const auto of_phone = [&](auto&& what, double first) {
    const double known = own != nullptr ? what(*own) : 0;
    const double prior = best(what, first);
    if (known <= 0) return prior;
    const double age = in_seconds(now - own->learned());
    return prior + (known - prior) * std::exp(-std::max(0.0, age) / forget_s);
  };
  const double decode = of_phone([&](const learned_speed& s) { return s.decode(now); }, first_decode);
  const double prefill = of_phone([](const learned_speed& s) { return s.prefill(); }, first_prefill);
  const double per_token =
      of != nullptr && of->bytes_per_token > 0 ? of->bytes_per_token : first_bytes_per_token;
  const prefix_memory::outlook has = phone.prefixes.look(wanted.prefix, there.slots, now);
  const std::uint64_t cached = std::min<std::uint64_t>(has.is.known, wanted.prompt_bytes);
  const double to_read = static_cast<double>(wanted.prompt_bytes - cached) / per_token;
  const double crowd = 1 + beside_costs * there.beside;
  const double first = there.load ? of_phone([](const learned_speed& s) { return s.load(); }, first_load) : 0;
  estimate out;
  out.first_token = first + to_read * prefill * crowd;
  out.whole = out.first_token + tokens_to_say(of, wanted.answer_limit) * decode * crowd;
  out.harm = has.loses / per_token * prefill;
  return out;
}

forecast forecaster::begin(phone_past& phone, std::string_view model, const want& wanted,
                           const workplace& there, const estimate& takes, time_point now) {
  forecast out{.number = ++runs_,
               .model = std::string(model),
               .prompt_bytes = wanted.prompt_bytes,
               .answer_limit = wanted.answer_limit,
               .beside = static_cast<double>(there.beside),
               .takes = takes};
  out.cached = phone.prefixes.keep(wanted.prefix, there.slots, now, out.number);
  const std::chrono::duration<double> length(takes.whole);
  phone.runs_.push_back({out.number, now, std::chrono::duration_cast<duration>(length)});
  phone.pass_ = 0;
  return out;
}

namespace {

/// Ollama does not say how much of a prompt it had read before. Of what may have been in its cache that is
/// believed with which its speed is nearest to what is known of it.
measured as_read(measured m, const forecast& what, const learned_speed& known) {
  if (m.cached_tokens > 0 || what.prompt_bytes == 0 || m.prompt_tokens == 0 ||
      m.prompt_time <= nanoseconds{0})
    return m;
  const auto tokens = [&](std::uint32_t bytes) {
    const double share = static_cast<double>(bytes) / static_cast<double>(what.prompt_bytes);
    const auto thought = static_cast<std::uint64_t>(share * static_cast<double>(m.prompt_tokens));
    return std::min(thought, m.prompt_tokens - 1);  // the last one is always read
  };
  if (known.prefill() <= 0) {
    m.cached_tokens = tokens(what.cached.known);
    return m;
  }
  const auto off = [&](std::uint64_t cached) {
    const auto read = static_cast<double>(m.prompt_tokens - cached);
    return std::abs(std::log(in_seconds(m.prompt_time) / read / known.prefill()));
  };
  for (const std::uint32_t bytes : {what.cached.in_slot, what.cached.aside}) {
    if (off(tokens(bytes)) < off(m.cached_tokens)) m.cached_tokens = tokens(bytes);
  }
  return m;
}

}  // namespace

void forecaster::end(phone_past& phone, const forecast& what, const measured& m, std::uint32_t beside,
                     time_point now, const prefix_chain& holds) {
  std::erase_if(phone.runs_, [&](const phone_past::run& r) { return r.number == what.number; });
  phone.pass_ = 0;
  phone.prefixes.release(what.number, holds, now);
  if (what.model.empty() || (m.answer_tokens == 0 && m.prompt_tokens == 0)) return;
  auto own = std::find_if(phone.speeds_.begin(), phone.speeds_.end(),
                          [&](const auto& s) { return s.model == what.model; });
  if (own == phone.speeds_.end()) {
    if (phone.speeds_.size() >= most_models) phone.speeds_.erase(phone.speeds_.begin());
    own = phone.speeds_.insert(phone.speeds_.end(), {what.model, {}});
  }
  const measured read = as_read(m, what, own->speed);
  const bool told = m.cached_tokens > 0 || (own->speed.prefill() > 0 && m.prompt_time > nanoseconds{0});
  if (told && m.prompt_tokens > 0)
    phone.prefixes.learn(what.cached, static_cast<double>(what.prompt_bytes) *
                                          static_cast<double>(read.cached_tokens) /
                                          static_cast<double>(m.prompt_tokens));
  own->speed.learn(read, (what.beside + beside) / 2, now);
  if (m.first_token > nanoseconds{0})
    phone.lateness_.learn(in_seconds(m.first_token) / (what.takes.first_token + least_wait));
  learn_habits(what, m, own->speed, now);
}

void forecaster::learn_habits(const forecast& what, const measured& m, const learned_speed& speed,
                              time_point now) {
  constexpr double newest = 0.1;
  if (models_.size() >= most_fleet_models && !models_.contains(what.model)) return;
  habits& of = models_[what.model];
  const auto learn = [](double& known, double value) {
    known = known == 0 ? value : known + newest * (value - known);
  };
  // What its client has cut short says little about others.
  if (m.answer_tokens > 0 && (what.answer_limit == 0 || m.answer_tokens < what.answer_limit))
    learn(of.answer_tokens, static_cast<double>(m.answer_tokens));
  if (m.prompt_tokens >= 16 && what.prompt_bytes > 0)
    learn(
        of.bytes_per_token,
        std::clamp(static_cast<double>(what.prompt_bytes) / static_cast<double>(m.prompt_tokens), 0.5, 8.0));
  const double known = of.best.decode(now);
  if (speed.decode(now) > 0 && (known == 0 || speed.decode(now) <= known)) of.best = speed;
}

}  // namespace pocketfleet
