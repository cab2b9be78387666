// One chunk on one phone, and what follows.
#include <algorithm>

#include "ask_common.hpp"
#include "embeddings_work.hpp"
#include "pocketfleet/core/model_name.hpp"
#include "pocketfleet/core/retry.hpp"

namespace pocketfleet {
namespace {

constexpr std::size_t bytes_for_each = std::size_t{256} << 10U;  // 8192 numbers and more
constexpr std::size_t most_bytes = std::size_t{64} << 20U;       // of one answer, in memory
constexpr std::size_t bytes_of_a_token = 4;

/// The request is too long for the phone's settings: some builds of llama-server call that a fault of their
/// own.
bool is_too_long(const error& why) {
  return why.code == errc::phone_error && why.message.find("too large to process") != std::string::npos;
}

/// The phone's server is one for chats; llama-server with --embeddings and a model for chats pools nothing.
bool makes_none(const error& why) {
  return why.code == errc::rejected && (why.status == 501 || why.message.starts_with("Pooling type 'none'"));
}

}  // namespace

milliseconds embeddings_work::patience(const chunk& c, const permit& held) const {
  const phone_target& phone = *held.phone();
  if (phone.loads_on_demand) {
    const std::string model = normalized_model(model_for(phone, request_.model));
    if (std::find(phone.loaded.begin(), phone.loaded.end(), model) == phone.loaded.end())
      return settings_.times.first_token_loading;
  }
  std::uint64_t bytes = 0;
  for (std::size_t i = c.first; i < c.first + c.count; ++i) {
    const json& input = request_.inputs[i];
    bytes += input.is_string() ? input.get_ref<const std::string&>().size() : bytes_of_a_token * input.size();
  }
  return held.known().first_token(bytes, settings_.times.first_token);
}

task<> embeddings_work::try_on(chunk& c, permit& held) {
  const std::shared_ptr<const phone_target> phone = held.phone();
  embeddings_query query =
      encode_embeddings(request_, phone->engine, model_for(*phone, request_.model), c.first, c.count);
  const phone_request request{"POST", query.target, std::move(query.body)};
  const std::unique_ptr<phone_exchange> exchange = call_.phones->open(phone, call_.traceparent);
  const time_point began = clock::now();
  const time_point until = std::min(began + patience(c, held), deadline_);
  const std::size_t most = most_page + c.count * bytes_for_each;
  call_.record.at = phase::waiting;
  call_.record.phone = phone->name;
  ++call_.record.attempts;

  struct place {  // among the tries under way
    place(std::list<a_try>& in, const a_try& t) : list(in), at(list.insert(list.end(), t)) {
      ++t.of->running;
    }
    place(const place&) = delete;
    place& operator=(const place&) = delete;
    ~place() {
      --at->of->running;
      list.erase(at);
    }
    std::list<a_try>& list;
    std::list<a_try>::iterator at;
  };
  result<page> got = error(errc::aborted);
  {
    const a_try mine{&c, phone->id, exchange.get(), began};
    const place here(tries_, mine);
    got = co_await read_page(*exchange, request, until, most);
  }
  result<embeddings_part> part = read(c, *phone, got);
  note(c, held, part, began);
  wake_all();
  if (over() || c.done) co_return;
  if (part) {
    take(c, *phone, std::move(*part), clock::now() - began);
  } else {
    const error why = part.error();
    failed(c, *phone, why);
  }
}

result<embeddings_part> embeddings_work::read(const chunk& c, const phone_target& phone,
                                              const result<page>& got) const {
  if (!got) {
    const bool silent = got.error().code == errc::stalled || got.error().code == errc::first_token_timeout;
    if (silent && clock::now() >= deadline_) return error(errc::deadline, "the answer took too long");
    return got.error();
  }
  if (got->status != 200) {
    error why = phone_failure(got->status, got->body);
    if (is_too_long(why)) return error(errc::rejected, why.message, 400);
    return why;
  }
  auto part = decode_embeddings(request_, phone.engine, c.count, got->body);
  if (part && dimensions_ != 0 && part->dimensions != dimensions_)
    return error(errc::bad_response, "the phones' embeddings are of different lengths");
  return part;
}

/// For the phone, and for the books.
void embeddings_work::note(const chunk& c, permit& held, const result<embeddings_part>& part,
                           time_point began) {
  const errc code = part ? errc{} : part.error().code;
  // The same texts that made one phone fail say little about the second.
  const bool once_more = !part && code == errc::phone_error && c.phone_errors > 0;
  held.settle(part ? verdict::success : once_more ? verdict::neutral : verdict_of(code));
  const std::uint64_t tokens = part ? part->prompt_tokens : 0;
  observer_.on_attempt({held.phone()->name, part ? "ok" : to_string(code), duration{0}, clock::now() - began,
                        tokens, 0, nanoseconds{0}});
}

void embeddings_work::take(chunk& c, const phone_target& phone, embeddings_part part, duration took) {
  c.done = true;
  --left_;
  times_.push_back(took);
  dimensions_ = part.dimensions;
  prompt_tokens_ += part.prompt_tokens;
  load_time_ = std::max(load_time_, part.load_time);
  phones_.insert(phone.name);
  refusals_.forget(phone.id, model_);
  for (std::size_t i = 0; i < c.count; ++i) {
    bytes_ += part.vectors[i].size();
    vectors_[c.first + i] = std::move(part.vectors[i]);
  }
  for (const a_try& t : tries_) {  // who was slower
    if (t.of == &c) t.exchange->abort();
  }
  if (bytes_ > most_bytes) {
    ++left_;  // it is not whole, and will not be
    fail({errc::too_large, "the answer is too long; ask for fewer at once"});
  }
}

void embeddings_work::failed(chunk& c, const phone_target& phone, const error& why) {
  if (makes_none(why)) {
    refusal_ = error(errc::not_served, why.message);
    refusals_.remember(phone, model_, clock::now());
    refused_.push_back(phone.id);
    if (c.running == 0) again(c, "not_served");
    return;
  }
  c.last = why;
  ++c.tries;
  if (why.code == errc::phone_error) ++c.phone_errors;
  c.avoid.push_back(phone.id);
  const failed_attempt how{.code = why.code, .tries = c.tries, .phone_errors = c.phone_errors};
  const retry_limits limits{settings_.attempts, 0};
  if (after_failure(how, limits) == next_step::give_up) {
    if (c.running == 0 || !retryable(why.code)) fail(why);
  } else if (c.running == 0) {
    again(c, to_string(why.code));
  }
}

void embeddings_work::again(chunk& c, std::string_view reason) {
  observer_.on_retry(reason);
  pending_.push_front(&c);
}

}  // namespace pocketfleet
