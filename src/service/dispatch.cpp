#include "pocketfleet/service/dispatch.hpp"

#include <algorithm>
#include <exception>

#include "attempt.hpp"
#include "pocketfleet/core/model_name.hpp"
#include "pocketfleet/engines/codec.hpp"
#include "pocketfleet/wire/cache_key.hpp"
#include "pocketfleet/wire/prefix_chain.hpp"
#include "runner.hpp"

namespace pocketfleet {
namespace {

milliseconds since(time_point then) {
  return std::chrono::duration_cast<milliseconds>(clock::now() - then);
}

/// What it will take, as far as the question tells.
void foresee(want& wanted, prompt_end& end, const question& q) {
  wanted.prefix = prefix_of(q, &end);
  if (!wanted.prefix.empty()) wanted.prompt_bytes = wanted.prefix.back().bytes;
  const auto limit = q.options.find("num_predict");
  if (limit == q.options.end() || !limit->is_number_integer() || *limit <= 0) return;
  wanted.answer_limit =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(limit->get<std::uint64_t>(), UINT32_MAX));
}

/// No phone that could be asked has an engine for it.
error incapable(const question& q, const std::string& why) {
  if (q.spoken == dialect::anthropic && why.empty())
    return error(
        errc::not_served,
        "no phone with that model speaks Anthropic's Messages API; llama-server and Ollama from 0.14 on do");
  return error(errc::unsupported, why);
}

}  // namespace

result<asked> dispatch::ask(const worker_context& worker, question q, const ask_manner& how) {
  auto j = std::make_shared<job>();
  j->began = clock::now();
  j->deadline = j->began + settings_.times.request;
  j->wanted.model = q.model.empty() ? std::string{} : normalized_model(q.model);
  j->wanted.vision = q.has_images;
  j->wanted.messages = q.spoken == dialect::anthropic;
  for (const auto kind : {engine_kind::ollama, engine_kind::llama_server}) {
    if (auto reason = engine_of(kind).cannot(q)) {
      j->wanted.engines &= static_cast<engine_mask>(~mask_of(kind));
      j->cannot = std::move(*reason);
    }
  }
  if (!j->cannot.empty() && (j->wanted.engines & desk_.engines(j->wanted.model)) == 0)
    return incapable(q, j->cannot);

  asked out;
  out.cacheable = caches(q, how.use_cache);
  if (out.cacheable) {
    // Who does not want an answer from two phones is not given somebody else's either.
    std::string scope = how.rescue ? "" : "one phone";
    if (!how.scope.empty()) scope.append("\n").append(how.scope);
    j->key = cache_key_of(q, scope);
    out.hit = answers_.hit(j->key);
    // Whether a question that only one engine can take is served at all depends on the fleet.
    if (out.hit && how.text != nullptr && j->cannot.empty()) answers_.note(*how.text, j->key);
    if (out.hit) return out;  // needs nothing of what follows
  }
  auto made = std::make_shared<generation>(worker.where, settings_.answer_bytes);
  const std::shared_ptr<waker> wake = how.wake ? how.wake : std::make_shared<waker>(worker.where);
  j->rescue = how.rescue;
  j->traceparent = how.traceparent;
  if (out.cacheable) {
    auto found = answers_.find(j->key, wake, how.each_piece, made);
    if (!found.mine) {
      out.hit = std::move(found.hit);
      out.joined = found.joined != nullptr;
      out.answer = std::move(found.joined);
      return out;
    }
    j->keep = true;
  }
  foresee(j->wanted, j->end, q);
  j->wanted.session = how.session;
  j->wanted.owner = how.owner;
  j->wanted.how_soon = how.how_soon;
  j->what = std::move(q);
  out.answer = made->join(wake, how.each_piece);
  asio::co_spawn(worker.where, produce(std::move(made), *worker.phones, std::move(j)), asio::detached);
  return out;
}

std::string dispatch::stand_in(const std::string& model) {
  return model.empty() ? std::string{} : desk_.stand_in(normalized_model(model));
}

/// A client of the other dialects expects a fresh answer unless it has asked for the same one.
bool dispatch::caches(const question& q, bool use_cache) const {
  switch (settings_.caching) {
    case cache_mode::everywhere: return use_cache;
    case cache_mode::always: return use_cache && (q.spoken == dialect::ask || is_deterministic(q));
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

/// Tries until there is an answer or nothing left to try; what the next try is, after_failure() says.
task<result<void>> dispatch::attempts(generation& g, phone_client& phones, const job& j) {
  want wanted = j.wanted;
  story so_far;
  const retry_limits limits{settings_.attempts, j.rescue ? settings_.rescues : 0};
  const std::stop_token stop = g.stop_token();
  const runner_maker start = [&](permit on) {
    g.update(phase::connecting, on.phone()->name, ++so_far.number);
    return std::make_unique<runner>(std::move(on), g, phones, j.what, settings_.times, j.deadline, observer_,
                                    j.traceparent);
  };
  for (;;) {
    const time_point asked_at = clock::now();
    const time_point until = std::min(asked_at + settings_.times.queue, j.deadline);
    auto got = co_await desk_.acquire(g.where(), wanted, until, stop);
    so_far.queued += since(asked_at);
    observer_.on_queue_wait(clock::now() - asked_at);
    g.waited(so_far.queued);
    if (!got) {
      const bool known_why = !j.cannot.empty() || wanted.messages;
      if (so_far.number == 0 && got.error().code == errc::unsupported && known_why && !wanted.vision)
        co_return incapable(j.what, j.cannot);
      if (so_far.number == 0 || got.error().code == errc::aborted) co_return got.error();
      if (so_far.begun && !g.shown() && g.restart()) {  // any model may answer what nobody has seen
        observer_.on_rescue("no_phone");
        begin_anew(wanted, so_far, j);
        continue;
      }
      if (so_far.brought && got.error().code == errc::no_phone && !wanted.avoid.empty()) {
        wanted.avoid.clear();  // all others are gone; one that broke off after a part may be back
        continue;
      }
      if (so_far.begun) observer_.on_rescue("no_phone");
      co_return so_far.last;  // tells more than that no other phone is left
    }
    permit held_first = std::move(*got);
    if (stop.stop_requested()) co_return error(errc::aborted);
    const std::size_t before = g.pieces();
    auto running = start(std::move(held_first));
    if (so_far.begun)
      running->one.go_on_from(*so_far.begun, *name_of(*running->held.phone(), wanted.identity));
    running = co_await run_hedged(std::move(running), wanted, start);
    permit& held = running->held;
    attempt& one = running->one;
    const attempt_result& a = running->result;
    const time_point began = running->began;
    const bool progressed = g.pieces() > before;
    note(so_far, g, j, held, a, began, progressed);
    if (a.how) {
      finish(g, a, so_far, j);
      co_await one.read_rest();
      co_return result<void>{};
    }
    if (stop.stop_requested()) co_return error(errc::aborted);
    if (clock::now() >= j.deadline) co_return error(errc::deadline, "the answer took too long");
    if (so_far.begun && a.how.error().code == errc::unsupported) {
      if (g.restart()) {
        begin_anew(wanted, so_far, j);
      } else if (so_far.tries < limits.attempts) {
        wanted.avoid.push_back(held.phone()->id);  // another may know how
      } else {
        co_return so_far.last;  // of the phone that broke off
      }
      continue;
    }
    so_far.last = a.how.error();
    so_far.brought = so_far.brought || progressed;
    if (progressed && g.shown()) so_far.tries = 0;
    begun_answer begun = g.begun();
    const std::string_view identity = wanted.identity.empty() ? identity_of(*held.phone(), wanted.model)
                                                              : std::string_view(wanted.identity);
    const bool can_resume = !begun.text.empty() && !begun.other && !identity.empty() &&
                            engine_of(held.phone()->engine).can_resume(j.what);
    const failed_attempt failed{.code = so_far.last.code,
                                .pieces = g.pieces(),
                                .shown = g.shown(),
                                .can_resume = can_resume,
                                .resumed = so_far.begun.has_value() && !progressed,
                                .tries = so_far.tries,
                                .phone_errors = so_far.phone_errors,
                                .rescues = so_far.rescues};
    const next_step next = after_failure(failed, limits);
    if (next == next_step::give_up) {
      if (failed.shown && failed.pieces > 0 && retryable(failed.code)) observer_.on_rescue("impossible");
      co_return so_far.last;
    }
    wanted.avoid.push_back(held.phone()->id);
    if (next == next_step::rescue) {
      wanted.identity = std::string(identity);
      // Who waits for the whole answer is better served by any phone at all than by waiting for the right
      // one.
      wanted.which = failed.shown ? turn::rescue : turn::retry;
      if (progressed) so_far.tries = 0;
      so_far.spoke += a.spoke;
      so_far.begun = std::move(begun);
    } else if (g.restart()) {
      observer_.on_retry(to_string(so_far.last.code));
      begin_anew(wanted, so_far, j);
    } else {
      co_return so_far.last;  // a client has joined in the meantime and seen what there was
    }
  }
}

/// The next try is from the beginning.
void dispatch::begin_anew(want& wanted, story& so_far, const job& j) {
  wanted.identity.clear();
  wanted.model = j.wanted.model;
  wanted.which = turn::retry;
  so_far.begun.reset();
  so_far.spoke = {};
}

/// An attempt is over: what follows for its phone, and for the books.
void dispatch::note(story& so_far, generation& g, const job& j, permit& held, const attempt_result& a,
                    time_point began, bool progressed) {
  const errc code = a.how ? errc{} : a.how.error().code;
  ++so_far.tries;
  if (!a.how && code == errc::phone_error) ++so_far.phone_errors;
  // The same request that made one phone fail says little about the second.
  const bool again = code == errc::phone_error && so_far.phone_errors > 1;
  const usage& c = a.counts;
  prefix_chain holds;
  if (a.how && held.foreseen()) {
    holds = g.look([&](const answer& said, const generation_state&) {
      return prefix_with(j.wanted.prefix, j.end, said);
    });
  }
  held.settle(a.how ? verdict::success : again ? verdict::neutral : verdict_of(code), measured_in(a), holds);
  attempt_record r{held.phone()->name, a.how ? "ok" : to_string(code),
                   a.first_token,      clock::now() - began,
                   c.prompt_tokens,    c.answer_tokens,
                   c.answer_time};
  r.cached_tokens = c.cached_tokens;
  if (held.foreseen()) r.thought_cached = held.thought_cached(c.prompt_tokens);
  observer_.on_attempt(r);
  if (!so_far.begun) return;
  if (a.how || progressed) {
    g.rescued(++so_far.rescues);
    observer_.on_rescue("ok");
  } else if (code != errc::aborted) {
    observer_.on_rescue(code == errc::unsupported ? "impossible" : "failed");
  }
}

void dispatch::finish(generation& g, const attempt_result& a, const story& so_far, const job& j) {
  usage counts = a.counts;
  if (so_far.begun) {  // what the last phone took for its prompt was in part the answer
    counts.prompt_tokens -= std::min(a.tokens_before, counts.prompt_tokens);
    counts.answer_tokens += a.tokens_before + so_far.begun->reasoning;
    counts.answer_time += so_far.spoke;
  }
  g.complete(a.done_reason, counts, a.more);
  // Kept before anybody is told: who asks again at once finds it.
  if (j.keep) answers_.store(j.key, g.shared_from_this());
  g.announce();
}

}  // namespace pocketfleet
