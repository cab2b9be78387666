#include "pocketfleet/service/catalog_api.hpp"

#include <algorithm>

#include "ask_common.hpp"
#include "page.hpp"
#include "pocketfleet/core/model_name.hpp"
#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {
namespace {

// The release of Ollama whose API is spoken here. Clients look at it: some refuse a server that is older than
// what they need.
constexpr std::string_view ollama_release = "0.12.11";

constexpr seconds show_time{5};  // on each phone
constexpr std::size_t show_phones = 3;

/// A key for some models shows no others.
model_filter models_for(const http_call& call) {
  return call.terms ? std::span<const std::string>(call.terms->models) : model_filter{};
}

/// What can be asked of the catalogue without asking a phone.
route page_of(std::string_view path, std::string_view type,
              std::function<std::string(const model_filter&)> text) {
  return {path, "GET", [type, text = std::move(text)](http_call& call) -> task<> {
            std::string body = text(models_for(call));
            co_await call.out->send(200, type, std::move(body));
          }};
}

task<> refuse_to_manage(http_call& call) {
  const error why(errc::forbidden,
                  "models are managed on the phones, not here: \"ollama pull\" there, or the set-up script's "
                  "model command");
  co_await refuse(call, why);
}

}  // namespace

std::vector<route> catalog_api::routes() {
  const auto phones = [this] { return desk_.targets(); };
  // What a phone that is down had in its memory is gone, for all that is known.
  const auto phones_up = [this] {
    catalog_phones out;
    for (auto& p : desk_.status()) {
      if (!p.draining && p.state == health::up) out.push_back(std::move(p.target));
    }
    return out;
  };
  std::vector<route> all{
      page_of("/v1/models", json_type, [phones](const auto& only) { return openai_models(phones(), only); }),
      page_of("/api/tags", json_type, [phones](const auto& only) { return ollama_tags(phones(), only); }),
      page_of("/api/ps", json_type, [phones_up](const auto& only) { return ollama_ps(phones_up(), only); }),
      page_of("/api/version", json_type,
              [](const auto&) { return "{\"version\":\"" + std::string(ollama_release) + "\"}"; }),
      {"/v1/models/*", "GET", [this](http_call& call) { return one_model(call); }},
      {"/api/show", "POST", [this](http_call& call) { return show(call); }},
      {"/api/delete", "DELETE", refuse_to_manage},
      {"/api/blobs/*", "HEAD", refuse_to_manage},
  };
  for (const std::string_view path : {"/api/pull", "/api/push", "/api/create", "/api/copy", "/api/blobs/*"}) {
    all.push_back({path, "POST", refuse_to_manage});
  }
  return all;
}

task<> catalog_api::one_model(http_call& call) {
  auto body = openai_model(desk_.targets(), call.below, models_for(call));
  if (body) {
    co_await call.out->send(200, json_type, std::move(*body));
    co_return;
  }
  const error why(errc::model_not_found, "no phone has that model");
  co_await refuse(call, why);
}

/// Phones that have it, the best ones to ask first.
std::vector<catalog_api::place> catalog_api::places_of(const std::string& model) {
  std::vector<place> out;
  const std::string normalized = normalized_model(model);
  for (auto& p : desk_.status()) {
    if (p.draining) continue;
    for (const auto& each : names_of(*p.target)) {
      if (each.normalized != normalized) continue;
      out.push_back({p.target, *each.model, p.healthy, p.in_flight});
      break;
    }
  }
  std::stable_sort(out.begin(), out.end(), [](const place& a, const place& b) {
    return a.healthy != b.healthy ? a.healthy : a.in_flight < b.in_flight;
  });
  out.erase(out.begin() + static_cast<std::ptrdiff_t>(std::min(out.size(), show_phones)), out.end());
  return out;
}

/// No permit: it costs a phone next to nothing, as the looks of the prober do.
task<result<std::string>> catalog_api::ask(http_call& call, const place& at, const show_request& wanted) {
  const bool ollama = at.phone->engine == engine_kind::ollama;
  phone_request request{"GET", "/props", {}};
  if (ollama) request = {"POST", "/api/show", render_show(at.model.name, wanted.verbose)};
  const std::unique_ptr<phone_exchange> exchange = call.phones->open(at.phone, call.traceparent);
  const std::stop_token stop = call.gone;
  const std::stop_callback on_stop(stop, [&exchange] { exchange->abort(); });
  const time_point deadline = clock::now() + show_time;
  auto got = co_await read_page(*exchange, request, deadline);
  if (!got) co_return got.error();
  if (got->status != 200) co_return phone_failure(got->status, got->body);
  if (!ollama) co_return ollama_show(at.model, got->body);
  if (const auto read = parse_json(got->body); !read || !read->is_object())
    co_return error(errc::bad_response, "not in the engine's form");
  co_return std::move(got->body);
}

task<> catalog_api::show(http_call& call) {
  auto wanted = parse_show(call.body);
  const result<void> allowed = wanted ? choose_allowed(call, wanted->model) : wanted.error();
  if (!allowed) {
    const error why = allowed.error();
    co_await refuse(call, why);
    co_return;
  }
  error why(errc::model_not_found, "model '" + wanted->model + "' not found");
  const auto places = places_of(wanted->model);
  for (const place& at : places) {
    call.record.phone = at.phone->name;
    ++call.record.attempts;
    auto said = co_await ask(call, at, *wanted);
    if (call.gone.stop_requested()) co_return;
    if (said) {
      co_await call.out->send(200, json_type, std::move(*said));
      co_return;
    }
    if (said.error().code != errc::model_missing) why = said.error();
  }
  co_await refuse(call, why);
}

}  // namespace pocketfleet
