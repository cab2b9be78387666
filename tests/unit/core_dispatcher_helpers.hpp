// A small fleet for tests of the dispatcher, with a clock that goes on only when it is told to.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "pocketfleet/core/dispatcher.hpp"

namespace pocketfleet::testing_dispatcher {

inline const std::string qwen = "qwen2.5:1.5b";

inline phone_config phone_named(const std::string& name, std::uint32_t permits = 1, std::uint32_t weight = 1,
                                const std::string& model = qwen, engine_kind engine = engine_kind::ollama) {
  phone_config c;
  c.name = name;
  c.host = name + ".lan";
  c.model = model;
  c.weight = weight;
  c.max_concurrency = permits;
  c.engine = engine;
  return c;
}

inline phone_report good(std::vector<std::string> models = {qwen}, engine_kind engine = engine_kind::ollama) {
  phone_report r;
  r.state = health::up;
  r.engine = engine;
  r.models.emplace(models.begin(), models.end());
  return r;
}

inline phone_report bad(health state, std::string reason = "why") {
  phone_report r;
  r.state = state;
  r.reason = std::move(reason);
  return r;
}

class dispatcher_test : public testing::Test {
 protected:
  /// Everything anew, with these settings.
  void begin(std::vector<phone_config> phones, const std::string& policy_name = "weighted_round_robin") {
    settings_.breaker.jitter = 0;
    d_.emplace(settings_, make_policy(policy_name), 1);
    d_->configure(phones, now_);
  }
  /// ... and with all phones up.
  void begin_up(std::vector<phone_config> phones) {
    begin(phones);
    for (const auto& p : phones) up(p.name, p.engine);
  }
  phone_id id(const std::string& name) const {
    for (const auto& t : d_->targets()) {
      if (t->name == name) return t->id;
    }
    ADD_FAILURE() << "no phone " << name;
    return phone_id{};
  }
  std::vector<granted> up(const std::string& name, engine_kind engine = engine_kind::ollama) {
    return d_->report(id(name), good({qwen}, engine), now_);
  }
  phone_status status(const std::string& name) {
    for (auto& s : d_->status(now_)) {
      if (s.config.name == name) return s;
    }
    ADD_FAILURE() << "no phone " << name;
    return {};
  }
  bool known(const std::string& name) {
    for (auto& s : d_->status(now_)) {
      if (s.config.name == name) return true;
    }
    return false;
  }

  decision ask(const want& w = {}) { return d_->acquire(++last_ticket_, w, now_); }
  /// A grant that must be there at once.
  grant take(const want& w = {}) {
    auto decided = ask(w);
    if (auto* g = std::get_if<grant>(&decided)) return std::move(*g);
    ADD_FAILURE() << "expected a grant, got "
                  << (std::holds_alternative<queued>(decided) ? "a place in the queue"
                                                              : to_string(std::get<error>(decided).code));
    throw std::runtime_error("no grant");
  }
  /// The name of the phone that is granted; else "queued", or the error's name.
  std::string asked(const want& w = {}) {
    auto decided = ask(w);
    if (auto* g = std::get_if<grant>(&decided)) {
      held_.push_back(*g);
      return g->phone->name;
    }
    if (std::holds_alternative<queued>(decided)) return "queued";
    return std::string(to_string(std::get<error>(decided).code));
  }
  error refused(const want& w = {}) {
    auto decided = ask(w);
    if (auto* e = std::get_if<error>(&decided)) return *e;
    ADD_FAILURE() << "expected an error";
    return {};
  }
  std::vector<granted> settle(const grant& g, verdict how = verdict::success) {
    return d_->settle(g, how, now_);
  }
  /// So many requests, one after the other, on a phone that is free.
  void run(const std::string& name, unsigned n, verdict how) {
    want w;
    w.only = id(name);
    for (unsigned i = 0; i < n; ++i) settle(take(w), how);
  }
  /// Its breaker opens.
  void trip(const std::string& name) { run(name, 5, verdict::failure); }

  static want model(std::string normalized) {
    want w;
    w.model = std::move(normalized);
    return w;
  }

  dispatch_settings settings_{};
  std::optional<dispatcher> d_;
  time_point now_{seconds{1'000}};
  ticket last_ticket_ = 0;
  std::vector<grant> held_;
};

}  // namespace pocketfleet::testing_dispatcher
