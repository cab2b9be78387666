#include "pocketfleet/service/prober.hpp"

#include "page.hpp"
#include "pocketfleet/engines/probe.hpp"

namespace pocketfleet {
namespace {

constexpr seconds group_interval{1};        // between two questions to a group's supervisor
constexpr milliseconds tick_interval{500};  // how late an open breaker may turn half-open for those who wait

phone_report down(std::string why) {
  return {.state = health::down, .reason = std::move(why)};
}

}  // namespace

prober::prober(executor where, std::shared_ptr<phone_client> phones, desk& fleet, observer& books,
               const probe_settings& settings)
    : executor_(where), phones_(std::move(phones)), desk_(fleet), observer_(books), settings_(settings) {}

void prober::sync() {
  if (stopped_) return;
  const auto self = shared_from_this();
  for (const auto& phone : desk_.targets()) {
    if (!watched_.insert(phone->id).second) continue;
    asio::co_spawn(executor_, watch(phone->id), [self, id = phone->id](const std::exception_ptr& thrown) {
      self->watched_.erase(id);
      if (thrown) self->sync();  // out of memory: begin again
    });
  }
  if (!std::exchange(ticking_, true)) {
    asio::co_spawn(executor_, tick(), [self](const std::exception_ptr&) { self->ticking_ = false; });
  }
}

void prober::stop() {
  stopped_ = true;
  for (wait_timer* wait : waits_) wait->cancel();
}

task<> prober::tick() {
  wait_timer timer(executor_);
  waits_.insert(&timer);
  while (!stopped_) {
    timer.expires_after(tick_interval);
    co_await timer.async_wait(use_result);
    desk_.tick();
  }
  waits_.erase(&timer);
}

std::shared_ptr<const phone_target> prober::target(phone_id id) {
  for (auto& phone : desk_.targets()) {
    if (phone->id == id) return phone;
  }
  return nullptr;
}

bool prober::busy(phone_id id) {
  const auto phone = target(id);
  for (const auto& p : desk_.status()) {
    if (phone && p.config.name == phone->name) return p.in_flight > 0;
  }
  return false;
}

/// A look that failed for the gateway's own reasons, or because the phone computes with all its cores.
bool prober::says_nothing(errc code, phone_id id) {
  return code == errc::overloaded || (code != errc::connect_failed && busy(id));
}

task<> prober::watch(phone_id id) {
  memory m;
  wait_timer timer(executor_);
  waits_.insert(&timer);
  while (!stopped_) {
    const std::shared_ptr<const phone_target> phone = target(id);
    if (!phone) break;
    phone_report found = co_await look(phone, m);
    if (stopped_) break;
    conclude(*phone, m, found);
    co_await rest(timer, phone, m);
  }
  waits_.erase(&timer);
}

/// Until the next look. A group's supervisor knows at once what a look finds out late: it is asked in
/// between.
task<> prober::rest(wait_timer& timer, std::shared_ptr<const phone_target> phone, const memory& m) {
  const time_point next = clock::now() + until_next_look(m);
  const bool asks = !phone->group.status_host.empty();
  bool news = false;
  while (!stopped_ && !news && clock::now() < next) {
    timer.expires_at(asks ? std::min<time_point>(next, clock::now() + group_interval) : next);
    co_await timer.async_wait(use_result);
    if (stopped_ || !asks || clock::now() >= next) co_return;
    const auto said = co_await ask_supervisor(*phone);
    news = said && said->usable != (m.looks.state() == health::up);
  }
}

duration prober::until_next_look(const memory& m) {
  std::uniform_real_distribution<double> chance(0.0, 1.0);
  return m.looks.until_next(settings_.rules(), chance(random_));
}

void prober::conclude(const phone_target& phone, memory& m, const phone_report& found) {
  const bool good = found.state != health::down;
  const health before = m.looks.state();
  observer_.on_probe(phone.name, good);
  look_rules rules = settings_.rules();
  if (found.group && !found.group->usable && found.group->state != "unreachable") rules.fall = 1;  // it knows
  if (!m.looks.note(found.state, rules)) {
    if (good) m.looks_to_inventory = 0;  // what this look found is not taken: the next one asks again
    return;
  }
  if (!good) m.looks_to_inventory = 0;
  if (found.state != before || found.reason != m.reason) {
    observer_.on_phone_change(phone.name, to_string(found.state), found.reason);
  }
  m.reason = found.reason;
  desk_.report(phone.id, found);
  if (found.group && found.group->given_up()) desk_.give_up(phone.id);  // and no other try goes there
}

task<result<page>> prober::get(std::shared_ptr<const phone_target> phone, std::string_view path) {
  const phone_request request{"GET", path, {}};
  const std::unique_ptr<phone_exchange> exchange = phones_->open(std::move(phone));
  const time_point deadline = clock::now() + settings_.timeout;
  co_return co_await read_page(*exchange, request, deadline);
}

task<phone_report> prober::look(std::shared_ptr<const phone_target> phone, memory& m) {
  engine_kind kind = phone->engine;
  if (kind == engine_kind::unknown) {
    auto root = co_await get(phone, "/");
    if (!root) co_return down(root.error().message);
    kind = identify(root->server, root->body);
    if (kind == engine_kind::unknown)
      co_return down("something else than Ollama or llama-server answers there");
    m.looks_to_inventory = 0;
  }
  phone_report found;
  if (kind == engine_kind::ollama) {
    found = co_await look_at_ollama(phone, m);
  } else {
    found = co_await look_at_llama_server(phone, m);
  }
  found.engine = kind;
  if (!phone->group.status_host.empty()) co_await look_at_group(phone, found);
  co_return found;
}

/// Nothing: it does not answer.
task<std::optional<group_report>> prober::ask_supervisor(const phone_target& phone) {
  auto where = std::make_shared<phone_target>();
  where->id = phone.id;
  where->name = phone.name;
  where->host = phone.group.status_host;
  where->port = phone.group.status_port;
  where->host_header = where->host + ":" + std::to_string(where->port);
  where->confined = phone.confined;
  where->engine = engine_kind::llama_server;
  std::shared_ptr<const phone_target> supervisor = std::move(where);
  const auto got = co_await get(supervisor, "/");
  if (!got || got->status != 200) co_return std::nullopt;
  const auto read = read_group_status(got->body);
  if (!read) co_return std::nullopt;
  co_return *read;
}

/// llama-server says nothing of a worker that is gone or stopped: the group's supervisor does. Where that
/// cannot be reached, the llama-server is believed.
task<> prober::look_at_group(std::shared_ptr<const phone_target> phone, phone_report& found) {
  found.group = co_await ask_supervisor(*phone);
  if (!found.group) {
    found.group.emplace();
    found.group->state = "unreachable";
    co_return;
  }
  if (found.group->usable) co_return;
  const bool starts = found.group->fault.empty() && found.group->state == "starting";
  found.state = starts ? health::loading : health::down;
  found.reason = "its group: " + (found.group->reason.empty() ? found.group->state : found.group->reason);
}

task<phone_report> prober::look_at_ollama(std::shared_ptr<const phone_target> phone, memory& m) {
  auto version = co_await get(phone, "/api/version");
  if (!version || version->status != 200) {
    // A phone that computes with all its cores may be too slow to answer a question beside it.
    const bool slow = !version && says_nothing(version.error().code, phone->id);
    if (slow && m.looks.state() == health::up) co_return phone_report{.state = health::up};
    co_return down(version ? "not Ollama's answer" : version.error().message);
  }
  phone_report out{.state = health::up, .messages = serves_messages(version->body)};
  // What is in memory changes with every request for another model; since 0.32.4 this question waits while
  // one loads.
  auto loaded = co_await get(phone, "/api/ps");
  if (loaded && loaded->status == 200) {
    if (auto models = read_ollama_models(loaded->body)) out.loaded = std::move(*models);
  }
  if (m.looks_to_inventory > 0) {
    --m.looks_to_inventory;
    co_return out;
  }
  auto tags = co_await get(phone, "/api/tags");
  if (tags && tags->status == 200) {
    if (auto names = read_ollama_models(tags->body)) {
      out.models = std::move(*names);
      m.looks_to_inventory = settings_.inventory_every - 1;
    }
  }
  if (!out.models && m.looks.state() != health::up) co_return down("it does not say which models it has");
  co_return out;
}

task<phone_report> prober::look_at_llama_server(std::shared_ptr<const phone_target> phone, memory& m) {
  auto health_page = co_await get(phone, "/health");
  if (!health_page || (health_page->status != 200 && health_page->status != 503)) {
    const bool slow = !health_page && says_nothing(health_page.error().code, phone->id);
    if (slow && m.looks.state() == health::up) co_return phone_report{.state = health::up};
    co_return down(health_page ? "not llama-server's answer" : health_page.error().message);
  }
  if (health_page->status == 503) {
    m.looks_to_inventory = 0;
    co_return phone_report{.state = health::loading, .reason = "loading its model"};
  }
  phone_report out{.state = health::up};
  if (m.looks_to_inventory > 0) {
    --m.looks_to_inventory;
    co_return out;
  }
  llama_props known;
  auto props = co_await get(phone, "/props");
  if (props && props->status == 200) {
    if (auto read = read_llama_props(props->body)) known = std::move(*read);
  }
  out.slots = known.slots;
  out.vision = known.vision;
  auto models = co_await get(phone, "/v1/models");
  if (models && models->status == 200) {
    if (auto read = read_llama_models(models->body)) {
      name_file(*read, known.file);
      out.loaded = *read;
      out.models = std::move(*read);
      m.looks_to_inventory = settings_.inventory_every - 1;
    }
  }
  if (models && models->status == 401) co_return down("it wants another key (api_key_file)");
  if (!out.models && m.looks.state() != health::up) co_return down("it does not say which model it has");
  co_return out;
}

}  // namespace pocketfleet
