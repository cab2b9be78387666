#include "pocketfleet/service/serve.hpp"

#include <algorithm>
#include <optional>
#include <stop_token>

#include "ask_common.hpp"
#include "pocketfleet/service/wall_clock.hpp"
#include "pocketfleet/wire/prefix_chain.hpp"

namespace pocketfleet {
namespace {

/// One of the answers that a client waits for.
struct choice {
  explicit choice(asked what) : found(std::move(what)), over(found.hit != nullptr) {}

  const answer& whole() const { return found.hit ? found.hit->what : found.answer->of().whole(); }

  asked found;
  bool over;               // finished, well or not
  bool ended = false;      // and all of it is rendered
  std::size_t pieces = 0;  // rendered so far
  std::size_t bytes = 0;   // of text, in those
};

/// All the answers to one request. They share a waker, so that one coroutine can wait for all of them.
class waiting {
 public:
  waiting(http_call& call, dispatch& runner, serving& what, request_record& r)
      : call_(call),
        what_(what),
        record_(r),
        wake_(std::make_shared<waker>(call.where)),
        on_gone_(call.gone, wake_up{wake_.get()}) {
    if (what.known) {
      asked found;
      found.hit = what.known;
      choices_.emplace_back(std::move(found));
    }
    if (late()) return;
    const worker_context worker{call.where, call.phones};
    ask_manner how{what.use_cache, what.stream, what.rescue, wake_, call.traceparent};
    how.owner = owner_of(call);
    how.how_soon = what.patient || call.patient ? urgency::batch : urgency::interactive;
    // Several at once are best made side by side.
    if (what.choices.size() == 1) how.session = name_hash(what.session, how.owner);
    how.text = what.text;
    if (call.terms) {
      how.use_cache = how.use_cache && call.terms->cache != cache_scope::none;
      if (call.terms->cache == cache_scope::own) how.scope = call.terms->name;
    }
    for (question& q : what.choices) {
      if (auto allowed = choose_allowed(call, q.model); !allowed) {
        failed = allowed.error();
        return;
      }
      if (std::string other = runner.stand_in(q.model); !other.empty()) {
        stand_in_ = other;
        q.model = std::move(other);  // before the cache is asked: its answer is not the other model's
        how.text = nullptr;          // nor that of the next request of the same text
      }
      auto found = runner.ask(worker, std::move(q), how);
      if (!found) {
        failed = found.error();
        return;
      }
      choices_.emplace_back(std::move(*found));
    }
    r.joined = choices_.front().found.joined;
    r.cached =
        std::all_of(choices_.begin(), choices_.end(), [](const choice& c) { return c.found.hit != nullptr; });
    if (r.cached) r.phone = choices_.front().found.hit->phone;
  }

  /// Until something is new, the client's leaving too. False: nothing by `until`, or the client's time is
  /// over.
  task<bool> news(time_point until = time_point::max()) {
    return wake_->wait(std::min(until, call_.deadline));
  }

  /// The client's time is over, and not all is there: that is what becomes of it.
  bool late() {
    if (call_.deadline == time_point::max() || clock::now() < call_.deadline) return false;
    look();
    if (!choices_.empty() && over()) return false;
    failed = error(errc::deadline, "X-Request-Timeout: the answer took longer");
    return true;
  }

  /// Looks at those that are not over yet.
  void look() {
    for (choice& c : choices_) {
      if (c.over) continue;
      c.found.answer->of().look([&](const answer&, const generation_state& s) {
        c.over = s.finished;
        if (s.failed && !failed) failed = s.failed;
      });
    }
  }
  bool over() const {
    return failed || std::all_of(choices_.begin(), choices_.end(), [](const choice& c) { return c.over; });
  }

  /// Appends what is new to a stream; at the end, its end.
  void render(std::string& out) {
    for (std::size_t i = 0; i < choices_.size() && !failed; ++i) {
      choice& c = choices_[i];
      if (c.ended) continue;
      if (c.found.hit) {
        c.pieces = what_.form->pieces(out, c.found.hit->what, 0, i);
        what_.form->end_choice(out, c.found.hit->what, i, notes());
        c.ended = true;
        continue;
      }
      c.found.answer->of().look([&](const answer& a, const generation_state& s) {
        c.pieces = what_.form->pieces(out, a, c.pieces, i);
        c.bytes = c.pieces == 0 ? 0 : a.pieces[c.pieces - 1].end;
        c.over = s.finished;
        failed = s.failed;
        c.ended = c.over && !s.failed;
        if (c.ended) what_.form->end_choice(out, a, i, notes_of(s));
        if (call_.out->status() == 0) record_.phone = s.phone;
      });
    }
    if (over() && !failed) {
      const auto all = answers();
      what_.form->end(out, all, notes());
    }
  }

  /// What has been rendered is with the client, or is nothing that it gets before the end.
  void taken() {
    for (choice& c : choices_) {
      if (c.found.answer) c.found.answer->taken(c.bytes, c.pieces);
    }
  }

  void keep_alive(std::string& out) {
    answer empty;
    if (const choice& c = choices_.front(); c.found.answer) {
      c.found.answer->of().look([&](const answer& a, const generation_state&) {
        empty.model = a.model;
        empty.created_at = a.created_at;
      });
    }
    if (empty.created_at.empty()) empty.created_at = rfc3339_now();
    what_.form->keepalive(out, empty);
  }

  std::vector<const answer*> answers() const {
    std::vector<const answer*> all;
    all.reserve(choices_.size());
    for (const choice& c : choices_) all.push_back(&c.whole());
    return all;
  }

  /// Of all choices together.
  answer_notes notes() const {
    if (choices_.empty()) return {};
    const choice& c = choices_.front();
    if (c.found.hit)
      return {c.found.hit->phone, true, 0, 0, milliseconds{0}, clock::now() - call_.began, stand_in_};
    return notes_of(c.found.answer->of().state());
  }

  /// Into the books.
  void note() {
    for (choice& c : choices_) {
      if (c.found.hit) continue;
      c.found.answer->of().look([&](const answer& a, const generation_state& s) {
        record_.at = s.at;
        record_.phone = s.phone;
        record_.attempts += s.attempts;
        record_.rescues += s.rescues;
        record_.queued = std::max(record_.queued, s.queued);
        record_.prompt_tokens += a.counts.prompt_tokens;
        record_.answer_tokens += a.counts.answer_tokens;
      });
    }
  }

  header_list headers() const {
    header_list all = what_.headers;
    if (choices_.empty()) return all;
    all.emplace_back("X-Cache", record_.cached                     ? "hit"
                                : choices_.front().found.cacheable ? "miss"
                                                                   : "bypass");
    if (!record_.phone.empty()) all.emplace_back("X-Phone", record_.phone);
    if (!stand_in_.empty()) all.emplace_back("X-Stand-In", stand_in_);
    return all;
  }

  std::optional<error> failed{};

 private:
  answer_notes notes_of(const generation_state& s) const {
    phone_ = s.phone;
    return {phone_, false, s.attempts, s.rescues, s.queued, clock::now() - call_.began, stand_in_};
  }

  struct wake_up {
    waker* who;
    void operator()() const { who->wake(); }
  };

  http_call& call_;
  serving& what_;
  request_record& record_;
  const std::shared_ptr<waker> wake_;
  const std::stop_callback<wake_up> on_gone_;
  std::vector<choice> choices_;
  std::string stand_in_;       // the model that answers, if it is not the one that was asked for
  mutable std::string phone_;  // what the notes given out last refer to
};

task<> tell(http_call& call, const error& why, header_list headers) {
  if (!call.gone.stop_requested()) co_await call.out->fail(why, std::move(headers));
}

task<> serve_stream(http_call& call, dispatch& runner, serving& what, milliseconds keepalive) {
  waiting answers(call, runner, what, call.record);
  std::string text;
  time_point silent_since = call.began;
  while (!call.gone.stop_requested()) {
    text.clear();
    answers.render(text);
    if (!text.empty()) {
      if (call.record.first_token == milliseconds{0} && !call.record.cached)
        call.record.first_token = std::max(milliseconds{1}, milliseconds_since(call.began));
      if (call.out->status() == 0) call.out->begin(200, what.form->stream_type(), answers.headers());
    }
    if (answers.over()) break;
    if (!text.empty()) {
      if (!co_await call.out->write(text)) break;
      silent_since = clock::now();
    }
    answers.taken();
    while (!co_await answers.news(silent_since + keepalive) && !answers.late()) {
      text.clear();
      answers.keep_alive(text);
      if (call.out->status() == 0) call.out->begin(200, what.form->stream_type(), answers.headers());
      if (!co_await call.out->write(text)) break;
      silent_since = clock::now();
    }
    answers.late();
  }
  answers.note();
  if (call.gone.stop_requested() || !answers.over()) co_return;
  if (!answers.failed) {
    co_await call.out->end(text);
  } else if (call.out->status() == 0) {  // nothing is out yet: it can still be said properly
    const error why = *answers.failed;
    co_await tell(call, why, answers.headers());
  } else {
    call.record.outcome = to_string(answers.failed->code);
    what.form->failed(text, *answers.failed);
    co_await call.out->write(text);
    call.out->cut();
  }
}

}  // namespace

task<result<std::string>> whole_answer(http_call& call, dispatch& runner, serving& what, request_record& r) {
  waiting answers(call, runner, what, r);
  for (answers.look(); !answers.over() && !call.gone.stop_requested(); answers.look()) {
    const bool news = co_await answers.news();
    if (!news) answers.late();
  }
  answers.note();
  what.headers = answers.headers();
  if (answers.failed) co_return *answers.failed;
  if (call.gone.stop_requested()) co_return error(errc::client_gone);
  const auto all = answers.answers();
  co_return what.form->whole(all, answers.notes());
}

task<> serve(http_call& call, dispatch& runner, serving& what, milliseconds keepalive) {
  if (what.stream) {
    co_await serve_stream(call, runner, what, keepalive);
    co_return;
  }
  auto body = co_await whole_answer(call, runner, what, call.record);
  if (!body) {
    const error why = body.error();
    co_await tell(call, why, std::move(what.headers));
  } else if (!call.gone.stop_requested()) {
    co_await call.out->send(200, json_type, std::move(*body), std::move(what.headers));
  }
}

}  // namespace pocketfleet
