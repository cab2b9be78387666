// /ask and /ask_stream.
#include "pocketfleet/service/ask_api.hpp"

#include "ask_common.hpp"
#include "pocketfleet/service/wall_clock.hpp"

namespace pocketfleet {

std::vector<route> ask_api::routes() {
  return {
      {"/ask", "POST", [this](http_call& call) { return ask(call); }},
      {"/ask_stream", "POST", [this](http_call& call) { return ask_stream(call); }},
      {"/ask_batch", "POST", [this](http_call& call) { return ask_batch(call); }},
      {"/health", "GET", [this](http_call& call) { return health(call); }},
      {"/warmup", "POST", [this](http_call& call) { return warm_up(call); }},
  };
}

task<> refuse(http_call& call, const error& why, header_list headers) {
  if (call.gone.stop_requested()) co_return;
  co_await call.out->fail(why, std::move(headers));
}

namespace {

header_list headers_of(const asked& found, std::string_view phone) {
  header_list headers{{"X-Cache", found.hit ? "hit" : found.cacheable ? "miss" : "bypass"}};
  if (!phone.empty()) headers.emplace_back("X-Phone", phone);
  return headers;
}

answer_notes notes_of(const http_call& call, const generation_state& s) {
  return {s.phone, false, s.attempts, s.rescues, s.queued, clock::now() - call.began};
}

answer_notes notes_of(const http_call& call, const kept_answer& kept) {
  return {kept.phone, true, 0, 0, milliseconds{0}, clock::now() - call.began};
}

void note(request_record& r, const answer& a, const generation_state& s) {
  r.at = s.at;
  r.phone = s.phone;
  r.attempts += s.attempts;
  r.rescues += s.rescues;
  r.queued = std::max(r.queued, s.queued);
  r.prompt_tokens += a.counts.prompt_tokens;
  r.answer_tokens += a.counts.answer_tokens;
}

}  // namespace

// ---- whole

task<> ask_api::ask(http_call& call) {
  auto request = parse_ask(call.body, rules(false));
  if (!request) {
    const error why = request.error();
    co_await refuse(call, why);
    co_return;
  }
  asked found;
  auto body = co_await whole_answer(call, *request, call.record, found);
  header_list headers = headers_of(found, call.record.phone);
  if (!body) {
    const error why = body.error();
    co_await refuse(call, why, std::move(headers));
  } else if (!call.gone.stop_requested()) {
    co_await call.out->send(200, json_type, std::move(*body), std::move(headers));
  }
}

/// The rendered answer; takes the question out of the request; `found` tells how it came about, `r` gets what
/// the books want to know.
task<result<std::string>> ask_api::whole_answer(http_call& call, ask_request& request, request_record& r,
                                                asked& found) {
  const worker_context worker{call.where, call.phones};
  const ask_manner how{request.use_cache, false, request.rescue};
  auto begun = dispatch_.ask(worker, std::move(request.what), how);
  if (!begun) co_return begun.error();
  found = std::move(*begun);
  r.joined = found.joined;
  if (found.hit) {
    r.cached = true;
    r.phone = found.hit->phone;
    co_return render_answer(found.hit->what, notes_of(call, *found.hit));
  }
  generation& g = found.answer->of();
  const auto finished = [](const answer&, const generation_state& s) { return s.finished; };
  while (!g.look(finished) && !call.gone.stop_requested()) co_await found.answer->changed(call.gone);
  result<std::string> body = error(errc::client_gone);
  g.look([&](const answer& a, const generation_state& s) {
    note(r, a, s);
    if (s.failed) {
      body = *s.failed;
    } else if (s.finished) {
      body = render_answer(a, notes_of(call, s));
    }
  });
  co_return body;
}

// ---- streamed

task<> ask_api::ask_stream(http_call& call) {
  auto request = parse_ask(call.body, rules(true));
  if (!request) {
    const error why = request.error();
    co_await refuse(call, why);
    co_return;
  }
  const worker_context worker{call.where, call.phones};
  const ask_manner how{request->use_cache, true, request->rescue};
  auto found = dispatch_.ask(worker, std::move(request->what), how);
  if (!found) {
    const error why = found.error();
    co_await refuse(call, why);
  } else if (found->hit) {
    co_await replay(call, *found);
  } else {
    co_await stream_answer(call, *found);
  }
}

task<> ask_api::replay(http_call& call, const asked& found) {
  call.record.cached = true;
  call.record.phone = found.hit->phone;
  std::string lines;
  render_pieces(lines, found.hit->what, 0);
  render_end(lines, found.hit->what, notes_of(call, *found.hit));
  call.out->begin(200, ndjson_type, headers_of(found, found.hit->phone));
  co_await call.out->end(lines);
}

/// False: the client is gone.
task<bool> ask_api::keep_alive(http_call& call, listener& answer_there, header_list headers) {
  std::string line;
  answer_there.of().look([&](const answer& a, const generation_state&) {
    answer empty{a.model, a.created_at.empty() ? rfc3339_now() : a.created_at, {}};
    render_keepalive(line, empty);
  });
  if (call.out->status() == 0) call.out->begin(200, ndjson_type, std::move(headers));
  co_return co_await call.out->write(line);
}

task<> ask_api::stream_answer(http_call& call, asked& found) {
  generation& g = found.answer->of();
  std::string lines;
  time_point silent_since = call.began;
  std::size_t pieces = 0;  // rendered so far
  std::size_t bytes = 0;   // of text, in those
  bool finished = false;
  std::optional<error> failed;
  const auto render = [&](const answer& a, const generation_state& s) {
    pieces = render_pieces(lines, a, pieces);
    bytes = a.text.size();
    finished = s.finished;
    failed = s.failed;
    if (finished && !failed) render_end(lines, a, notes_of(call, s));
    if (call.out->status() == 0) call.record.phone = s.phone;
  };
  call.record.joined = found.joined;
  while (!call.gone.stop_requested()) {
    lines.clear();
    g.look(render);
    if (!lines.empty() && call.record.first_token == milliseconds{0})
      call.record.first_token = std::max(milliseconds{1}, milliseconds_since(call.began));
    if (!lines.empty() && call.out->status() == 0) {
      call.out->begin(200, ndjson_type, headers_of(found, call.record.phone));
    }
    if (finished) break;
    if (!lines.empty()) {
      if (!co_await call.out->write(lines)) break;
      found.answer->taken(bytes, pieces);
      silent_since = clock::now();
    }
    while (!co_await found.answer->changed(call.gone, silent_since + settings_.times.keepalive)) {
      if (!co_await keep_alive(call, *found.answer, headers_of(found, {}))) break;
      silent_since = clock::now();
    }
  }
  g.look([&](const answer& a, const generation_state& s) { note(call.record, a, s); });
  if (call.gone.stop_requested() || !finished) co_return;
  if (!failed) {
    co_await call.out->end(lines);
  } else if (call.out->status() == 0) {  // nothing is out yet: it can still be said properly
    header_list headers = headers_of(found, call.record.phone);
    co_await refuse(call, *failed, std::move(headers));
  } else {
    call.record.outcome = to_string(failed->code);
    lines += render_error(failed->message) + '\n';
    co_await call.out->write(lines);
    call.out->cut();
  }
}

}  // namespace pocketfleet
