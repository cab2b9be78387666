#include "pocketfleet/service/dialects_api.hpp"

#include <algorithm>
#include <ctime>

#include "ask_common.hpp"
#include "page.hpp"
#include "pocketfleet/core/model_name.hpp"
#include "pocketfleet/service/serve.hpp"
#include "pocketfleet/service/wall_clock.hpp"
#include "pocketfleet/wire/options.hpp"
#include "warm_up.hpp"

namespace pocketfleet {

std::vector<route> dialects_api::routes() {
  const bool pass = settings_.pass_load_options;
  return {
      {"/v1/chat/completions", "POST",
       [this](http_call& call) { return answer(call, parse_openai_chat(call.body), openai_chat_form); }},
      {"/v1/completions", "POST",
       [this](http_call& call) {
         return answer(call, parse_openai_completion(call.body), openai_completion_form);
       }},
      {"/api/chat", "POST",
       [this, pass](http_call& call) {
         return answer(call, parse_ollama_chat(call.body, pass), ollama_chat_form);
       }},
      {"/api/generate", "POST",
       [this, pass](http_call& call) {
         return answer(call, parse_ollama_generate(call.body, pass), ollama_generate_form);
       }},
      {"/v1/messages", "POST",
       [this](http_call& call) { return answer(call, parse_anthropic(call.body), anthropic_form); }},
      {"/v1/messages/count_tokens", "POST", [this](http_call& call) { return count_tokens(call); }},
  };
}

task<> dialects_api::answer(http_call& call, result<generation_request> request, form_maker form) {
  const result<void> allowed =
      request ? choose_allowed(call, request->choices.front().model) : request.error();
  if (!allowed) {
    const error why = allowed.error();
    co_await refuse(call, why);
    co_return;
  }
  if (request->load) {
    co_await load(call, request->choices.front());
    co_return;
  }
  asked_how how{.model = request->choices.front().model,
                .id = call.request_id,
                .created_at = rfc3339_now(),
                .created = std::time(nullptr),
                .include_usage = request->include_usage,
                .each = request->each};
  serving what(std::move(request->choices), form(std::move(how)));
  what.stream = request->stream;
  what.patient = request->patient;
  what.session = call.session.empty() ? std::move(request->session) : call.session;
  if (!request->ignored.empty()) what.headers.emplace_back("X-Ignored-Options", joined(request->ignored));
  co_await serve(call, dispatch_, what, settings_.times.keepalive);
}

// ---- Ollama: a request without a prompt

/// Reads the model into memory on one phone, or, with a keep_alive of 0, out of it on all.
task<> dialects_api::load(http_call& call, const question& what) {
  const bool out = unloads(what.keep_alive);
  std::string phone;
  std::optional<error> failed;
  if (out) {
    const auto done = co_await unload(call, what);
    if (!done) failed = done.error();
  } else {
    warm_up_order order{.model = what.model,
                        .keep_alive = what.keep_alive,
                        .deadline = clock::now() + settings_.times.first_token_loading};
    if (!what.model.empty()) order.wanted.model = normalized_model(what.model);
    const auto done = co_await warm_up(call, desk_, order);
    if (done) phone = *done;
    if (!done) failed = done.error();
  }
  call.record.phone = phone;
  if (call.gone.stop_requested()) co_return;
  if (failed) {
    co_await refuse(call, *failed);
    co_return;
  }
  std::string body = R"({"model":)";
  append_json_string(body, what.model);
  body += R"(,"created_at":")" + rfc3339_now();
  body += what.spoken == dialect::ollama_chat ? R"(","message":{"role":"assistant","content":""})"
                                              : R"(","response":"")";
  body += out ? R"(,"done":true,"done_reason":"unload"})" : R"(,"done":true,"done_reason":"load"})";
  // As Ollama has it: one object, even if a stream was asked for.
  co_await call.out->send(200, json_type, std::move(body));
}

task<result<void>> dialects_api::unload(http_call& call, const question& what) {
  const std::string model = what.model.empty() ? std::string{} : normalized_model(what.model);
  bool known = false;
  bool ollama = false;
  for (const auto& phone : desk_.targets()) {
    const auto names = names_of(*phone);
    const bool has = model.empty() || std::any_of(names.begin(), names.end(), [&](const named_model& n) {
                       return n.normalized == model;
                     });
    known = known || has;
    if (!has || phone->engine != engine_kind::ollama) continue;
    ollama = true;
    const auto& there = phone->loaded;
    const std::string its = normalized_model(model_for(*phone, what.model));
    if (std::find(there.begin(), there.end(), its) == there.end()) continue;
    warm_up_order order{
        .model = what.model, .keep_alive = 0, .deadline = clock::now() + settings_.times.first_token_loading};
    order.wanted.only = phone->id;
    const auto done = co_await warm_up(call, desk_, order);
    if (!done) co_return done.error();
  }
  if (!known) co_return error(errc::model_not_found, "no phone has that model");
  if (!ollama)
    co_return error(errc::unsupported, "keep_alive: llama-server keeps its model as long as it runs");
  co_return result<void>{};
}

// ---- Anthropic

/// What only the phone can count: it has the model's words and its template.
task<> dialects_api::count_tokens(http_call& call) {
  auto body = parse_json(call.body);
  std::optional<error> why;
  if (!body) {
    why = body.error();
  } else if (!body->is_object() || !body->contains("messages")) {
    why = error(errc::bad_request, "messages: expected an array with at least one message");
  } else if (body->contains("model") && !(*body)["model"].is_string()) {
    why = error(errc::bad_request, "model: expected a name");
  }
  if (why) {
    co_await refuse(call, *why);
    co_return;
  }
  std::string model = body->value("model", std::string{});
  if (const auto allowed = choose_allowed(call, model); !allowed) {
    const error not_this_one = allowed.error();
    co_await refuse(call, not_this_one);
    co_return;
  }
  want wanted;
  wanted.model = model.empty() ? std::string{} : normalized_model(model);
  wanted.engines = mask_of(engine_kind::llama_server);
  const std::stop_token stop = call.gone;
  const time_point deadline = std::min(clock::now() + settings_.times.queue, call.deadline);
  auto held = co_await desk_.acquire(call.where, wanted, deadline, stop);
  std::string counted;
  if (held) {
    const auto phone = held->phone();
    call.record.phone = phone->name;
    (*body)["model"] = model_for(*phone, model);
    const phone_request request{"POST", "/v1/messages/count_tokens", dump_json(*body)};
    const std::unique_ptr<phone_exchange> exchange = call.phones->open(phone, call.traceparent);
    const std::stop_callback on_stop(stop, [&exchange] { exchange->abort(); });
    auto got = co_await read_page(*exchange, request, deadline);
    if (!got) {
      why = got.error();
    } else if (got->status == 404) {
      why = error(errc::not_served, "the phone's build does not count tokens");
    } else if (got->status != 200) {
      why = phone_failure(got->status, got->body);
    } else {
      counted = std::move(got->body);
    }
    held->settle(why ? verdict_of(why->code) : verdict::success);
  } else {
    why = held.error();
    if (why->code == errc::unsupported)
      why = error(errc::not_served, "no phone with that model counts tokens; llama-server does");
  }
  if (call.gone.stop_requested()) co_return;
  if (why) {
    co_await refuse(call, *why);
  } else {
    co_await call.out->send(200, json_type, std::move(counted));
  }
}

}  // namespace pocketfleet
