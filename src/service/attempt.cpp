#include "attempt.hpp"

#include <algorithm>

#include "page.hpp"
#include "pocketfleet/core/model_name.hpp"
#include "pocketfleet/service/wall_clock.hpp"
#include "pocketfleet/wire/stop_seam.hpp"

namespace pocketfleet {
namespace {

constexpr std::size_t error_body_bytes = std::size_t{64} << 10U;
constexpr seconds rest_of_body{1};  // how long a finished answer's last bytes may take before it is closed

/// Puts what the decoder reads into the generation.
class pen final : public answer_sink {
 public:
  pen(attempt& by, generation& g, const json& stops, std::string_view before)
      : by_(by), generation_(g), seam_(stops, before) {}

  void on_text(piece_kind kind, std::string_view text) override {
    ++heard_;
    if (kind == piece_kind::content) {
      put(kind, seam_.take(text));
    } else {
      put(kind, text);
    }
  }
  void on_progress() override { progress_ = true; }

  /// The phone has ended its answer.
  void end() { put(piece_kind::content, seam_.rest()); }

  /// Pieces since it was last asked.
  std::size_t heard() { return std::exchange(heard_, 0); }
  bool progress() { return std::exchange(progress_, false); }
  bool overflow() const { return overflow_; }
  bool stopped() const { return seam_.hit(); }

 private:
  void put(piece_kind kind, std::string_view text) {
    if (!text.empty() && by_.claim()) overflow_ = !generation_.append(kind, text) || overflow_;
  }

  attempt& by_;
  generation& generation_;
  stop_seam seam_;
  std::size_t heard_ = 0;
  bool progress_ = false;
  bool overflow_ = false;
};

std::uint64_t bytes_of(const question& q) {
  std::uint64_t all = q.prompt.size();
  for (const auto& m : q.messages) all += m.at("content").get_ref<const std::string&>().size();
  return all;
}

}  // namespace

measured measured_in(const attempt_result& a) {
  const usage& c = a.counts;
  measured m{c.prompt_tokens, c.answer_tokens, c.prompt_time, c.answer_time, c.cached_tokens, c.load_time};
  if (a.how) m.first_token = a.first_token;
  if (!a.how || c.prompt_time > nanoseconds{0} || c.answer_time > nanoseconds{0}) return m;
  // Text that comes at once, as a call of a tool may, shows nothing of what was before it.
  const bool as_made = a.pieces > 1 && 2 * a.pieces >= c.answer_tokens;
  if (!as_made || a.held_up) return m;
  if (!a.loads) m.prompt_time = a.first_token;
  // The first token belongs to the prompt.
  m.answer_time = a.spoke * static_cast<std::int64_t>(a.pieces) / static_cast<std::int64_t>(a.pieces - 1);
  return m;
}

bool attempt::loads() const {
  if (!phone().loads_on_demand) return false;
  const std::string model =
      normalized_model(begun_ != nullptr ? std::string_view(model_) : model_for(phone(), question_.model));
  const auto& there = phone().loaded;
  return std::find(there.begin(), there.end(), model) == there.end();
}

milliseconds attempt::patience() const {
  if (out_.loads) return times_.first_token_loading;
  // What a picture takes is not to be told from its bytes.
  if (question_.has_images) return times_.first_token;
  const std::uint64_t bytes = bytes_of(question_) + (begun_ != nullptr ? begun_->text.size() : 0);
  return held_.known().first_token(bytes, times_.first_token);
}

void attempt::begin_answer() {
  generation_.begin(question_.model.empty() ? phone().model : question_.model, rfc3339_now());
}

void attempt::drop() {
  dropped_ = true;
  if (exchange_) exchange_->abort();
}

/// The connection may stand for a long time yet: to a master that hangs, or is on another machine.
void attempt::lose() {
  lost_ = true;
  if (exchange_) exchange_->abort();
}

attempt_result attempt::ended() {
  const bool cut = lost_ && !stopped() && !out_.how && out_.how.error().code == errc::aborted;
  if (cut) out_.how = error(errc::connection_lost, "the phone's group has failed");
  return std::move(out_);
}

bool attempt::claim() {
  if (race_ == nullptr || race_->leader() == this) return true;
  if (!race_->claim(*this)) return false;
  begin_answer();  // the other one may have begun it as its own
  generation_.leads(phone().name);
  return true;
}

task<attempt_result> attempt::run() {
  if (unwanted()) co_return ended();
  out_.loads = loads();
  const std::stop_callback on_stop(generation_.stop_token(), [this] {
    if (exchange_) exchange_->abort();
  });
  const std::stop_callback on_lost(held_.lost(), [self = self_, where = generation_.where()] {
    asio::post(where, [self] {
      if (*self != nullptr) (*self)->lose();
    });
  });
  const time_point until = std::min(clock::now() + patience(), deadline_);
  const engine& codec = engine_of(phone().engine);
  std::unique_ptr<answer_decoder> decoder;
  std::unique_ptr<resumption> how;
  std::optional<phone_request> request;
  if (begun_ == nullptr) {
    request = codec.encode(question_, model_for(phone(), question_.model));
    decoder = codec.decoder(question_);
  } else {
    how = codec.resume(question_, model_, *begun_);
    if (out_.how = co_await ask_how(*how, until); !out_.how) co_return ended();
    out_.tokens_before = how->tokens_before();
    request = how->request();
    decoder = how->decoder();
    if (!request) {  // the phone broke off behind the last token that was asked for
      out_.done_reason = "length";
      out_.counts.prompt_tokens = how->prompt_tokens();
      co_return ended();
    }
  }
  exchange_ = phones_.open(held_.phone(), traceparent_);
  if (out_.how = co_await send(*request, until); !out_.how) co_return ended();
  if (begun_ == nullptr) begin_answer();
  out_.how = co_await listen(*decoder, until);
  out_.counts = decoder->counts;
  if (out_.how) out_.more = std::move(decoder->more);
  if (out_.how && out_.done_reason.empty()) out_.done_reason = decoder->done_reason;
  co_return ended();
}

/// The questions before going on.
task<result<void>> attempt::ask_how(resumption& how, time_point until) {
  for (auto question = how.next(); question; question = how.next()) {
    if (unwanted()) co_return error(errc::aborted);
    exchange_ = phones_.open(held_.phone(), traceparent_);
    const auto got = co_await read_page(*exchange_, *question, until);
    if (!got) co_return got.error();
    if (got->status != 200) {
      error why = phone_failure(got->status, got->body);
      // What the phone does not know it will not know the next time either.
      if (why.code == errc::rejected || why.code == errc::model_missing)
        why = error(errc::unsupported, "the phone cannot go on with an answer");
      co_return why;
    }
    if (auto read = how.heard(got->body); !read) co_return read;
  }
  co_return result<void>{};
}

task<result<void>> attempt::send(const phone_request& request, time_point until) {
  if (unwanted()) co_return error(errc::aborted);
  if (auto there = co_await exchange_->connect(until); !there) co_return there;
  generation_.advance(phase::waiting);
  sent_ = clock::now();
  auto head = co_await exchange_->send(request.method, request.target, request.body, until);
  if (!head) co_return head.error();
  if (head->status == 200) co_return result<void>{};
  std::string body;
  while (body.size() < error_body_bytes) {
    const auto more = co_await exchange_->read(until);
    if (!more || more->empty()) break;
    body.append(*more);
  }
  if (head->status == 404 && question_.spoken == dialect::anthropic && no_such_route(body))
    co_return error(errc::not_served, "the phone's build does not serve Anthropic's Messages API");
  co_return phone_failure(head->status, body);
}

task<result<void>> attempt::listen(answer_decoder& decoder, time_point until) {
  const json* stops = nullptr;
  if (const auto found = question_.options.find("stop"); found != question_.options.end()) stops = &*found;
  pen writer(*this, generation_, stops != nullptr ? *stops : json(),
             begun_ != nullptr ? begun_->text : std::string_view{});
  const milliseconds first = std::chrono::duration_cast<milliseconds>(until - clock::now());
  const milliseconds between = held_.known().between_tokens(times_.between_tokens);
  bool any = false;
  while (!decoder.done()) {
    if (generation_.crowded()) {  // the clients read too slowly; that is no silence of the phone's
      const time_point stalled = clock::now();
      co_await generation_.wait_for_room();
      out_.held_up = true;
      until = std::min(until + (clock::now() - stalled), deadline_);
    }
    const auto bytes = co_await exchange_->read(until);
    if (!bytes) {
      const bool silent = bytes.error().code == errc::stalled;
      if (silent && clock::now() >= deadline_) co_return error(errc::deadline, "the answer took too long");
      if (silent && !any) co_return error(errc::first_token_timeout, "the phone gave no first token in time");
      co_return bytes.error();
    }
    const auto read = bytes->empty() ? decoder.finish(writer) : decoder.feed(*bytes, writer);
    if (read && decoder.done()) writer.end();
    if (const std::size_t pieces = writer.heard(); pieces > 0) {
      const time_point now = clock::now();
      observer_.on_pieces(phone().name, pieces);
      out_.pieces += pieces;
      if (!any) {
        out_.first_token = now - sent_;
        held_.answered();
      }
      any = true;
      out_.spoke = now - sent_ - out_.first_token;
      if (!decoder.done()) generation_.announce();
      until = std::min(now + between, deadline_);
    } else if (writer.progress() && !any) {
      until = std::min(clock::now() + first, deadline_);
    }
    if (!read) co_return read;
    if (writer.overflow()) co_return error(errc::too_large, "the answer is too long");
    if (writer.stopped()) {
      out_.done_reason = "stop";
      exchange_.reset();  // the phone is to stop as well
      break;
    }
  }
  co_return result<void>{};
}

task<> attempt::read_rest() {
  if (!exchange_) co_return;
  const time_point enough = clock::now() + rest_of_body;
  for (;;) {
    const auto rest = co_await exchange_->read(enough);
    if (!rest || rest->empty()) break;
  }
}

}  // namespace pocketfleet
