// /ask and /ask_stream.
#include "pocketfleet/service/ask_api.hpp"

#include <optional>

#include "ask_common.hpp"
#include "pocketfleet/core/model_name.hpp"
#include "pocketfleet/wire/digest.hpp"
#include "pocketfleet/wire/prefix_chain.hpp"

namespace pocketfleet {
namespace {

constexpr std::size_t longest_known_text = 4096;  // a longer one costs more to digest than it would spare

/// Of what is asked and how: the route says what a text means.
cache_key digest_of(const http_call& call) {
  std::string all;
  all.reserve(call.route.size() + 1 + call.body.size());
  all.append(call.route).append("\n").append(call.body);
  return sha256(all);
}

}  // namespace

std::vector<route> ask_api::routes() {
  return {
      {"/ask", "POST", [this](http_call& call) { return ask(call); }},
      {"/ask_stream", "POST", [this](http_call& call) { return ask_stream(call); }},
      {"/ask_batch", "POST", [this](http_call& call) { return ask_batch(call); }},
      {"/health", "GET", [this](http_call& call) { return health(call); }},
      {"/warmup", "POST", [this](http_call& call) { return warm_up(call); }},
  };
}

result<void> choose_allowed(const http_call& call, std::string& model) {
  if (call.terms == nullptr || call.terms->models.empty()) return {};
  if (model.empty()) model = call.terms->models.front();
  if (call.terms->may_use(normalized_model(model))) return {};
  return error(errc::forbidden, "model: this key may not use that one");
}

std::uint64_t owner_of(const http_call& call) {
  return call.terms ? name_hash(call.terms->name, 1) : name_hash(call.out->peer(), 2);
}

task<> refuse(http_call& call, const error& why, header_list headers) {
  if (call.gone.stop_requested()) co_return;
  co_await call.out->fail(why, std::move(headers));
}

task<> ask_api::ask(http_call& call) {
  return answer_to(call, false);
}

task<> ask_api::ask_stream(http_call& call) {
  return answer_to(call, true);
}

task<> ask_api::answer_to(http_call& call, bool stream) {
  // The same text again needs no reading, if its answer is there. What a key may do is asked each time.
  std::optional<cache_key> text;
  if (call.terms == nullptr && call.body.size() <= longest_known_text) {
    text = digest_of(call);
    if (auto known = dispatch_.again(*text)) {
      serving what({}, ask_form());
      what.known = std::move(known);
      what.stream = stream;
      co_await serve(call, dispatch_, what, settings_.times.keepalive);
      co_return;
    }
  }
  auto request = parse_ask(call.body, rules(stream));
  if (!request) {
    const error why = request.error();
    co_await refuse(call, why);
    co_return;
  }
  serving what = serving_of(*request);
  what.stream = stream;
  what.session = call.session;
  what.text = text ? &*text : nullptr;
  co_await serve(call, dispatch_, what, settings_.times.keepalive);
}

/// Takes the question out of the request.
serving ask_api::serving_of(ask_request& request) {
  std::vector<question> one;
  one.push_back(std::move(request.what));
  serving what(std::move(one), ask_form());
  what.use_cache = request.use_cache;
  what.rescue = request.rescue;
  return what;
}

}  // namespace pocketfleet
