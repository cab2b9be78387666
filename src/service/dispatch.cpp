#include "pocketfleet/service/dispatch.hpp"

#include <algorithm>
#include <exception>

#include "pocketfleet/core/model_name.hpp"
#include "pocketfleet/engines/codec.hpp"
#include "pocketfleet/service/wall_clock.hpp"
#include "pocketfleet/wire/cache_key.hpp"

namespace pocketfleet {
namespace {

constexpr std::size_t error_body_bytes = std::size_t{64} << 10U;
constexpr seconds rest_of_body{
    1};  // how long a finished answer's last bytes may take before the connection is closed

milliseconds since(time_point then) {
  return std::chrono::duration_cast<milliseconds>(clock::now() - then);
}

/// Puts what the decoder reads into the generation.
class pen final : public answer_sink {
 public:
  explicit pen(generation& g) : generation_(g) {}

  void on_text(piece_kind kind, std::string_view text) override {
    wrote_ = true;
    overflow_ = !generation_.append(kind, text) || overflow_;
  }
  void on_progress() override { progress_ = true; }

  bool wrote() { return std::exchange(wrote_, false); }
  bool progress() { return std::exchange(progress_, false); }
  bool overflow() const { return overflow_; }

 private:
  generation& generation_;
  bool wrote_ = false;
  bool progress_ = false;
  bool overflow_ = false;
};

}  // namespace

result<asked> dispatch::ask(const worker_context& worker, question q, bool use_cache, bool each_piece) {
  auto j = std::make_shared<job>();
  j->began = clock::now();
  j->deadline = j->began + settings_.times.request;
  j->wanted.model = q.model.empty() ? std::string{} : normalized_model(q.model);
  j->wanted.vision = q.has_images;
  std::string why;
  for (const auto kind : {engine_kind::ollama, engine_kind::llama_server}) {
    if (auto reason = engine_of(kind).cannot(q)) {
      j->wanted.engines &= static_cast<engine_mask>(~mask_of(kind));
      why = std::move(*reason);
    }
  }
  if (!why.empty() && (j->wanted.engines & desk_.engines()) == 0)
    return error(errc::unsupported, std::move(why));

  asked out;
  auto made = std::make_shared<generation>(worker.where, settings_.answer_bytes);
  out.cacheable = caches(q, use_cache);
  if (out.cacheable) {
    j->key = cache_key_of(q);
    auto found = answers_.find(j->key, worker.where, each_piece, made);
    if (!found.mine) {
      out.hit = std::move(found.hit);
      out.joined = found.joined != nullptr;
      out.answer = std::move(found.joined);
      return out;
    }
    j->keep = true;
  }
  j->what = std::move(q);
  out.answer = made->join(worker.where, each_piece);
  asio::co_spawn(worker.where, produce(std::move(made), *worker.phones, std::move(j)), asio::detached);
  return out;
}

bool dispatch::caches(const question& q, bool use_cache) const {
  switch (settings_.caching) {
    case cache_mode::always: return use_cache;
    case cache_mode::deterministic: return use_cache && is_deterministic(q);
    case cache_mode::never: break;
  }
  return false;
}

/// The life of a generation; runs on its own, so that no client's leaving can break it off half-way in the
/// books.
task<> dispatch::produce(std::shared_ptr<generation> g, phone_client& phones, std::shared_ptr<const job> j) {
  result<void> how = error(errc::aborted);
  try {
    const std::stop_callback on_shutdown(shutdown_.get_token(), [&g] { g->stop(); });
    how = co_await attempts(*g, phones, *j);
  } catch (const std::exception&) {  // out of memory: this request ends, the process goes on
    how = error(errc::overloaded, "the gateway is out of memory");
  }
  if (how) co_return;  // told by finish()
  if (j->keep) answers_.forget(j->key, g);
  error why = how.error();
  if (why.code == errc::aborted && shutdown_.stop_requested())
    why = {errc::shutting_down, "the gateway is going down"};
  g->fail(std::move(why));
  g->announce();
}

task<result<void>> dispatch::attempts(generation& g, phone_client& phones, const job& j) {
  want wanted = j.wanted;
  error last;
  milliseconds queued{0};
  std::optional<retry_place> retry;
  const std::stop_token stop = g.stop_token();
  for (unsigned number = 1;; ++number) {
    const time_point asked_at = clock::now();
    const time_point until = std::min(asked_at + settings_.times.queue, j.deadline);
    auto got = co_await desk_.acquire(g.where(), wanted, until, stop);
    queued += since(asked_at);
    observer_.on_queue_wait(clock::now() - asked_at);
    g.waited(queued);
    if (!got) {
      if (number == 1 || got.error().code == errc::aborted) co_return got.error();
      co_return last;  // the phone's failure tells the client more than that no other phone is left
    }
    permit held = std::move(*got);
    if (stop.stop_requested()) co_return error(errc::aborted);
    const std::shared_ptr<const phone_target> phone = held.phone();
    g.update(phase::connecting, phone->name, number);

    const time_point began = clock::now();
    std::unique_ptr<phone_exchange> exchange = phones.open(phone);
    attempt_result a = co_await attempt(g, *exchange, *phone, j);
    const errc code = a.how ? errc{} : a.how.error().code;
    held.settle(a.how ? verdict::success : verdict_of(code));
    retry.reset();
    observer_.on_attempt({phone->name, a.how ? "ok" : to_string(code), a.first_token, clock::now() - began,
                          a.counts.prompt_tokens, a.counts.answer_tokens, a.counts.answer_time});
    if (a.how) {
      finish(g, a, j);
      // The answer is out; what is left of the body is read so that the connection can be used again.
      const time_point enough = clock::now() + rest_of_body;
      for (;;) {
        const auto rest = co_await exchange->read(enough);
        if (!rest || rest->empty()) break;
      }
      co_return result<void>{};
    }
    last = a.how.error();
    if (stop.stop_requested()) co_return error(errc::aborted);
    if (clock::now() >= j.deadline) co_return error(errc::deadline, "the answer took too long");
    if (!retryable(code) || number >= settings_.attempts || !g.restart()) co_return last;
    retry = desk_.take_retry();
    if (!retry) co_return last;
    observer_.on_retry(to_string(code));
    wanted.avoid.push_back(phone->id);
  }
}

void dispatch::finish(generation& g, const attempt_result& a, const job& j) {
  g.complete(a.done_reason, a.counts);
  // Kept before anybody is told: who asks again at once finds it.
  if (j.keep) answers_.store(j.key, g.shared_from_this());
  g.announce();
}

milliseconds dispatch::first_token_limit(const phone_target& phone, const question& q) const {
  if (!phone.loads_on_demand) return settings_.times.first_token;
  const std::string model = normalized_model(q.model.empty() ? phone.model : q.model);
  const bool loaded = std::find(phone.loaded.begin(), phone.loaded.end(), model) != phone.loaded.end();
  return loaded ? settings_.times.first_token : settings_.times.first_token_loading;
}

task<dispatch::attempt_result> dispatch::attempt(generation& g, phone_exchange& exchange,
                                                 const phone_target& phone, const job& j) {
  const std::stop_callback on_stop(g.stop_token(), [&exchange] { exchange.abort(); });
  const engine& codec = engine_of(phone.engine);
  const phone_request request = codec.encode(j.what, phone.model);
  const milliseconds patience = first_token_limit(phone, j.what);
  const time_point sent = clock::now();
  time_point deadline = std::min(sent + patience, j.deadline);
  attempt_result out{error(errc::aborted)};

  if (auto there = co_await exchange.connect(deadline); !there) {
    out.how = there.error();
    co_return out;
  }
  g.advance(phase::waiting);
  auto head = co_await exchange.send(request.method, request.target, request.body, deadline);
  if (!head) {
    out.how = head.error();
    co_return out;
  }
  if (head->status != 200) {
    std::string body;
    while (body.size() < error_body_bytes) {
      const auto more = co_await exchange.read(deadline);
      if (!more || more->empty()) break;
      body.append(*more);
    }
    out.how = phone_failure(head->status, body);
    co_return out;
  }
  g.begin(j.what.model.empty() ? phone.model : j.what.model, rfc3339_now());
  const std::unique_ptr<answer_decoder> decoder = codec.decoder();
  pen writer(g);
  bool any = false;
  while (!decoder->done()) {
    if (g.crowded()) {  // the clients read too slowly; that is no silence of the phone's
      const time_point stalled = clock::now();
      co_await g.wait_for_room();
      deadline = std::min(deadline + (clock::now() - stalled), j.deadline);
    }
    const auto bytes = co_await exchange.read(deadline);
    if (!bytes) {
      const bool silent = bytes.error().code == errc::stalled;
      out.how = silent && clock::now() >= j.deadline ? error(errc::deadline, "the answer took too long")
                : silent && !any ? error(errc::first_token_timeout, "the phone gave no first token in time")
                                 : bytes.error();
      co_return out;
    }
    const auto read = bytes->empty() ? decoder->finish(writer) : decoder->feed(*bytes, writer);
    if (writer.wrote()) {
      if (!any) out.first_token = clock::now() - sent;
      any = true;
      if (!decoder->done()) g.announce();
      deadline = std::min(clock::now() + settings_.times.between_tokens, j.deadline);
    } else if (writer.progress() && !any) {
      deadline = std::min(clock::now() + patience, j.deadline);
    }
    if (!read) {
      out.how = read.error();
      co_return out;
    }
    if (writer.overflow()) {
      out.how = error(errc::too_large, "the answer is too long");
      co_return out;
    }
  }
  out.how = result<void>{};
  out.done_reason = decoder->done_reason;
  out.counts = decoder->counts;
  co_return out;
}

}  // namespace pocketfleet
