#include "phones.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <stdexcept>

namespace pocketfleet::fleet {
namespace {

constexpr double never = std::numeric_limits<double>::infinity();
constexpr double first_step = 31;
constexpr double step_width = 2;
constexpr double hysteresis = 1.5;

double step_up(std::size_t level) {  // from that level to the next
  return first_step + step_width * static_cast<double>(level);
}

// Q4 models of 1.5 to 2 billion weights, llama.cpp on the CPU. Weights: what somebody would write by hand who
// has read the data sheets. [U]: not published, taken from phones of the same class.
struct soc {
  std::string_view name;
  double decode, prefill;
  double load_s;  // [U]: a gigabyte from the flash
  std::uint32_t weight;
  double plateau;
};
constexpr std::array socs{
    // OmniInfer#45: 20.4 and 98.3; MegaDetector#34: settles mildly
    soc{"8-elite", 20.4, 98.3, 5, 4, 0.85},
    // dev.to, MVP Factory: 12.4 cool, 77 % kept with fewer threads, 31 % without; prefill [U]
    soc{"8-gen3", 12.4, 60.0, 6, 4, 0.60},
    // llama.cpp#26957 (Galaxy S23 Ultra): 15.5 and 72.7; plateau as its successor [U]
    soc{"8-gen2", 15.5, 72.7, 6, 3, 0.60},
    // SKaiNET#1195 (Pixel 8a): 8 to 12, prefill [U]; MegaDetector#34: -51 % in a staircase
    soc{"tensor-g3", 10.0, 40.0, 8, 2, 0.45},
    // elizaOS#11734 (Pixel 6a): 6.8 and 8.9
    soc{"tensor-g1", 6.8, 8.9, 10, 2, 0.45},
    // ChatterUI#127 (Redmi Note 9 Pro): about 7, prefill as issue reports of weak phones; flat like the
    // Dimensity 900 of MegaDetector#34
    soc{"sd-720g", 7.0, 26.0, 12, 1, 1.00},
    // OnePlus 6: 2.4 with a baseline build, prefill [U]
    soc{"sd-845", 2.4, 10.0, 14, 1, 1.00},
};

const soc& named(std::string_view name) {
  return *std::find_if(socs.begin(), socs.end(), [&](const soc& s) { return s.name == name; });
}

using mix = std::vector<std::pair<std::string_view, std::size_t>>;  // and how many of each

mix mix_of(std::string_view fleet) {
  if (fleet == "even-12") return {{"8-gen2", 12}};
  if (fleet == "mixed-6")
    return {{"8-elite", 1}, {"8-gen2", 1}, {"8-gen3", 1}, {"tensor-g3", 1}, {"sd-720g", 1}, {"sd-845", 1}};
  if (fleet == "mixed-12" || fleet == "flaky-12")
    return {{"8-elite", 2},   {"8-gen2", 2},  {"8-gen3", 1}, {"tensor-g3", 2},
            {"tensor-g1", 1}, {"sd-720g", 2}, {"sd-845", 2}};
  if (fleet == "mixed-40")
    return {{"8-elite", 6},   {"8-gen2", 6},  {"8-gen3", 6}, {"tensor-g3", 7},
            {"tensor-g1", 3}, {"sd-720g", 7}, {"sd-845", 5}};
  if (fleet == "hot-12")
    return {{"8-elite", 2}, {"8-gen2", 2}, {"8-gen3", 2}, {"tensor-g3", 4}, {"sd-720g", 2}};
  throw std::invalid_argument("no fleet is called " + std::string(fleet));
}

phone_spec draw(const soc& kind, std::string_view fleet, random_source& from) {
  const double spread = fleet == "even-12" ? 0.03 : 0.12;  // cases, versions, what else runs
  phone_spec p;
  const double luck = 1 + spread * (2 * uniform(from, 0, 1) - 1);
  p.decode = kind.decode * luck;
  p.prefill = kind.prefill * luck;
  p.load_s = kind.load_s * uniform(from, 0.8, 1.3);
  p.weight = kind.weight;
  p.ollama = uniform(from, 0, 1) < 0.4;
  p.agent = uniform(from, 0, 1) < 0.5 && (fleet == "hot-12" || fleet == "flaky-12");
  const bool two_at_once = uniform(from, 0, 1) < 0.5;
  p.permits = kind.name == "8-elite" && two_at_once ? 2 : 1;
  // phone_setup.sh gives --cache-ram 256 MiB to builds that know it: some 8000 tokens of such a model.
  const bool recent_build = uniform(from, 0, 1) < 0.5;
  p.ram_tokens = !p.ollama && recent_build ? 8000 : 0;
  // reference: heating within 2 to 6 minutes, cooling within 5 to 10, the battery 1 to 2 minutes behind
  heat_curve h{
      kind.plateau,          uniform(from, 22, 27), 0, uniform(from, 120, 360), uniform(from, 300, 600),
      uniform(from, 60, 115)};
  h.full = uniform(from, 38.5, 42.5);
  if (fleet != "hot-12") {  // in a draught
    h.plateau = 1;
    h.full = 33;
  }
  p.heat = h;
  // [U], on the grim side: Android kills within the hour, a Wi-Fi that roams every ten minutes
  if (fleet == "flaky-12") p.faults = {1800, 7200, 600};
  return p;
}

}  // namespace

// ---- chance

double uniform(random_source& from, double low, double high) {
  return low + (high - low) * static_cast<double>(from() >> 11U) * 0x1p-53;
}

double normal(random_source& from) {
  const double u = 1 - uniform(from, 0, 1);
  return std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * uniform(from, 0, 1));
}

double exponential(random_source& from, double mean) {
  return -mean * std::log(1 - uniform(from, 0, 1));
}

double lognormal(random_source& from, double median, double sigma) {
  return median * std::exp(sigma * normal(from));
}

std::size_t below(random_source& from, std::size_t n) {
  return std::min(n - 1, static_cast<std::size_t>(uniform(from, 0, 1) * static_cast<double>(n)));
}

// ---- heat

// T' = (towards - T) / tau, and the sensor is a low pass of it; both have closed forms.
void skin::pass(double seconds, bool working) {
  const double towards = working ? curve_.full : curve_.ambient;
  const double tau = working ? curve_.heating : curve_.cooling;
  const double away = now_ - towards;
  const double share = away * tau / (tau - curve_.lag);
  battery_ = towards + share * std::exp(-seconds / tau) +
             (battery_ - towards - share) * std::exp(-seconds / curve_.lag);
  now_ = towards + away * std::exp(-seconds / tau);
}

double skin::until_step(bool working) const {
  if (curve_.plateau >= 1 || (working ? level_ == steps : level_ == 0)) return never;
  const double at = working ? step_up(level_) : step_up(level_ - 1) - hysteresis;
  const double towards = working ? curve_.full : curve_.ambient;
  if (working ? towards <= at : towards >= at) return never;
  if (working ? now_ >= at : now_ <= at) return 0;
  return (working ? curve_.heating : curve_.cooling) * std::log((now_ - towards) / (at - towards));
}

void skin::step(bool working) {
  level_ += working ? 1 : -1;
}

double skin::time_for(double work) const {
  skin s = *this;
  double passed = 0;
  for (;;) {
    const double next = s.until_step(true);
    if (next * s.speed() >= work) return passed + work / s.speed();
    work -= next * s.speed();
    passed += next;
    s.pass(next, true);
    s.step(true);
  }
}

// With c = the speed at the level `held`, and h(T) what a beginning at T is worth, h' = -(s(T) - c) * heating
// / (full - T): working all the time gets c * t + h(T) done, once that level is reached. Nobody gets more if
// the heat shed by a second's rest is worth less than the second: -h' * (T - ambient) / cooling <= c at every
// T (the verification theorem of optimal control; work and rest are the extremes of a linear Hamiltonian).
// Hysteresis and a phone that is already warm only make it less.
bool skin::resting_pays(std::size_t held) const {
  for (std::size_t level = 0; level < held; ++level) {
    const double t = step_up(level);  // the worst of that level is its upper end
    if (curve_.full <= t) return true;
    const double slope = (speed_at(level) - speed_at(held)) * curve_.heating / (curve_.full - t);
    if (slope * (t - curve_.ambient) / curve_.cooling > speed_at(held)) return true;
  }
  return false;
}

std::vector<skin::line> skin::limits() const {
  std::vector<line> lines;
  skin s = *this;
  double done = 0;
  double passed = 0;
  for (;;) {
    if (!resting_pays(s.level_)) lines.push_back({done - s.speed() * passed, s.speed()});
    const double next = s.until_step(true);
    if (next == never) return lines;
    done += next * s.speed();
    passed += next;
    s.pass(next, true);
    s.step(true);
  }
}

// ---- prompts

std::uint32_t tokens_of(const text& t) {
  std::uint32_t sum = 0;
  for (const segment& s : t) sum += s.tokens;
  return sum;
}

namespace {
std::uint32_t common(const text& a, const text& b) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()) && a[i].id == b[i].id; ++i) sum += a[i].tokens;
  return sum;
}
}  // namespace

// As llama-server's get_available_slot: the free slot that is most alike, if that is more than a tenth of the
// prompt (--slot-prompt-similarity), else the one that was used longest ago. What would be lost of it goes to
// the memory beside, and a better beginning is fetched from there. Ollama's runner does the first half.
prompt_cache::place prompt_cache::begin(const text& prompt) {
  const std::uint32_t all = tokens_of(prompt);
  std::size_t chosen = slots_.size();
  std::uint32_t alike = 0;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].busy) continue;
    const std::uint32_t c = common(slots_[i].what, prompt);
    const bool longer = c > alike && c * 10 > all;
    const bool older = alike == 0 && (chosen == slots_.size() || slots_[i].used < slots_[chosen].used);
    if (!longer && !older) continue;
    chosen = i;
    alike = longer ? c : 0;
  }
  kept& slot = slots_.at(chosen);
  std::uint32_t cached = common(slot.what, prompt);
  if (ram_tokens_ > 0 && cached * 2 < tokens_of(slot.what)) {
    const kept before = slot;
    if (take_from_ram(prompt, slot, cached)) cached = common(slot.what, prompt);
    if (!before.what.empty()) ram_.push_back({before.what, ++turn_, false});
    std::uint32_t sum = 0;
    for (const kept& k : ram_) sum += tokens_of(k.what);
    while (sum > ram_tokens_) {
      sum -= tokens_of(ram_.front().what);
      ram_.erase(ram_.begin());
    }
  }
  slot.busy = true;
  slot.used = ++turn_;
  return {chosen, std::min(cached, all - 1)};  // the last token is always read
}

bool prompt_cache::take_from_ram(const text& prompt, kept& into, std::uint32_t better_than) {
  auto best = ram_.end();
  for (auto k = ram_.begin(); k != ram_.end(); ++k) {
    const std::uint32_t c = common(k->what, prompt);
    if (c <= better_than) continue;
    better_than = c;
    best = k;
  }
  if (best == ram_.end()) return false;
  into.what = best->what;
  ram_.erase(best);
  return true;
}

void prompt_cache::end(std::size_t slot, text read) {
  slots_[slot].what = std::move(read);
  slots_[slot].busy = false;
}

std::uint32_t prompt_cache::longest(const text& t) const {
  std::uint32_t most = 0;
  for (const auto* each : {&slots_, &ram_}) {
    for (const kept& k : *each) most = std::max(most, common(k.what, t));
  }
  return std::min(most, tokens_of(t) - 1);
}

std::uint32_t prompt_cache::displaced(const text& prompt) const {
  if (ram_tokens_ > 0) return 0;  // it is kept for some while
  std::uint32_t least = std::numeric_limits<std::uint32_t>::max();
  for (const kept& k : slots_) {
    if (!k.busy) least = std::min(least, tokens_of(k.what) - common(k.what, prompt));
  }
  return least == std::numeric_limits<std::uint32_t>::max() ? 0 : least;
}

void prompt_cache::clear() {
  for (kept& k : slots_) k = {};
  ram_.clear();
}

// ---- fleets

std::vector<phone_spec> make_fleet(std::string_view name, std::uint64_t seed) {
  random_source from(seed * 1000 + 17);
  std::vector<phone_spec> phones;
  for (const auto& [kind, count] : mix_of(name)) {
    for (std::size_t i = 0; i < count; ++i) {
      phones.push_back(draw(named(kind), name, from));
      phones.back().name = std::string(kind) + "-" + std::to_string(i + 1);
    }
  }
  // Files are written in no order that helps.
  for (std::size_t i = phones.size(); i > 1; --i) std::swap(phones[i - 1], phones[below(from, i)]);
  return phones;
}

std::vector<std::string> fleet_names() {
  return {"even-12", "mixed-6", "mixed-12", "mixed-40", "hot-12", "flaky-12"};
}

}  // namespace pocketfleet::fleet
