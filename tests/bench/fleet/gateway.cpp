// The real dispatcher, fed as service/desk.cpp feeds it.
#include <map>

#include "rivals.hpp"

namespace pocketfleet::fleet {
namespace {

class gateway final : public balancer {
 public:
  gateway(std::unique_ptr<policy> chosen, const std::vector<phone_spec>& phones, std::uint64_t seed)
      : dispatcher_(settings(), std::move(chosen), static_cast<std::uint32_t>(seed + 1)) {
    std::vector<phone_config> file;
    for (const phone_spec& p : phones) {
      phone_config c;
      c.name = c.id = p.name;
      c.host = p.name + ".lan";
      c.weight = p.weight;
      c.max_concurrency = p.permits;
      c.engine = p.ollama ? engine_kind::ollama : engine_kind::llama_server;
      file.push_back(c);
      ids_.push_back(p.name);
    }
    dispatcher_.configure(file, at(before_all));
  }

  bool arrive(std::size_t request, const want& wanted, double now, starts& out) override {
    const ticket number = ++tickets_;
    waiting_[number] = request;
    decision d = dispatcher_.acquire(number, wanted, at(now));
    if (auto* got = std::get_if<grant>(&d)) {
      keep(number, std::move(*got), out);
    } else if (std::holds_alternative<queued>(d)) {
      take(dispatcher_.tick(at(now)), out);
    } else {
      waiting_.erase(number);
      return false;
    }
    return true;
  }

  void shown(std::size_t request, double now, starts& out) override {
    if (grant& g = grants_.at(request); g.retry) take(dispatcher_.answered(g, at(now)), out);
  }

  void answered(std::size_t, const prefix_chain& holds) override { holds_ = holds; }

  void ended(std::size_t request, std::size_t, verdict how, const measured& m, double now,
             starts& out) override {
    const grant g = std::move(grants_.extract(request).mapped());
    take(dispatcher_.settle(g, how, at(now), m, std::exchange(holds_, {})), out);
  }

  void found(std::size_t phone, const phone_report& what, double now, starts& out) override {
    take(dispatcher_.report(static_cast<phone_id>(phone), what, at(now)), out);
  }

  void heard(std::size_t phone, const telemetry& t, double now, starts& out) override {
    take(dispatcher_.hear(ids_[phone], t, seconds{10}, at(now)), out);
  }

  bool ticks() const override { return true; }
  void tick(double now, starts& out) override { take(dispatcher_.tick(at(now)), out); }

  void learn_before(std::size_t phone, const want& wanted, const measured& m) override {
    want w = wanted;
    w.only = static_cast<phone_id>(phone);
    const double took = std::chrono::duration<double>(m.prompt_time + m.answer_time).count();
    decision d = dispatcher_.acquire(++tickets_, w, at(before_all));
    if (auto* got = std::get_if<grant>(&d))
      dispatcher_.settle(*got, verdict::success, at(before_all + took), m);
  }

 private:
  static constexpr double before_all = -900;

  static dispatch_settings settings() {
    dispatch_settings s;
    s.queue_capacity = 1'000'000;  // nobody is turned away or leaves: the wait itself is what is compared
    return s;
  }

  void keep(ticket number, grant g, starts& out) {
    const std::size_t request = waiting_.extract(number).mapped();
    out.push_back({request, static_cast<std::size_t>(g.phone->id), g.known});
    grants_.insert_or_assign(request, std::move(g));
  }

  void take(std::vector<granted> effects, starts& out) {
    for (granted& g : effects) keep(g.waiter, std::move(g.what), out);
  }

  dispatcher dispatcher_;
  prefix_chain holds_;  // by the request that ends next
  std::vector<std::string> ids_;
  ticket tickets_ = 0;
  std::map<ticket, std::size_t> waiting_;  // requests
  std::map<std::size_t, grant> grants_;    // by request
};

/// The dispatcher's policies by the names that the tables use.
constexpr std::array policies{
    std::pair<std::string_view, std::string_view>{"late-wrr", "weighted_round_robin"},
    std::pair<std::string_view, std::string_view>{"least-loaded", "least_loaded"},
    std::pair<std::string_view, std::string_view>{"adaptive", "adaptive"},
};

}  // namespace

std::unique_ptr<balancer> make_balancer(std::string_view name, const std::vector<phone_spec>& phones,
                                        const truth& world, std::uint64_t seed) {
  for (const auto& [shown, real] : policies) {
    if (shown == name) return std::make_unique<gateway>(make_policy(real), phones, seed);
  }
  if (auto proposal = make_proposal(name, phones, world)) return proposal;
  return make_rival(name, phones, world, seed);
}

std::vector<std::string> balancer_names() {
  std::vector<std::string> names = rival_names();
  for (const auto& [shown, real] : policies) names.emplace_back(shown);
  for (std::string& each : proposal_names()) names.push_back(std::move(each));
  return names;
}

}  // namespace pocketfleet::fleet
