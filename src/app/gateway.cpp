#include "pocketfleet/app/gateway.hpp"

#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <random>

#include "pocketfleet/app/embedded.hpp"
#include "pocketfleet/app/listen_address.hpp"
#include "pocketfleet/app/log.hpp"
#include "pocketfleet/app/settings_json.hpp"

namespace pocketfleet {
namespace {

/// All settings but those that are taken over while running, and the address, which the command line may have
/// set.
json what_needs_a_restart(gateway_settings settings) {
  const std::string file = settings.registration.registered_file;
  settings.registration = {};
  settings.phone_api_key_file.clear();
  settings.api_keys_file.clear();
  settings.tls = {};
  settings.registration.registered_file = file;
  settings.policy.clear();
  settings.listener.address.clear();
  settings.listener.port = 0;
  return settings_to_json(settings);
}

}  // namespace

gateway::gateway(const configuration& c)
    : settings_(c.gateway),
      books_(metrics_, tally_),
      desk_(c.gateway.dispatch, make_policy(c.gateway.policy), std::random_device{}()),
      dispatch_(desk_, books_, c.gateway.service),
      api_(desk_, dispatch_, c.gateway.service),
      dialects_(desk_, dispatch_, c.gateway.service),
      embeddings_(desk_, books_, c.gateway.service),
      heartbeats_(registry_, desk_, books_, [this](const registry::taken& what) { on_fleet_change(what); }),
      catalog_(desk_),
      events_(desk_, dispatch_, tally_, {c.gateway.dispatch.queue_capacity, POCKETFLEET_VERSION}),
      readiness_(desk_),
      pages_(c.gateway.dashboard ? web_files() : std::vector<static_file>{}),
      admin_(desk_, dispatch_, roster_, registry_, means()),
      face_(c.gateway.listener, routes(), books_),
      workers_(make_workers(c.gateway.workers)),
      signals_(workers_[0]->context),
      grace_(workers_[0]->context),
      reports_(loops(), [this] { return state_in_words(); }),
      digest_(c.digest),
      phones_key_(c.gateway.registration.api_key) {
  face_.door = &keys_;
  face_.complain = [](std::string_view what, std::string_view why) {
    log(log_level::warning, what, {{"why", why}});
  };
  for (auto& w : workers_)
    w->listener = std::make_shared<server>(w->context.get_executor(), face_, settings_.links);
  server& first = *workers_[0]->listener;
  prober_ = std::make_shared<prober>(workers_[0]->context.get_executor(), first.shared_phones(), desk_,
                                     books_, settings_.service.probe);
  take(c);
  restore_registered();
  use_fleet();
}

/// Clients need one as soon as one is made for them, or others can reach the gateway. The listener's address
/// is the one it began with.
void gateway::use_keys(const gateway_settings& now) {
  const bool reachable = !is_loopback(settings_.listener.address) && !now.allow_unauthenticated_lan;
  const bool for_clients = std::any_of(now.keys.begin(), now.keys.end(),
                                       [](const api_key& k) { return k.terms.role == key_role::client; });
  keys_.configure(now.keys, reachable || for_clients);
}

/// Read whatever the mode: a reload may change it. A damaged file is set aside, so that the next one to be
/// written does not replace what somebody may want to mend.
void gateway::restore_registered() {
  const std::string& file = settings_.registration.registered_file;
  if (file.empty()) return;
  auto known = read_registered(file);
  if (known) return registry_.restore(std::move(*known));
  const std::string aside = file + ".damaged";
  const bool moved = std::rename(file.c_str(), aside.c_str()) == 0;
  log(log_level::error, "the registered phones cannot be read",
      {{"why", known.error().message},
       {"kept_as", moved ? std::string_view(aside) : std::string_view(file)}});
}

/// What a file says, without telling the desk.
void gateway::take(const configuration& c) {
  roster_.take_file(c.phones);
  registry_.configure(c.gateway.registration, roster_.phones());
  use_keys(c.gateway);
  face_.use_tls(c.gateway.tls_loaded);
}

/// The roster's and the registry's fleet becomes the desk's.
void gateway::use_fleet(std::unique_ptr<policy> chosen) {
  const std::lock_guard lock(fleet_mutex_);
  registry_.configure(roster_.phones());
  desk_.configure(registry_.fleet(), std::move(chosen));
}

void gateway::on_fleet_change(const registry::taken& what) {
  use_fleet();
  asio::post(workers_[0]->context, [this] { prober_->sync(); });
  keep_registered();
  log(log_level::info, what.joined ? "a phone has joined" : "a phone has moved",
      {{"phone", std::string_view(what.phone)}, {"address", std::string_view(what.address)}});
}

void gateway::keep_registered() {
  const std::string& file = settings_.registration.registered_file;
  if (file.empty()) return;
  const std::lock_guard lock(fleet_mutex_);  // what is kept last is the newest
  kept_.keep(file, render_registered(registry_.registered()));
}

std::vector<std::unique_ptr<gateway::worker>> gateway::make_workers(unsigned n) {
  std::vector<std::unique_ptr<worker>> out;
  for (unsigned i = 0; i < std::max(1U, n); ++i) out.push_back(std::make_unique<worker>());
  return out;
}

std::vector<asio::io_context*> gateway::loops() {
  std::vector<asio::io_context*> out;
  out.reserve(workers_.size());
  for (auto& w : workers_) out.push_back(&w->context);
  return out;
}

gateway::~gateway() {
  stop();
  for (auto& t : threads_) t.join();
  end_everything();
}

/// What is still under way ends in its own words while all workers are there: a request on one may wait for
/// an answer that is made on another, so that no worker may simply go before the others.
void gateway::end_everything() {
  end_requests();
  prober_->stop();
  reports_.stop();
  for (auto& w : workers_) w->listener->drop();
  bool busy = true;
  for (int round = 0; busy && round < 1000; ++round) {
    busy = false;
    for (auto& w : workers_) {
      w->context.restart();
      try {
        busy = w->context.poll() > 0 || busy;
      } catch (const std::exception&) {  // as in run_worker()
        busy = true;
      }
    }
  }
  for (auto& w : workers_) w->context.end();
}

void gateway::end_requests() {
  dispatch_.shut_down();
  embeddings_.shut_down();
  events_.shut_down();
}

std::vector<route> gateway::routes() {
  auto all = api_.routes();
  for (auto& r : dialects_.routes()) all.push_back(std::move(r));
  for (auto& r : embeddings_.routes()) all.push_back(std::move(r));
  for (auto& r : heartbeats_.routes()) all.push_back(std::move(r));
  for (auto& r : catalog_.routes()) all.push_back(std::move(r));
  for (auto& r : admin_.routes()) all.push_back(std::move(r));
  for (auto& r : events_.routes()) all.push_back(std::move(r));
  for (auto& r : readiness_.routes()) all.push_back(std::move(r));
  for (auto& r : pages_.routes()) all.push_back(std::move(r));
  all.push_back({"/phone_setup.sh", "GET",
                 [](http_call& call) -> task<> {
                   std::string body(phone_setup_script());
                   co_await call.out->send(200, "text/x-shellscript; charset=utf-8", std::move(body));
                 },
                 access_level::open});
  all.push_back({"/metrics", "GET", [this](http_call& call) -> task<> {
                   std::string body = metrics_text();
                   co_await call.out->send(200, "text/plain; version=0.0.4; charset=utf-8", std::move(body));
                 }});
  return all;
}

std::string gateway::metrics_text() {
  metrics_look now;
  now.phones = desk_.status();
  now.waiting = desk_.waiting();
  now.cache = dispatch_.cache();
  now.listener = &face_.counters;
  if (const auto tls = face_.tls()) now.certificate_expires = tls->expires();
  now.body_bytes = face_.bodies.used();
  now.dropped_log_lines = dropped_log_lines();
  return metrics_.text(now);
}

/// For the service manager: `systemctl status` shows it.
std::string gateway::state_in_words() {
  const auto phones = desk_.status();
  const auto up = std::count_if(phones.begin(), phones.end(), [](const auto& p) { return p.healthy; });
  std::size_t running = 0;
  for (const auto& p : phones) running += p.in_flight;
  return std::string(draining_ ? "draining: " : "") + std::to_string(up) + " of " +
         std::to_string(phones.size()) + " phones up, " + std::to_string(running) + " requests running, " +
         std::to_string(desk_.waiting()) + " waiting";
}

// ---- running

result<std::uint16_t> gateway::listen(std::optional<int> listening) {
  server& first = *workers_[0]->listener;
  const auto port = listening ? first.take_over(*listening) : first.listen(face_.settings.port);
  for (std::size_t i = 1; port && i < workers_.size(); ++i) workers_[i]->listener->share(first);
  return port;
}

void gateway::catch_signals(const std::string& file) {
  file_ = file;
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) signals_.add(number);
  next_signal(file);
}

void gateway::run() {
  prober_->sync();
  reports_.start();
  for (auto& w : workers_) w->listener->start();
  for (std::size_t i = 1; i < workers_.size(); ++i) {
    threads_.emplace_back([this, i] { run_worker(*workers_[i]); });
    ::pthread_setname_np(threads_.back().native_handle(), ("worker " + std::to_string(i)).c_str());
  }
  run_worker(*workers_[0]);
  for (auto& w : workers_) w->context.stop();
  for (auto& t : threads_) t.join();
  threads_.clear();
}

/// The last fence: what escapes every other one (Beast 345 can throw past any coroutine) ends nothing but
/// itself.
void gateway::run_worker(worker& w) {
  for (;;) {
    try {
      w.context.run();
      return;
    } catch (const std::exception& e) {
      log(log_level::error, "an exception reached the event loop", {{"what", e.what()}});
    }
  }
}

void gateway::stop() {
  for (auto& w : workers_) w->context.stop();
}

void gateway::drain() {
  asio::post(workers_[0]->context, [this] { begin_drain(); });
}

void gateway::begin_drain() {
  if (std::exchange(draining_, true)) return;
  readiness_.shut_down();
  log(log_level::info, "draining", {{"grace_s", settings_.drain.count()}});
  tell_stopping(settings_.drain + seconds{5});
  events_.shut_down();  // who only watches is not waited for
  undrained_ = workers_.size();
  for (auto& w : workers_) {
    asio::post(w->context, [this, listener = w->listener] {
      listener->drain([this] {
        asio::post(workers_[0]->context, [this] {
          if (--undrained_ == 0) stop();
        });
      });
    });
  }
  // The grace is over: running streams get an error event; what has not ended a second later is left.
  grace_.expires_after(settings_.drain);
  grace_.async_wait([this](const boost::system::error_code& ec) {
    if (ec) return;
    log(log_level::warning, "the grace is over", {});
    end_requests();
    grace_.expires_after(seconds{1});
    grace_.async_wait([this](const boost::system::error_code& again) {
      if (!again) stop();
    });
  });
}

void gateway::next_signal(const std::string& file) {
  signals_.async_wait([this, file](const boost::system::error_code& ec, int number) {
    if (ec) return;
    if (number == SIGHUP) {
      if (!draining_ && !file.empty()) reread(file);
    } else if (draining_) {
      log(log_level::warning, "stopping at once", {});
      stop();
      return;
    } else {
      begin_drain();
    }
    next_signal(file);
  });
}

reread_file gateway::reread(const std::string& file) {
  const reload_notice told;
  reread_file out;
  const auto loaded = load_configuration(file);
  metrics_.on_reload(loaded.ok());
  if (!loaded.ok()) {
    for (const auto& m : loaded.mistakes) {
      out.mistakes.push_back(to_string(m, file));
      log(log_level::error, "the file is not taken", {{"mistake", out.mistakes.back()}});
    }
    log(log_level::error, "the old fleet goes on", {{"file", file}});
    return out;
  }
  reload(loaded.value);
  digest_ = loaded.value.digest;
  phones_key_ = loaded.value.gateway.registration.api_key;
  out.phones = loaded.value.phones.size();
  out.needs_restart = what_needs_a_restart(loaded.value.gateway) != what_needs_a_restart(settings_);
  if (out.needs_restart) {
    log(log_level::warning, "a setting has changed that needs a restart", {{"file", file}});
  }
  log(log_level::info, "the file was reread",
      {{"file", file}, {"phones", static_cast<std::int64_t>(out.phones)}});
  return out;
}

void gateway::reload(const configuration& c) {
  take(c);
  use_fleet(make_policy(c.gateway.policy));
  asio::post(workers_[0]->context, [this] { prober_->sync(); });
}

// ---- books

void gateway::books::on_request(const request_record& r) {
  metrics_.on_request(r);
  tally_.on_request(r);
  const auto number = [](auto value) { return static_cast<std::int64_t>(value); };
  // Each phone's, every 10 s; a dozen whenever somebody opens the dashboard; and a load balancer's, all the
  // time.
  const bool usual = r.outcome == "ok" && (r.route == "/fleet/heartbeat" || r.route == "/ui/*" ||
                                           r.route == "/healthz" || r.route == "/readyz");
  log(usual ? log_level::debug : log_level::info, "request",
      {{"request_id", r.request_id},
       {"route", r.route},
       {"key", r.key},
       {"phone", std::string_view(r.phone)},
       {"outcome", r.outcome},
       {"status", number(r.status)},
       {"phase", to_string(r.at)},
       {"cached", r.cached},
       {"joined", r.joined},
       {"attempts", number(r.attempts)},
       {"rescues", number(r.rescues)},
       {"queued_ms", number(r.queued.count())},
       {"first_token_ms", number(r.first_token.count())},
       {"total_ms", number(r.total.count())},
       {"prompt_tokens", number(r.prompt_tokens)},
       {"answer_tokens", number(r.answer_tokens)},
       {"trace_id", r.trace_id}});
}

void gateway::books::on_attempt(const attempt_record& r) {
  metrics_.on_attempt(r);
  tally_.on_attempt(r);
}

void gateway::books::on_phone_change(std::string_view phone, std::string_view state,
                                     std::string_view reason) {
  log(state == "down" ? log_level::warning : log_level::info, "phone",
      {{"phone", phone}, {"state", state}, {"reason", reason}});
}

}  // namespace pocketfleet
