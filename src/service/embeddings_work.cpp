// Who works on what. What one try is, is in embeddings_try.cpp.
#include "embeddings_work.hpp"

#include <algorithm>
#include <exception>

#include "ask_common.hpp"
#include "pocketfleet/core/model_name.hpp"
#include "pocketfleet/service/together.hpp"

namespace pocketfleet {
namespace {

constexpr std::size_t largest_chunk = 32;
constexpr std::size_t most_runners = 64;
constexpr std::size_t chunks_for_each_permit = 2;  // so that a fast phone may take more than a slow one
constexpr int late = 3;                            // times what the others took
constexpr milliseconds least_late{100};
constexpr milliseconds look_again{100};

/// As far as the phone's last look says.
bool may_have(const phone_target& phone, std::string_view asked) {
  const std::string own = normalized_model(model_for(phone, asked));
  const auto is_it = [&](std::string_view name) { return normalized_model(name) == own; };
  return is_it(phone.model) || phone.models.empty() ||
         std::any_of(phone.models.begin(), phone.models.end(),
                     [&](const served_model& m) { return is_it(m.name); });
}

}  // namespace

embeddings_work::embeddings_work(desk& fleet, observer& books, const service_settings& settings,
                                 embeddings_refusals& refusals, http_call& call,
                                 const embeddings_request& request)
    : desk_(fleet),
      observer_(books),
      settings_(settings),
      refusals_(refusals),
      call_(call),
      request_(request),
      model_(normalized_model(request.model)),
      owner_(owner_of(call)),
      deadline_(std::min(call.began + settings.times.request, call.deadline)),
      vectors_(request.inputs.size()) {}

std::function<void()> embeddings_work::stopper() const {
  return
      [stop = stop_, where = call_.where] { asio::post(where, [stop]() mutable { stop.request_stop(); }); };
}

embeddings_counts embeddings_work::counts() const {
  return {prompt_tokens_, load_time_, clock::now() - call_.began};
}

std::string embeddings_work::phones() const {
  constexpr std::size_t most_names = 16;
  std::string out;
  std::size_t n = 0;
  for (const auto& name : phones_) {
    if (++n > most_names) return out + ", ...";
    out.append(out.empty() ? "" : ", ").append(name);
  }
  return out;
}

/// The permits of the phones that may do it.
std::size_t embeddings_work::look_at_fleet() {
  const auto fleet = desk_.targets();
  known_ = refusals_.among(fleet, model_, clock::now());
  std::size_t by_name = 0;
  std::size_t all = 0;
  for (const auto& s : desk_.status()) {
    if (!s.healthy || (request_.engines & mask_of(s.engine)) == 0) continue;
    const auto t =
        std::find_if(fleet.begin(), fleet.end(), [&](const auto& p) { return p->name == s.config.name; });
    if (t == fleet.end() || std::find(known_.begin(), known_.end(), (*t)->id) != known_.end()) continue;
    all += s.permits;
    if (may_have(**t, request_.model)) by_name += s.permits;
  }
  return std::clamp<std::size_t>(by_name == 0 ? all : by_name, 1, most_runners);
}

task<result<void>> embeddings_work::run() {
  if (request_.inputs.empty()) co_return result<void>{};
  if ((request_.engines & desk_.engines()) == 0 && !request_.why.empty())
    co_return error(errc::unsupported, request_.why);
  const std::size_t permits = look_at_fleet();
  const std::size_t inputs = request_.inputs.size();
  const std::size_t parts = permits * chunks_for_each_permit;
  const std::size_t size = std::min(largest_chunk, (inputs + parts - 1) / parts);
  for (std::size_t first = 0; first < inputs; first += size) {
    chunk c;
    c.first = first;
    c.count = std::min(size, inputs - first);
    chunks_.push_back(std::move(c));
  }
  for (chunk& c : chunks_) pending_.push_back(&c);
  left_ = chunks_.size();
  const std::size_t runners = std::min(permits, chunks_.size());
  for (std::size_t i = 0; i < runners; ++i) wakers_.push_back(std::make_shared<waker>(call_.where));

  call_.record.at = phase::queued;
  {
    const std::stop_callback on_gone(call_.gone, [this] { stop_.request_stop(); });
    const std::stop_callback on_stop(stop_.get_token(), [this] {
      abort_tries();
      wake_all();
    });
    auto one = [this](std::size_t i) { return runner(i); };
    co_await together(call_.where, runners, one);
  }
  call_.record.prompt_tokens = prompt_tokens_;
  if (left_ == 0) {
    call_.record.at = phase::done;
    co_return result<void>{};
  }
  if (failure_) co_return *failure_;
  if (call_.gone.stop_requested()) co_return error(errc::aborted);
  co_return error(errc::shutting_down, "the gateway is going down");
}

task<> embeddings_work::runner(std::size_t i) {
  try {
    co_await work(*wakers_[i]);
  } catch (const std::exception&) {  // nobody else has the chunk that it had
    fail({errc::overloaded, "the gateway is out of memory"});
  }
}

task<> embeddings_work::work(waker& news) {
  while (!over()) {
    if (pending_.empty()) {
      co_await look_after_late(news);
      continue;
    }
    chunk& c = *pending_.front();
    if (queueing_ && c.tries == 0) {
      co_await news.wait();
      continue;
    }
    pending_.pop_front();
    const bool taken = co_await next_chunk(c);
    if (!taken && !over()) co_await news.wait();
  }
}

want embeddings_work::wanted_for(const chunk& c) const {
  want wanted;
  wanted.model = model_;
  wanted.engines = request_.engines;
  wanted.owner = owner_;
  if (call_.patient) wanted.how_soon = urgency::batch;
  wanted.avoid = c.avoid;
  wanted.avoid.insert(wanted.avoid.end(), refused_.begin(), refused_.end());
  wanted.avoid.insert(wanted.avoid.end(), known_.begin(), known_.end());
  if (c.tries > 0) wanted.which = turn::retry;
  return wanted;
}

/// False: it has to wait for those that are under way. Only one runner stands in the queue at a time, but for
/// what has failed before, so that the request takes nobody else's place there.
task<bool> embeddings_work::next_chunk(chunk& c) {
  const want wanted = wanted_for(c);
  const time_point asked_at = clock::now();
  const time_point until = std::min(asked_at + settings_.times.queue, deadline_);
  const std::stop_token stop = stop_.get_token();
  const bool first = c.tries == 0;
  if (first) queueing_ = true;
  auto got = co_await desk_.acquire(call_.where, wanted, until, stop);
  if (first) queueing_ = false;
  if (got) wake_all();  // the next one's turn
  observer_.on_queue_wait(clock::now() - asked_at);
  if (call_.record.attempts == 0) call_.record.queued = milliseconds_since(asked_at);
  if (over()) co_return false;
  if (!got) {
    const error why = got.error();
    co_return without_permit(c, why);
  }
  permit held = std::move(*got);
  if (std::find(refused_.begin(), refused_.end(), held.phone()->id) != refused_.end()) {
    pending_.push_front(&c);  // it has said so while this one stood in the queue
    co_return true;
  }
  co_await try_on(c, held);
  co_return true;
}

/// True if a phone that is not known to refuse may have the model, even if it is not to be had now.
bool embeddings_work::others_left() {
  const auto fleet = desk_.targets();
  return std::any_of(fleet.begin(), fleet.end(), [&](const auto& p) {
    const auto is_in = [&](const auto& list) {
      return std::find(list.begin(), list.end(), p->id) != list.end();
    };
    const bool fits = p->engine == engine_kind::unknown || (request_.engines & mask_of(p->engine)) != 0;
    return fits && may_have(*p, request_.model) && !is_in(refused_) && !is_in(known_);
  });
}

/// Nobody can take the chunk now. False: it has to wait for those that are under way.
bool embeddings_work::without_permit(chunk& c, const error& why) {
  if (clock::now() >= deadline_) {
    fail({errc::deadline, "the answer took too long"});
    return true;
  }
  const bool only_refusers = why.code == errc::no_phone && !others_left();
  if (only_refusers && !known_.empty()) {
    known_.clear();  // they may have changed their mind: nobody else is there
    pending_.push_front(&c);
    return true;
  }
  const bool never = why.code == errc::model_not_found || why.code == errc::unsupported;
  const bool last = why.code == errc::no_phone && (only_refusers || c.tries > 0);
  if (!never && !last && !tries_.empty()) {  // when one of them ends, there will be room
    pending_.push_front(&c);
    return false;
  }
  if (c.tries > 0) {
    fail(*c.last);  // tells more than that no other phone is left
  } else if (only_refusers && refusal_) {
    fail(*refusal_);
  } else {
    const bool named = why.code == errc::unsupported && !request_.why.empty();
    fail(named ? error(errc::unsupported, request_.why) : why);
  }
  return true;
}

// ---- the late ones

/// The one that has been at it for the longest, if nobody else is at the same.
embeddings_work::a_try* embeddings_work::latest() {
  a_try* found = nullptr;
  for (a_try& t : tries_) {
    const bool alone = t.of->running == 1 && !t.of->done;
    if (alone && (found == nullptr || t.since < found->since)) found = &t;
  }
  return found;
}

/// Returns when there is news, or something was done.
task<> embeddings_work::look_after_late(waker& news) {
  const a_try* slowest = latest();
  if (slowest == nullptr || times_.empty()) {
    co_await news.wait();
    co_return;
  }
  const auto middle = times_.begin() + static_cast<std::ptrdiff_t>(times_.size() / 2);
  std::nth_element(times_.begin(), middle, times_.end());
  const time_point due = slowest->since + std::max<duration>(late * *middle, least_late);
  if (clock::now() < due) {
    co_await news.wait(due);
    co_return;
  }
  chunk& c = *slowest->of;
  want wanted = wanted_for(c);
  wanted.which = turn::first;  // it overtakes nobody who waits
  wanted.avoid.push_back(slowest->phone);
  const std::stop_token stop = stop_.get_token();
  const time_point at_once = clock::now();
  auto got = co_await desk_.acquire(call_.where, wanted, at_once, stop);
  if (over() || c.done || c.running != 1) co_return;
  if (!got) {
    co_await news.wait(clock::now() + look_again);
    co_return;
  }
  permit held = std::move(*got);
  co_await try_on(c, held);
}

void embeddings_work::wake_all() {
  for (const auto& w : wakers_) w->wake();
}

void embeddings_work::abort_tries() {
  for (const a_try& t : tries_) t.exchange->abort();
}

void embeddings_work::fail(error why) {
  if (!failure_) failure_ = std::move(why);
  stop_.request_stop();
}

}  // namespace pocketfleet
