// /ask_batch: many questions at once over the whole fleet.
#include <algorithm>

#include "ask_common.hpp"
#include "pocketfleet/service/ask_api.hpp"
#include "pocketfleet/service/together.hpp"

namespace pocketfleet {

/// How many items run at once: as many as the fleet has permits, and a few more that wait for the first to
/// come free. All of them at once would fill the queue and turn other clients away.
std::size_t ask_api::runners(std::size_t items) {
  std::size_t permits = 2;
  for (const auto& p : desk_.status()) {
    if (p.healthy) permits += p.permits;
  }
  return std::min(items, permits);
}

/// {"ok":true,"data":{...}} or {"ok":false,"error":"text"}, without the opening brace.
task<std::string> ask_api::batch_item(http_call& call, result<ask_request>& item) {
  request_record r;  // of this item
  result<std::string> body = item ? error(errc::aborted) : item.error();
  if (item) {
    serving what = serving_of(*item);
    what.patient = true;
    body = co_await whole_answer(call, dispatch_, what, r);
  }
  call.record.attempts += r.attempts;
  call.record.rescues += r.rescues;
  call.record.queued = std::max(call.record.queued, r.queued);
  call.record.prompt_tokens += r.prompt_tokens;
  call.record.answer_tokens += r.answer_tokens;
  if (body) co_return R"("ok":true,"data":)" + *body + '}';
  co_return R"("ok":false,)" + render_error(body.error().message).substr(1);
}

task<> ask_api::ask_batch(http_call& call) {
  auto items = parse_batch(call.body, settings_.batch_items, rules(false));
  if (!items) {
    const error why = items.error();
    co_await refuse(call, why);
    co_return;
  }
  call.record.at = phase::waiting;
  if (call.accept.find(ndjson_type) != std::string::npos) {
    co_await batch_lines(call, *items);
  } else {
    co_await batch_plain(call, *items);
  }
}

task<> ask_api::batch_plain(http_call& call, std::vector<result<ask_request>>& items) {
  std::vector<std::string> answers(items.size());
  std::size_t next = 0;
  auto run = [&](std::size_t) -> task<> {
    while (next < items.size() && !call.gone.stop_requested()) {
      const std::size_t i = next++;
      answers[i] = co_await batch_item(call, items[i]);
    }
  };
  co_await together(call.where, runners(items.size()), run);
  if (call.gone.stop_requested()) co_return;
  std::string body = R"({"results":[)";
  for (std::size_t i = 0; i < answers.size(); ++i) body.append(i == 0 ? "{" : ",{").append(answers[i]);
  body += "]}";
  co_await call.out->send(200, json_type, std::move(body));
}

task<> ask_api::batch_lines(http_call& call, std::vector<result<ask_request>>& items) {
  std::string ready;  // lines that are not written yet
  std::size_t next = 0;
  std::size_t left = items.size();
  const auto news = std::make_shared<waker>(call.where);
  auto run = [&](std::size_t) -> task<> {
    while (next < items.size() && !call.gone.stop_requested()) {
      const std::size_t i = next++;
      const std::string line = co_await batch_item(call, items[i]);
      ready += R"({"index":)" + std::to_string(i) + ',' + line + '\n';
      --left;
      news->wake();
    }
    news->wake();
  };
  auto write = [&]() -> task<> {
    std::string lines;
    while (left > 0 && !call.gone.stop_requested()) {
      co_await news->wait();
      if (ready.empty() || left == 0) continue;
      if (call.out->status() == 0) call.out->begin(200, ndjson_type);
      lines.swap(ready);
      if (!co_await call.out->write(lines)) break;
      lines.clear();
    }
  };
  const std::size_t running = runners(items.size());
  auto all = [&](std::size_t i) -> task<> { return i == 0 ? write() : run(i); };
  co_await together(call.where, running + 1, all);
  if (call.gone.stop_requested()) co_return;
  if (call.out->status() == 0) call.out->begin(200, ndjson_type);
  co_await call.out->end(ready);
}

}  // namespace pocketfleet
