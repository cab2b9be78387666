#include "gate.hpp"

#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace pocketfleet::sim {

namespace asio = boost::asio;

asio::awaitable<bool> sleeper::nap(time_point until) {
  if (gone_) co_return false;
  timer_.expires_at(until);
  boost::system::error_code ignored;
  co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  co_return !gone_;
}

asio::awaitable<bool> sleeper::sleep(time_point until) {
  while (!gone_ && clock::now() < until) co_await nap(until);
  co_return !gone_;
}

ticket& ticket::operator=(ticket&& other) noexcept {
  if (this != &other) {
    release();
    owner_ = std::exchange(other.owner_, nullptr);
    slot_ = other.slot_;
    loading_ = other.loading_;
    load_time_ = other.load_time_;
  }
  return *this;
}

void ticket::release() {
  gate* const owner = std::exchange(owner_, nullptr);
  if (owner == nullptr) return;
  const time_point now = clock::now();
  if (loading_) {  // given up half-way: nothing of it stays
    owner->loading_ = false;
    owner->drop_model();
    for (sleeper* each : owner->watchers_) each->wake();
  }
  owner->slots_[slot_].busy = false;
  if (owner->active() == 0) {
    owner->idle_since_ = now;
    owner->heat_.load(false, now);
    owner->settle(now);
  }
  owner->serve();
}

gate::gate(const phone_settings& settings, heat& warmth, phone_state& counters)
    : settings_(settings),
      heat_(warmth),
      counters_(counters),
      slots_(settings.slots),
      caches_(settings.slots),
      keep_(settings.keep_alive) {}

unsigned gate::active() const {
  return static_cast<unsigned>(
      std::count_if(slots_.begin(), slots_.end(), [](const slot_view& s) { return s.busy; }));
}

void gate::settle(time_point now) {
  if (model_.empty() || loading_ || active() != 0 || !keep_) return;
  if (now - idle_since_ >= *keep_) drop_model();
}

void gate::drop_model() {
  model_.clear();
  forget_prompts();
}

void gate::forget_prompts() {
  for (cache& each : caches_) each.tokens.clear();
}

std::size_t common_prefix(const std::vector<token_id>& a, const std::vector<token_id>& b) {
  const auto most = static_cast<std::ptrdiff_t>(std::min(a.size(), b.size()));
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.begin() + most, b.begin()).first - a.begin());
}

std::optional<unsigned> gate::best_slot(const std::vector<token_id>* prompt) const {
  std::optional<unsigned> idlest;
  std::optional<unsigned> best;
  std::size_t longest = prompt != nullptr ? prompt->size() / 10 : 0;  // less is not worth another's cache
  for (unsigned i = 0; i < slots_.size(); ++i) {
    if (slots_[i].busy) continue;
    if (!idlest || caches_[i].used < caches_[*idlest].used) idlest = i;
    const std::size_t alike = prompt != nullptr ? common_prefix(caches_[i].tokens, *prompt) : 0;
    if (alike <= longest) continue;
    longest = alike;
    best = i;
  }
  return best ? best : idlest;
}

void gate::serve() {
  const time_point now = clock::now();
  while (!line_.empty() && !loading_) {
    waiter& next = *line_.front();
    const bool idle = active() == 0;
    if (!idle && !fits(next)) return;  // its model comes when this one is idle, and nobody overtakes it
    settle(now);
    const auto free = best_slot(next.prompt);
    if (!free) return;
    slot_view& taken = slots_[*free];
    taken = slot_view{};
    taken.busy = true;
    taken.task = tasks_++;
    caches_[*free].used = tasks_;
    next.slot = free;
    line_.pop_front();
    if (idle) heat_.load(true, now);
    counters_.max_active = std::max(counters_.max_active, active());
    if (!fits(next)) {
      loading_ = true;
      forget_prompts();
    }
    next.who.wake();
  }
}

asio::awaitable<ticket> gate::enter(sleeper& who, std::string model, std::string options,
                                    std::optional<keep_alive> keep, const std::vector<token_id>* prompt) {
  ticket mine;
  {
    waiter self{who, model, options, prompt};
    line_.push_back(&self);
    struct leave_line {
      std::list<waiter*>& line;
      waiter* self;
      ~leave_line() { line.remove(self); }
    } guard{line_, &self};
    serve();
    if (!self.slot) {
      ++counters_.waiting;
      while (!self.slot && co_await who.nap(time_point::max())) {
      }
      --counters_.waiting;
    }
    if (!self.slot) {
      line_.remove(&self);
      serve();  // the next one may fit where this one did not
      co_return mine;
    }
    mine = ticket(*this, *self.slot);
  }
  if (model != model_ || options != options_) {  // serve() has set loading_ for us
    mine.loading_ = true;
    model_ = model;
    options_ = options;
    keep_ = settings_.keep_alive;
    const time_point begun = clock::now();
    const bool stayed = co_await who.sleep(begun + settings_.load_time);
    if (!stayed) {
      mine = ticket();
      co_return mine;
    }
    mine.loading_ = false;
    mine.load_time_ = std::max<nanoseconds>(clock::now() - begun, nanoseconds(1));
    loading_ = false;
    ++counters_.loads;
    for (sleeper* each : watchers_) each->wake();
  }
  if (keep) keep_ = *keep;
  serve();
  if (who.gone()) mine = ticket();
  co_return mine;
}

asio::awaitable<bool> gate::not_loading(sleeper& who) {
  if (!loading_) co_return !who.gone();
  const auto place = watchers_.insert(watchers_.end(), &who);
  struct stop_watching {
    std::list<sleeper*>& watchers;
    std::list<sleeper*>::iterator place;
    ~stop_watching() { watchers.erase(place); }
  } guard{watchers_, place};
  while (loading_ && co_await who.nap(time_point::max())) {
  }
  co_return !who.gone();
}

void gate::preload(const std::string& model) {
  model_ = model;
  options_.clear();
  keep_.reset();
}

void gate::unload() {
  keep_ = nanoseconds(0);
  settle(clock::now());
}

void gate::forget() {
  if (!loading_) drop_model();
}

std::string gate::loaded(time_point now) {
  settle(now);
  return model_;
}

std::optional<duration> gate::expires_in(time_point now) {
  if (!keep_) return std::nullopt;
  return active() != 0 ? duration(*keep_) : idle_since_ + *keep_ - now;
}

}  // namespace pocketfleet::sim
