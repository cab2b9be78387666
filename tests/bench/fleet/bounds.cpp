#include "bounds.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

namespace pocketfleet::fleet {
namespace {

/// A phone's work in cool seconds, at most, as a function of time: heat included (skin::limits), and two
/// requests at once get a little more done.
struct ceiling {
  std::vector<skin::line> lines;
  double gain = 1;
  double prefill = 1, decode = 1;
  double before = 0;  ///< it has to do that first, if it is to do anything: to read what all prompts share

  double by(double t) const {
    double least = std::numeric_limits<double>::infinity();
    for (const auto& l : lines) least = std::min(least, l.done + l.speed * t);
    return std::max(0.0, gain * least - before);
  }
};

std::vector<ceiling> ceilings(const std::vector<phone_spec>& phones, double shared) {
  std::vector<ceiling> out;
  for (const phone_spec& p : phones)
    out.push_back(
        {skin(p.heat).limits(), p.permits * speed_of(p.permits), p.prefill, p.decode, shared / p.prefill});
  return out;
}

/// The least t at which it is true; it is true for every later one.
double first_time(const std::function<bool(double)>& is_enough) {
  double high = 1;
  while (!is_enough(high)) high *= 2;
  double low = high / 2;
  while (high - low > 1e-3) {
    const double middle = (low + high) / 2;
    (is_enough(middle) ? high : low) = middle;
  }
  return low;
}

/// Fluid: tokens may be split at will and go anywhere, prompts apart from answers. Each phone's second goes
/// to what it is relatively best at, so that this is the linear program's optimum for two goods.
double fluid(std::vector<ceiling> phones, double prompt, double answer) {
  std::sort(phones.begin(), phones.end(),
            [](const ceiling& a, const ceiling& b) { return a.prefill / a.decode > b.prefill / b.decode; });
  return first_time([&](double t) {
    double to_read = prompt;
    double written = 0;
    for (const ceiling& p : phones) {
      const double work = p.by(t);
      const double reads = std::min(work, to_read / p.prefill);
      to_read -= reads * p.prefill;
      written += (work - reads) * p.decode;
    }
    return to_read <= 1e-9 && written >= answer;
  });
}

struct size {
  double prompt = 0, answer = 0;
  double on(const ceiling& p) const { return prompt / p.prefill + answer / p.decode; }
};

/// Whole requests: of any set of q, a phone that has worked w cool seconds has done at most the floor of w by
/// the least that one of them can take there. For the q longest answers, for many q, each prompt counted as
/// the shortest of those.
double pigeonholes(const std::vector<ceiling>& phones, std::vector<size> sizes) {
  std::sort(sizes.begin(), sizes.end(), [](const size& a, const size& b) { return a.answer > b.answer; });
  double best = 0;
  const std::size_t stride = std::max<std::size_t>(1, sizes.size() / 64);
  double least_prompt = std::numeric_limits<double>::infinity();
  for (std::size_t q = 1; q <= sizes.size(); ++q) {
    least_prompt = std::min(least_prompt, sizes[q - 1].prompt);
    if (q % stride != 0 && q != sizes.size()) continue;
    const size smallest{least_prompt, sizes[q - 1].answer};
    best = std::max(best, first_time([&](double t) {
                      double done = 0;
                      for (const ceiling& p : phones) done += std::floor(p.by(t) / smallest.on(p) + 1e-9);
                      return done >= static_cast<double>(q);
                    }));
  }
  return best;
}

/// The system prompt of a batch. Everything else is each request's own.
double shared_by(const std::vector<request>& batch) {
  double tokens = 0;
  for (std::size_t i = 0; i + 1 < batch[0].prompt.size(); ++i) tokens += batch[0].prompt[i].tokens;
  return tokens;
}

}  // namespace

double lower_bound(const std::vector<phone_spec>& phones, const std::vector<request>& batch) {
  double prompt = 0;
  double answer = 0;
  std::vector<size> sizes;
  for (const request& r : batch) {
    sizes.push_back({static_cast<double>(r.prompt.back().tokens), static_cast<double>(r.answer)});
    prompt += sizes.back().prompt;
    answer += sizes.back().answer;
  }
  const std::vector<ceiling> what = ceilings(phones, shared_by(batch));
  return std::max(fluid(what, prompt, answer), pigeonholes(what, std::move(sizes)));
}

double clairvoyant(const std::vector<phone_spec>& phones, const std::vector<request>& batch) {
  std::vector<size> sizes;
  for (const request& r : batch)
    sizes.push_back({static_cast<double>(r.prompt.back().tokens), static_cast<double>(r.answer)});
  std::sort(sizes.begin(), sizes.end(),
            [](const size& a, const size& b) { return a.prompt / 5 + a.answer > b.prompt / 5 + b.answer; });
  std::vector<double> work;  // of each phone, in cool seconds
  for (const phone_spec& p : phones) work.push_back(shared_by(batch) / p.prefill);
  double last = 0;
  for (const size& s : sizes) {
    std::size_t best = 0;
    double soonest = std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < phones.size(); ++i) {
      const double own = s.prompt / phones[i].prefill + s.answer / phones[i].decode;
      const double when = skin(phones[i].heat).time_for(work[i] + own);
      if (when >= soonest) continue;
      soonest = when;
      best = i;
    }
    work[best] += s.prompt / phones[best].prefill + s.answer / phones[best].decode;
    last = std::max(last, soonest);
  }
  return last;
}

}  // namespace pocketfleet::fleet
