#include "pocketfleet/service/embeddings_api.hpp"

#include "ask_common.hpp"
#include "embeddings_work.hpp"

namespace pocketfleet {

std::vector<route> embeddings_api::routes() {
  const auto as = [this](embeddings_dialect dialect) {
    return [this, dialect](http_call& call) { return embed(call, dialect); };
  };
  return {
      {"/v1/embeddings", "POST", as(embeddings_dialect::openai)},
      {"/api/embed", "POST", as(embeddings_dialect::ollama)},
      {"/api/embeddings", "POST", as(embeddings_dialect::ollama_prompt)},
  };
}

task<> embeddings_api::embed(http_call& call, embeddings_dialect dialect) {
  embeddings_rules rules;
  rules.pass_load_options = settings_.pass_load_options;
  auto request = parse_embeddings(dialect, call.body, rules);
  const result<void> allowed = request ? choose_allowed(call, request->model) : request.error();
  if (!allowed) {
    const error why = allowed.error();
    co_await refuse(call, why);
    co_return;
  }
  call.body = {};  // the inputs are kept once
  embeddings_work work(desk_, observer_, settings_, refusals_, call, *request);
  const std::stop_callback on_shutdown(shutdown_.get_token(), work.stopper());
  const result<void> how = co_await work.run();
  if (call.gone.stop_requested()) co_return;
  header_list headers;
  if (std::string phones = work.phones(); !phones.empty()) headers.emplace_back("X-Phone", std::move(phones));
  if (!request->ignored.empty()) headers.emplace_back("X-Ignored-Options", joined(request->ignored));
  if (!how) {
    const error why = how.error();
    co_await refuse(call, why, std::move(headers));
    co_return;
  }
  std::string body = render_embeddings(*request, work.vectors(), work.counts());
  co_await call.out->send(200, json_type, std::move(body), std::move(headers));
}

}  // namespace pocketfleet
