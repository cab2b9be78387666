#include <cmath>

#include "plan_report.hpp"
#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {
namespace {

/// What is infinite, or not a number, is null.
json finite(double value) {
  return std::isfinite(value) ? json(value) : json(nullptr);
}

json per_second(double token_s) {
  return token_s > 0 && std::isfinite(token_s) ? json(1 / token_s) : json(nullptr);
}

json model_json(const model_shape& m) {
  return {{"name", m.name},
          {"architecture", m.architecture},
          {"quantization", m.quantization},
          {"bytes", m.file_bytes()},
          {"layers", m.layers.size()},
          {"embedding_bytes", m.embedding.bytes},
          {"output_bytes", m.output.bytes},
          {"tied_embeddings", m.tied},
          {"kv_bytes_per_token", m.kv_bytes_per_token()},
          {"n_embd", m.n_embd},
          {"n_vocab", m.n_vocab},
          {"context", m.context}};
}

json member_json(const plan_report& r, const shard_member& m, std::size_t i) {
  return {{"name", r.phones[m.device].name},
          {"role", i == 0 ? "master" : "worker"},
          {"first_layer", m.first_layer},
          {"layers", m.layers},
          {"output", m.output},
          {"weights_bytes", m.weights},
          {"kv_bytes", m.kv},
          {"compute_bytes", m.compute},
          {"process_bytes", m.process},
          {"memory_bytes", m.memory()},
          {"may_use_bytes", m.budget},
          {"compute_ms", m.compute_s * 1000},
          {"round_trip_ms", m.round_trip_s * 1000},
          {"transfer_ms", m.transfer_s * 1000},
          {"up_bytes_per_token", m.up_bytes},
          {"down_bytes_per_token", m.down_bytes},
          {"load_s", m.load_s}};
}

json plan_part(const plan_report& r, const shard_plan& p) {
  json members = json::array();
  for (std::size_t i = 0; i < p.members.size(); ++i) members.push_back(member_json(r, p.members[i], i));
  json commands = json::array();
  for (const auto& c : commands_of(p, r.result.options, r.phones, r.settings)) {
    commands.push_back({{"on", r.phones[c.device].name}, {"role", c.role}, {"command", c.text}});
  }
  json out{{"kind", p.layout.workers.empty() ? "single" : "split"},
           {"master", r.phones[p.layout.master].name},
           {"members", members},
           {"token_ms", finite(p.token_s * 1000)},
           {"tokens_per_s", per_second(p.token_s)},
           {"bytes_per_token", p.bytes_per_token()},
           {"load_s", p.load_s},
           {"longest_context", r.result.longest_context},
           {"commands", commands},
           {"safety", safety_of(p, r.phones, r.settings)}};
  if (p.layout.workers.empty()) return out;
  out["tensor_split"] = p.tensor_split();
  out["ngl"] = p.ngl();
  out["output_on_master"] = p.layout.output_on_master;
  out["endpoints"] = endpoints_of(p, r.phones, r.settings);
  return out;
}

json single_json(const plan_report& r, const single_fit& s) {
  const auto& m = s.plan.members.front();
  return {{"name", r.phones[s.device].name},
          {"possible", s.possible},
          {"fits", s.possible && s.plan.fits()},
          {"memory_bytes", m.memory()},
          {"may_use_bytes", m.budget},
          {"tokens_per_s", per_second(s.plan.token_s)},
          {"finest_quantization", s.finest.empty() ? json(nullptr) : json(s.finest)}};
}

json left_out_json(const plan_report& r) {
  json out = json::array();
  for (std::size_t i = 0; i < r.phones.size(); ++i) {
    const auto why = r.result.why[i];
    if (why == left_out::used) continue;
    json one{{"name", r.phones[i].name}, {"reason", word_for(why)}, {"text", why_left_out(r, i)}};
    if (i < r.result.search.with.size()) one["token_ms_with_it"] = finite(r.result.search.with[i] * 1000);
    out.push_back(std::move(one));
  }
  return out;
}

json offers_json(const plan_report& r) {
  json out = json::array();
  for (const auto& o : r.result.offers) {
    json one{{"quantization", o.name}, {"bytes", o.bytes}};
    one["alone_on"] = o.alone ? json(r.phones[*o.alone].name) : json(nullptr);
    one["split_tokens_per_s"] = o.split ? per_second(o.split->token_s) : json(nullptr);
    out.push_back(std::move(one));
  }
  return out;
}

json probes_json(const plan_report& r) {
  json out = json::array();
  for (std::size_t i = 0; i < r.looked.size(); ++i) {
    if (!r.looked[i]) continue;
    const auto what = r.looked[i]->what;
    out.push_back({{"name", r.phones[i].name},
                   {"outcome", what == probed::outcome::open      ? "open"
                               : what == probed::outcome::refused ? "refused"
                                                                  : "silent"},
                   {"rtt_ms", what == probed::outcome::silent ? json(nullptr) : json(r.looked[i]->rtt_ms)}});
  }
  return out;
}

}  // namespace

std::string plan_json(const plan_report& r) {
  const auto& f = r.result;
  json out{{"model", model_json(r.model)},
           {"options",
            {{"context", f.options.context},
             {"batch", f.options.batch},
             {"budget_share", f.options.share},
             {"tunnel", f.options.tunnel}}},
           {"plan", f.best ? plan_part(r, *f.best) : json(nullptr)},
           {"needed_bytes", f.needed_bytes},
           {"available_bytes", f.available_bytes},
           {"left_out", left_out_json(r)},
           {"coarser", offers_json(r)}};
  json singles = json::array();
  for (const auto& s : f.singles) singles.push_back(single_json(r, s));
  out["singles"] = std::move(singles);
  if (!f.best) out["why"] = why_infeasible(r);
  if (const auto probes = probes_json(r); !probes.empty()) out["probes"] = probes;
  return dump_json(out);
}

}  // namespace pocketfleet
