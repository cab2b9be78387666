#include "workload.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>

namespace pocketfleet::fleet {
namespace {

constexpr double bytes_per_token = 4;  // English
constexpr double answer_median = 120;
constexpr double answer_sigma = 0.6;
constexpr double longest_answer = 600;
constexpr double message_median = 60;
constexpr double message_sigma = 0.8;
constexpr double longest_message = 800;
constexpr std::size_t applications = 8;  // each with a system prompt of its own
constexpr double open_run_s = 1800;
constexpr double warm_up_s = 300;

std::uint32_t tokens(random_source& from, double median, double sigma, double most) {
  return static_cast<std::uint32_t>(std::clamp(lognormal(from, median, sigma), 4.0, most));
}

/// Writes requests that look as if people had.
class author {
 public:
  explicit author(std::uint64_t seed) : from_(seed * 7919 + 3) {
    for (std::size_t i = 0; i < applications; ++i)
      systems_.push_back({next_id_++, tokens(from_, 80, 0.8, 400)});
  }

  random_source& chance() { return from_; }

  request ask(double arrival) {
    request r;
    r.arrival = arrival;
    r.prompt = {system_of_somebody()};
    say(r, message_median);
    return r;
  }

  /// The next thing said in a conversation that stands at `before`.
  request go_on(request& before, std::size_t its_index, double think) {
    request r;
    r.after = its_index;
    r.arrival = think;
    r.prompt = before.prompt;
    r.bytes = before.bytes;
    r.prompt_bytes = before.prompt_bytes;
    r.owner = before.owner;
    r.prompt.push_back({before.answer_id, before.answer});
    weigh(r);
    before.answer_bytes = r.bytes.back();
    say(r, message_median / 1.5);
    return r;
  }

  request begin(double arrival, std::uint64_t owner) {
    request r = ask(arrival);
    r.owner = owner;
    return r;
  }

  /// One of many of the same kind: the system prompt is the same for all.
  request one_of_batch(double arrival) {
    request r;
    r.arrival = arrival;
    r.owner = 1000;
    r.batch = true;
    r.prompt = {systems_[0]};
    say(r, message_median);
    return r;
  }

 private:
  segment system_of_somebody() {  // the k-th is asked a k-th as often as the first
    double sum = 0;
    for (std::size_t k = 1; k <= applications; ++k) sum += 1.0 / static_cast<double>(k);
    double at = uniform(from_, 0, sum);
    for (std::size_t k = 1; k < applications; ++k) {
      at -= 1.0 / static_cast<double>(k);
      if (at <= 0) return systems_[k - 1];
    }
    return systems_.back();
  }

  void weigh(request& r) {
    const double noise = uniform(from_, 0.85, 1.15);
    r.bytes.push_back(
        static_cast<std::uint32_t>(std::lround(r.prompt.back().tokens * bytes_per_token * noise)));
    r.prompt_bytes += r.bytes.back();
  }

  void say(request& r, double median) {
    if (r.bytes.empty()) weigh(r);  // the system prompt
    r.prompt.push_back({next_id_++, tokens(from_, median, message_sigma, longest_message)});
    weigh(r);
    r.answer = tokens(from_, answer_median, answer_sigma, longest_answer);
    r.answer_id = next_id_++;
    if (r.owner == 0) r.owner = 1 + below(from_, 20);
    if (uniform(from_, 0, 1) < 0.3) {  // three in ten clients set a limit, half of them too low
      r.limit = uniform(from_, 0, 1) < 0.5 ? 256 : 512;
      r.answer = std::min(r.answer, r.limit);
    }
  }

  random_source from_;
  std::uint64_t next_id_ = 1;
  std::vector<segment> systems_;
};

struct means {
  double prompt = 0;
  double answer = 0;
};

/// Of what the author writes who is given that seed.
means usual(std::uint64_t seed) {
  static std::map<std::uint64_t, means> known;
  if (const auto found = known.find(seed); found != known.end()) return found->second;
  author a(seed);
  means m;
  constexpr std::size_t n = 4000;
  for (std::size_t i = 0; i < n; ++i) {
    const request r = a.ask(0);
    m.prompt += tokens_of(r.prompt) / static_cast<double>(n);
    m.answer += r.answer / static_cast<double>(n);
  }
  return known[seed] = m;
}

void add_poisson(workload& w, author& a, double rate, double until) {
  for (double t = exponential(a.chance(), 1 / rate); t < until; t += exponential(a.chance(), 1 / rate))
    w.requests.push_back(a.ask(t));
}

void add_batch(workload& w, author& a, std::size_t n, double arrival) {
  for (std::size_t i = 0; i < n; ++i) w.requests.push_back(a.one_of_batch(arrival));
}

void add_conversations(workload& w, author& a, double rate) {
  constexpr std::size_t turns = 6;
  constexpr double think_median = 20;
  std::uint64_t owner = 1;
  for (double t = exponential(a.chance(), 1 / rate); t < open_run_s; t += exponential(a.chance(), 1 / rate)) {
    w.requests.push_back(a.begin(t, ++owner));
    for (std::size_t turn = 1; turn < turns; ++turn) {
      const std::size_t last = w.requests.size() - 1;
      const double think = std::clamp(lognormal(a.chance(), think_median, 0.7), 3.0, 180.0);
      w.requests.push_back(a.go_on(w.requests[last], last, think));
    }
  }
}

/// The number in "word-64..."; nothing if it is another word.
std::optional<unsigned> number_in(std::string_view name, std::string_view word) {
  if (!name.starts_with(word)) return std::nullopt;
  return static_cast<unsigned>(std::stoul(std::string(name.substr(word.size()))));
}

}  // namespace

double capacity(const std::vector<phone_spec>& phones, double prompt, double answer) {
  double sum = 0;
  for (const phone_spec& p : phones)
    sum += speed_of(p.permits) * p.permits / (prompt / p.prefill + answer / p.decode);
  return sum;
}

workload make_workload(std::string_view name, const std::vector<phone_spec>& phones, std::uint64_t seed) {
  workload w;
  w.name = name;
  author a(seed);
  const means m = usual(seed);
  const double most = capacity(phones, m.prompt, m.answer);
  if (const auto n = number_in(name, "batch-")) {
    add_batch(w, a, *n, 0);
    w.known = !name.ends_with("-cold");
  } else if (const auto percent = number_in(name, "poisson-")) {
    add_poisson(w, a, *percent / 100.0 * most, open_run_s);
    w.counted_from = warm_up_s;
  } else if (const auto share = number_in(name, "conversations-")) {
    // In percent of what the fleet can do if it never reads anything twice: a turn adds about as much as a
    // lone request is long. Without any memory the sixth turn reads six times as much.
    add_conversations(w, a, *share / 100.0 / 6 * most);
    w.counted_from = warm_up_s;
  } else if (name == "mixed") {
    add_poisson(w, a, 0.3 * most, open_run_s);
    add_batch(w, a, 128, warm_up_s);
    w.counted_from = warm_up_s;
  } else if (name == "hour") {
    w.horizon = 3600;
    for (const phone_spec& p : phones) w.population += 2 * p.permits;
    const double enough = 1.6 * most * w.horizon;
    while (static_cast<double>(w.requests.size()) < enough) w.requests.push_back(a.begin(0, 1000));
  } else {
    throw std::invalid_argument("no workload is called " + std::string(name));
  }
  return w;
}

}  // namespace pocketfleet::fleet
