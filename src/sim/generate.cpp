#include "generate.hpp"

#include <algorithm>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

#include "engine.hpp"

namespace pocketfleet::sim {

namespace asio = boost::asio;

namespace {

/// 2 MiB of one JSON string.
std::string huge_string() {
  std::string text(std::size_t{2} << 20U, 'x');
  text.front() = text.back() = '"';
  return text;
}

constexpr std::size_t most_unsent = std::size_t{32} << 10U;
constexpr duration ahead =
    milliseconds(1);  // tokens due this soon go out together, or fast phones would be timer-bound
constexpr duration slack =
    milliseconds(20);  // a client that stalls longer than this does not get a burst for it
constexpr std::size_t progress_step = 64;  // prompt tokens between two signs of progress

duration in_seconds(double value) {
  return std::chrono::duration_cast<duration>(std::chrono::duration<double>(std::min(value, 1e6)));
}

/// The run of one answer. Lives in its coroutine.
class run {
 public:
  run(connection& client, job what, voice& speaker)
      : client_(client),
        server_(client.server()),
        job_(std::move(what)),
        speaker_(speaker),
        shown_(server_.take_fault()),
        filter_(job_.stops) {
    tally_.prompt_tokens = job_.prompt_tokens;
  }

  asio::awaitable<void> whole();

 private:
  enum class next : std::uint8_t { go_on, ended, failed };

  asio::awaitable<bool> prefill();
  asio::awaitable<bool> decode();
  asio::awaitable<next> strike();
  asio::awaitable<bool> wait_for_token(time_point due);
  asio::awaitable<void> finish();
  asio::awaitable<void> fail_in_stream();
  asio::awaitable<void> stay_silent();
  asio::awaitable<bool> write();
  void say_token(std::uint64_t nth);
  std::string next_token(std::uint64_t nth, piece& out);
  void begin();
  void plan();
  bool due_now() const { return tally_.tokens >= std::min<std::uint64_t>(shown_.after_tokens, length_); }
  void cancelled() { ++server_.counters.cancelled; }
  void failed() { ++server_.counters.failed; }

  connection& client_;
  phone::server& server_;
  job job_;
  voice& speaker_;
  fault shown_;
  stop_filter filter_;
  tally tally_;
  std::uint64_t length_ = 0;          // tokens of this answer unless a stop string ends it
  std::vector<std::string> unshown_;  // tokens that no piece has stood for yet
  bool struck_ = false;
  time_point last_sent_{};
};

// How long the answer gets, and why it ends there.
void run::plan() {
  const std::uint64_t end = server_.settings.answer_tokens;
  const bool counts = job_.script.pieces.empty();
  const std::uint64_t numbers = end > job_.from ? end - job_.from : 0;
  const std::uint64_t left = job_.reasoning + (counts ? numbers : job_.script.pieces.size());
  tally_.limited = job_.limit && (counts || *job_.limit < left);
  length_ = tally_.limited ? *job_.limit : left;
  if (length_ > job_.room) {
    length_ = job_.room;
    tally_.limited = tally_.out_of_room = true;
  }
}

asio::awaitable<void> run::whole() {
  const time_point asked = clock::now();
  ++server_.counters.requests;
  plan();
  if (co_await fault_answers(client_, shown_)) {
    const bool harmless =
        shown_.kind == fault_kind::none || shown_.kind == fault_kind::hang || shown_.kind == fault_kind::slow;
    harmless ? cancelled() : failed();
    co_return;
  }
  {
    const ticket slot =
        co_await server_.slots.enter(client_.waits(), job_.model, job_.options, job_.keep, &job_.prompt);
    if (!slot) {
      cancelled();
      co_return;
    }
    tally_.slot = slot.slot();
    tally_.load = slot.load_time();
    auto& view = server_.slots.slot(slot.slot());
    view.prompt_tokens = job_.prompt_tokens;
    view.remain = static_cast<std::int64_t>(length_);

    if (!co_await prefill()) {
      cancelled();
      co_return;
    }
    if (!co_await decode()) co_return;
    tally_.total = clock::now() - asked;
  }
  co_await finish();
}

// The last token is read in any case: its answer is wanted.
asio::awaitable<bool> run::prefill() {
  const time_point begun = clock::now();
  std::vector<token_id>& cache = server_.slots.read_by(tally_.slot);
  const std::size_t most = job_.prompt_tokens - std::min<std::size_t>(job_.prompt_tokens, 1);
  if (server_.settings.prompt_cache) tally_.cached = std::min(common_prefix(cache, job_.prompt), most);
  cache.resize(tally_.cached);
  const std::size_t unread = job_.prompt_tokens - tally_.cached;
  const time_point end = begun + in_seconds(static_cast<double>(unread) / server_.prefill_rate(begun));
  const std::size_t steps = job_.stream ? unread / progress_step + 1 : 1;
  for (std::size_t step = 0; step <= steps; ++step) {
    const time_point at =
        begun + (end - begun) / static_cast<duration::rep>(steps) * static_cast<duration::rep>(step);
    if (at > clock::now() + ahead && !co_await client_.waits().sleep(at)) co_return false;
    if (!job_.stream || (shown_.kind != fault_kind::none && shown_.after_tokens == 0)) continue;
    const std::string event =
        speaker_.progress(tally_, tally_.cached + unread * step / steps, clock::now() - begun);
    if (event.empty()) continue;
    begin();
    client_.push(event);
    if (!co_await write()) co_return false;
  }
  tally_.prefill = clock::now() - begun;
  server_.prefilled += tally_.prefill;
  server_.counters.prompt_tokens += unread;
  server_.counters.cached_tokens += tally_.cached;
  cache = job_.prompt;
  co_return !client_.gone();
}

// Says the tokens, each when it is due. False: the answer is over already, and counted.
asio::awaitable<bool> run::decode() {
  const time_point begun = clock::now();
  const bool slow = shown_.kind == fault_kind::slow && shown_.times > 0;
  time_point now = begun;
  time_point due = begun;
  if (job_.stream && !job_.echo.empty()) {
    begin();
    piece again;
    again.text = job_.echo;
    again.first = true;
    client_.push(speaker_.say(again, tally_));
  }
  for (;;) {
    if (!struck_ && shown_.kind != fault_kind::none && due_now()) {
      const next then = co_await strike();
      if (then == next::ended) co_return true;
      if (then == next::failed) co_return false;
      now = clock::now();
    }
    if (tally_.tokens == length_ || filter_.hit()) break;
    due += in_seconds(1 / (server_.decode_rate(now) * (slow ? shown_.factor : 1)));
    if (due > now + ahead) {
      if (!co_await wait_for_token(due)) {
        cancelled();
        co_return false;
      }
      now = clock::now();
    } else if (client_.unsent() > most_unsent) {
      if (!co_await write()) {
        cancelled();
        co_return false;
      }
      now = clock::now();
    }
    due = std::max(due, now - slack);
    tally_.decode = std::max(now, due) - begun;
    say_token(tally_.tokens);
    ++server_.slots.slot(tally_.slot).decoded;
    --server_.slots.slot(tally_.slot).remain;
  }
  if (filter_.hit()) {
    tally_.limited = tally_.out_of_room = false;
    tally_.word = filter_.word();
  }
  if (!job_.prompt.empty() && job_.reasoning == 0) {
    std::vector<token_id>& cache = server_.slots.read_by(tally_.slot);
    cache.insert(cache.end(), tally_.ids.begin(), tally_.ids.end());
  }
  tally_.decode = clock::now() - begun;
  server_.decoded += tally_.decode;
  co_return true;
}

// The token's own text; `out` gets what of it is to be shown.
std::string run::next_token(std::uint64_t nth, piece& out) {
  if (nth < job_.reasoning) {
    out.part = part::reasoning;
    out.text = " t" + std::to_string(nth + 1);
    tally_.reasoning += out.text;
    return out.text;
  }
  const std::uint64_t at = nth - job_.reasoning;
  const auto& pieces = job_.script.pieces;
  if (job_.script.calls()) {
    out.part = part::call;
    out.text = pieces[at];
    tally_.arguments += out.text;
    tally_.called = at + 1 == pieces.size();
    return out.text;
  }
  std::string token = pieces.empty() ? ' ' + std::to_string(job_.from + at + 1) : pieces[at];
  if (pieces.empty()) {
    out.id = token_of_number(job_.from + at + 1);
    tally_.ids.push_back(out.id);
  } else {
    for (const token_id id : tokenize(token)) tally_.ids.push_back(out.id = id);
  }
  out.text = filter_.take(token);
  if (nth + 1 == length_) out.text += filter_.rest();
  tally_.text += out.text;
  return token;
}

void run::say_token(std::uint64_t nth) {
  ++tally_.tokens;
  ++server_.counters.tokens;
  piece out;
  out.first = nth == 0 && job_.echo.empty();
  std::string token = next_token(nth, out);
  if (job_.logprobs) {
    tally_.said.push_back(token);
    unshown_.push_back(std::move(token));
    if (!out.text.empty()) out.tokens = std::exchange(unshown_, {});
  }
  if (!job_.stream) return;
  begin();
  client_.push(speaker_.say(out, tally_));
}

asio::awaitable<bool> run::wait_for_token(time_point due) {
  if (!co_await write()) co_return false;
  const std::string ping = client_.begun() ? speaker_.ping() : std::string();
  while (!ping.empty() && last_sent_ + server_.settings.sse_ping < due) {
    const time_point next_ping = last_sent_ + server_.settings.sse_ping;
    if (!co_await client_.waits().sleep(next_ping)) co_return false;
    client_.push(ping);
    if (!co_await write()) co_return false;
  }
  co_return co_await client_.waits().sleep(due);
}

void run::begin() {
  if (!client_.begun()) client_.begin(speaker_.stream_type(), speaker_.stream_headers());
}

asio::awaitable<bool> run::write() {
  if (client_.unsent() != 0) last_sent_ = clock::now();
  co_return co_await client_.flush();
}

// The fault of this answer, at its token.
asio::awaitable<run::next> run::strike() {
  struck_ = true;
  const std::string_view half = "data: {\"cho";
  switch (shown_.kind) {
    case fault_kind::reset_after:
      co_await write();
      failed();
      client_.reset();
      co_return next::failed;
    case fault_kind::close_after:
      co_await write();
      failed();
      client_.close();
      co_return next::failed;
    case fault_kind::truncated:
      if (job_.stream) begin();
      client_.put_raw(job_.stream ? "200\r\n" : "HTTP/1.1 200 OK\r\nContent-Length: 512\r\n\r\n");
      client_.put_raw(half);
      co_await write();
      failed();
      client_.close();
      co_return next::failed;
    case fault_kind::silent_after: co_await stay_silent(); co_return next::failed;
    case fault_kind::error_in_stream: co_await fail_in_stream(); co_return next::failed;
    case fault_kind::end_without_done: tally_.done = false; co_return next::ended;
    case fault_kind::garbage:
    case fault_kind::huge_line:
      if (job_.stream) {
        begin();
        client_.push(shown_.kind == fault_kind::garbage ? speaker_.line("}{ this is no JSON \x01\xff")
                                                        : speaker_.line(huge_string()));
      }
      co_return next::go_on;
    default: co_return next::go_on;
  }
}

asio::awaitable<void> run::stay_silent() {
  bool here = co_await write();
  while (here) here = co_await client_.waits().nap(time_point::max());
  failed();
}

asio::awaitable<void> run::fail_in_stream() {
  failed();
  if (job_.stream && (client_.begun() || tally_.tokens != 0)) {
    begin();
    client_.push(speaker_.error_event());
    client_.end();
    client_.close_after_answer();
    co_await write();
    co_return;
  }
  std::string body = server_.speaks->error_body(client_.asked(), 500, "simulated failure of the engine");
  co_await client_.reply(500, speaker_.whole_type(), std::move(body));
}

asio::awaitable<void> run::finish() {
  if (!job_.stream) {
    if (shown_.kind == fault_kind::garbage) {
      co_await client_.reply(200, speaker_.whole_type(), "}{ this is no JSON");
    } else {
      co_await client_.reply(200, speaker_.whole_type(), speaker_.whole(tally_));
    }
  } else {
    begin();
    if (tally_.done) {
      for (const std::string& each : speaker_.finish(tally_)) client_.push(each);
    }
    client_.end();
    co_await write();
  }
  if (client_.gone()) {
    cancelled();
  } else if (tally_.done) {
    ++server_.counters.completed;
  } else {
    failed();
  }
}

}  // namespace

asio::awaitable<void> generate(connection& client, job what, voice& speaker) {
  run one(client, std::move(what), speaker);
  co_await one.whole();
}

}  // namespace pocketfleet::sim
