#include "pocketfleet/service/admin_api.hpp"

#include <algorithm>

#include "ask_common.hpp"
#include "pocketfleet/service/shown_speed.hpp"
#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {
namespace {

constexpr seconds longest_turn{25};  // a disk that takes longer is broken

error no_such_phone(const std::string& name) {
  return {errc::not_found, "there is no phone \"" + name + "\" in the fleet"};
}

json as_json(const phone_status& p, std::string_view source) {
  json out{
      {"name", p.config.name},
      {"host", p.config.host},
      {"port", p.config.port},
      {"engine", to_string(p.engine)},
      {"model", p.model},
      {"weight", p.config.weight},
      {"max_concurrency", p.config.max_concurrency},
      {"healthy", p.healthy},
      {"state", to_string(p.state)},
      {"reason", p.reason},
      {"draining", p.draining},
      {"drained", p.drained},
      {"breaker", to_string(p.breaker)},
      {"breaker_held", p.breaker_held},
      {"inflight", p.in_flight},
      {"permits", p.permits},
      {"source", source},
  };
  out["speeds"] = speeds_as_json(p);
  if (!p.config.id.empty()) out["id"] = p.config.id;
  return out;
}

/// {"state":"open"} or {"state":"closed"}: true for open.
result<bool> read_state(std::string_view body) {
  const auto read = parse_json(body);
  if (!read) return read.error();
  error form(errc::bad_request, R"(state: expected {"state":"open"} or {"state":"closed"})");
  if (!read->is_object() || read->size() != 1 || !read->contains("state")) return form;
  const json& state = read->at("state");
  if (state != "open" && state != "closed") return form;
  return state == "open";
}

}  // namespace

std::vector<route> admin_api::routes() {
  using text = const std::string&;
  return {
      in_turn("/admin/phones", "GET", [this](text, text) { return list(); }),
      in_turn("/admin/phones", "POST", [this](text, text body) { return add(body); }),
      in_turn("/admin/phones/{name}", "DELETE", [this](text name, text) { return remove(name); }),
      in_turn("/admin/phones/{name}", "PATCH", [this](text name, text body) { return change(name, body); }),
      in_turn("/admin/phones/{name}/drain", "POST", [this](text name, text) { return drain(name, true); }),
      in_turn("/admin/phones/{name}/undrain", "POST", [this](text name, text) { return drain(name, false); }),
      in_turn("/admin/phones/{name}/breaker", "POST",
              [this](text name, text body) { return breaker(name, body); }),
      in_turn("/admin/cache", "DELETE", [this](text, text) { return clear_cache(); }),
      in_turn("/admin/reload", "POST", [this](text, text) { return reload(); }),
      in_turn("/admin/save", "POST", [this](text, text) { return save(); }),
  };
}

route admin_api::in_turn(std::string_view path, std::string_view method,
                         std::function<result<said>(const std::string& name, const std::string& body)> what) {
  return {path, method,
          [this, what = std::move(what)](http_call& call) {
            return run(call, [what, name = call.below, body = call.body] { return what(name, body); });
          },
          access_level::admin};
}

/// What is shared with the turn outlives a client that has left, and a handler that has ended.
task<> admin_api::run(http_call& call, work what) {
  struct outcome {
    explicit outcome(executor where) : wake(std::make_shared<waker>(where)) {}
    std::shared_ptr<waker> wake;
    std::optional<result<said>> got{};
  };
  const auto shared = std::make_shared<outcome>(call.where);
  means_.in_turn([shared, what = std::move(what)] {
    try {
      shared->got.emplace(what());
    } catch (const std::exception& e) {  // the fence: nothing of it may reach the event loop
      shared->got.emplace(error(errc::aborted, std::string("the change failed: ") + e.what()));
    }
    shared->wake->wake();
  });
  const time_point deadline = clock::now() + longest_turn;
  const bool in_time = co_await shared->wake->wait(deadline);
  if (!in_time) {
    const error late(errc::overloaded,
                     "the gateway is busy; the change may be made yet: look before you repeat it");
    co_await refuse(call, late);
    co_return;
  }
  if (!*shared->got) {
    const error why = shared->got->error();
    co_await refuse(call, why);
    co_return;
  }
  said& answer = **shared->got;
  call.record.outcome = answer.outcome;
  co_await call.out->send(answer.status, json_type, std::move(answer.body));
}

// ---- looks

std::string_view admin_api::source_of(const phone_status& p, const std::vector<roster::entry>& known) const {
  const auto is_it = [&](const roster::entry& e) {
    return e.now.name == p.config.name && e.now.id == p.config.id && (p.draining || !e.removed);
  };
  const auto found = std::find_if(known.begin(), known.end(), is_it);
  if (found == known.end()) return p.config.id.empty() ? "runtime" : "registered";
  return found->said ? "file" : "runtime";
}

result<admin_api::said> admin_api::list() {
  json phones = json::array();
  const auto known = roster_.entries();
  for (const auto& p : desk_.status()) phones.push_back(as_json(p, source_of(p, known)));
  return said{200, dump_json({{"phones", phones}})};
}

result<admin_api::said> admin_api::one(const std::string& name, int status) {
  const auto found = desk_.status_named(name);
  if (!found) return no_such_phone(name);
  return said{status, dump_json(as_json(*found, source_of(*found, roster_.entries())))};
}

// ---- changes

result<admin_api::said> admin_api::add(const std::string& body) {
  auto phone = means_.read_phone(body);
  if (!phone) return phone.error();
  const std::string name = phone->config.name;
  if (auto added = roster_.add(std::move(*phone), registry_.fleet()); !added) return added.error();
  means_.use_fleet(false);
  means_.note("added", name);
  return one(name, 201);
}

result<admin_api::said> admin_api::remove(const std::string& name) {
  const auto was = desk_.status_named(name);
  if (!was) return no_such_phone(name);
  roster_.remove(name);
  const std::string& id = was->config.id;
  means_.use_fleet(!id.empty() && registry_.forget(id));
  means_.note("removed", name);
  json out{{"name", name}, {"removed", true}, {"inflight", 0}, {"remark", nullptr}};
  for (const auto& p : desk_.status()) {
    if (p.draining && p.config.name == name) out["inflight"] = p.in_flight;
  }
  if (!id.empty() && registry_.lets_join())
    out["remark"] = "it may join again with its next heartbeat; drain it to keep it out";
  return said{200, dump_json(out)};
}

result<admin_api::said> admin_api::change(const std::string& name, const std::string& body) {
  const auto what = means_.read_change(body);
  if (!what) return what.error();
  if (!desk_.status_named(name)) return no_such_phone(name);
  const bool joined = !roster_.change(name, *what);
  if (joined && !registry_.change(name, *what)) return no_such_phone(name);
  means_.use_fleet(joined);
  means_.note("changed", name);
  return one(name);
}

result<admin_api::said> admin_api::drain(const std::string& name, bool drained) {
  if (!desk_.drain(name, drained)) return no_such_phone(name);
  means_.note(drained ? "drained" : "undrained", name);
  return one(name);
}

result<admin_api::said> admin_api::breaker(const std::string& name, const std::string& body) {
  const auto open = read_state(body);
  if (!open) return open.error();
  if (!desk_.hold_breaker_open(name, *open)) return no_such_phone(name);
  means_.note(*open ? "breaker opened" : "breaker closed", name);
  return one(name);
}

result<admin_api::said> admin_api::clear_cache() {
  const std::size_t removed = dispatch_.clear_cache();
  means_.note("cache cleared", {});
  return said{200, dump_json({{"removed", removed}})};
}

result<admin_api::said> admin_api::reload() {
  const auto done = means_.reread();
  if (!done) return done.error();
  if (!done->mistakes.empty()) {
    const json body{{"error", "the file is not taken: " + done->mistakes.front()},
                    {"mistakes", done->mistakes}};
    return said{422, dump_json(body), to_string(errc::bad_file)};  // as transport/status.cpp has it
  }
  return said{200, dump_json({{"phones", done->phones}, {"needs_restart", done->needs_restart}})};
}

result<admin_api::said> admin_api::save() {
  const auto done = means_.save();
  if (!done) return done.error();
  if (done->written) means_.note("saved", {});
  return said{200, dump_json({{"file", done->file}, {"phones", done->phones}, {"written", done->written}})};
}

}  // namespace pocketfleet
