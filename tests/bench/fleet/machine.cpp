#include "machine.hpp"

#include <algorithm>
#include <limits>

namespace pocketfleet::fleet {

using phase = job::phase;

double job::tokens_read() const {
  if (at < phase::reading) return 0;
  return tokens_of(prompt) - cached - (at == phase::reading ? left : 0);
}

double job::tokens_written() const {
  return at < phase::writing ? 0 : answer - left;
}

std::size_t machine::working() const {
  return static_cast<std::size_t>(std::count_if(jobs_.begin(), jobs_.end(), [](const job& j) {
    return j.at == phase::reading || j.at == phase::writing;
  }));
}

double machine::rate(const job& j, std::size_t together) const {
  switch (j.at) {
    case phase::sending:
    case phase::loading: return 1;
    case phase::reading: return spec_.prefill * heat_.speed() * speed_of(together) * j.ease;
    case phase::writing: return spec_.decode * heat_.speed() * speed_of(together) * j.ease;
    case phase::written: break;
  }
  return 0;
}

void machine::advance(double now) {
  const double passed = now - last_;
  last_ = now;
  if (passed <= 0) return;
  const std::size_t together = working();
  for (job& j : jobs_) j.left -= passed * rate(j, together);
  heat_.pass(passed, together > 0);
}

double machine::next_change(double now) const {
  const std::size_t together = working();
  double in = heat_.until_step(together > 0);
  for (const job& j : jobs_) {
    if (const double r = rate(j, together); r > 0) in = std::min(in, j.left / r);
  }
  return now + std::max(in, 0.0);
}

machine::news machine::turn(double now) {
  news what;
  const std::size_t together = working();
  if (heat_.until_step(together > 0) <= at_once) heat_.step(together > 0);
  for (job& j : jobs_) {
    const double r = rate(j, together);
    if (r <= 0 || j.left / r > at_once) continue;
    const phase next = j.at == phase::sending   ? (loaded_ ? phase::reading : phase::loading)
                       : j.at == phase::loading ? phase::reading
                       : j.at == phase::reading ? phase::writing
                                                : phase::written;
    enter(j, next, now, what);
  }
  return what;
}

void machine::enter(job& j, phase next, double now, news& what) {
  j.at = next;
  switch (next) {
    case phase::sending: break;
    case phase::loading: j.left = j.loaded_for = spec_.load_s; break;
    case phase::reading: {
      loaded_ = true;
      const auto [slot, cached] = cache_.begin(j.prompt);
      j.slot = slot;
      j.cached = cached;
      j.left = tokens_of(j.prompt) - cached;
      j.began_reading = now;
      break;
    }
    case phase::writing:
      j.left = j.answer;
      j.began_writing = now;
      what.first_token.push_back(j.request);
      break;
    case phase::written:
      j.left = 0;
      j.done = now;
      what.written.push_back(j.request);
      break;
  }
}

void machine::begin(job j, double sending) {
  j.at = phase::sending;
  j.left = sending;
  jobs_.push_back(std::move(j));
}

job* machine::find(std::size_t request) {
  const auto found =
      std::find_if(jobs_.begin(), jobs_.end(), [&](const job& j) { return j.request == request; });
  return found == jobs_.end() ? nullptr : &*found;
}

job machine::take(std::size_t request, text kept) {
  job* found = find(request);
  job j = std::move(*found);
  jobs_.erase(jobs_.begin() + (found - jobs_.data()));
  if (j.at >= phase::reading) cache_.end(j.slot, std::move(kept));
  return j;
}

void machine::die() {
  jobs_.clear();
  cache_.clear();
  loaded_ = !spec_.ollama;  // llama-server loads before it answers at all
}

double machine::takes(const text& prompt, double answer, bool by_cache) const {
  const double read = tokens_of(prompt) - (by_cache ? cache_.longest(prompt) : 0);
  return (loaded_ ? 0 : spec_.load_s) + (read / spec_.prefill + answer / spec_.decode) / heat_.speed();
}

double machine::written(std::size_t request, double now) const {
  const job* j = find(request);
  if (j == nullptr || j->at != phase::writing) return j == nullptr ? 0 : j->tokens_written();
  return std::min<double>(
      j->answer, j->tokens_written() + (now - last_) * rate(*j, std::max<std::size_t>(1, working())));
}

double machine::left(std::size_t request, double answer, double now) const {
  const job* j = find(request);
  if (j == nullptr || j->at == phase::written) return 0;
  const std::size_t together = std::max<std::size_t>(1, working());
  const double since = now - last_;
  const double share = heat_.speed() * speed_of(together);
  const double part = j->left - since * rate(*j, together);  // of the phase
  if (j->at == phase::writing) {
    const double written = j->answer - part;
    return (answer > 0 ? std::max(answer - written, answer / 2) : part) / (spec_.decode * share);
  }
  const double write = (answer > 0 ? answer : j->answer) / (spec_.decode * share);
  if (j->at == phase::reading) return part / (spec_.prefill * share) + write;
  return part + takes(j->prompt, 0, true) / speed_of(together) + write;
}

}  // namespace pocketfleet::fleet
