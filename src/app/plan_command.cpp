// pocketfleet plan
#include <algorithm>
#include <cmath>
#include <iostream>

#include "client_text.hpp"
#include "plan_model.hpp"
#include "plan_report.hpp"
#include "pocketfleet/app/commands.hpp"

namespace pocketfleet {
namespace {

constexpr std::uint64_t usual_context = 4096;
constexpr std::array<std::uint64_t, 4> usual_batches{512, 256, 128, 64};

int complain(const std::string& what) {
  std::cerr << "pocketfleet: " << what << '\n';
  return exit_bad_file;
}

/// What is missing of a model that is described without a file; empty: nothing.
std::string missing_of(const model_parameters& p) {
  if (p.n_embd == 0) return "--embedding";
  if (p.n_ff == 0) return "--feed-forward";
  if (p.n_head == 0) return "--heads";
  if (p.n_vocab == 0) return "--vocabulary";
  return {};
}

result<model_shape> model_of(const plan_arguments& a) {
  const bool described = a.parameters.layers != 0;
  if (described == !a.model.empty()) {
    return error(errc::bad_request,
                 "plan: expected a GGUF file, or --layers and the rest that describes a model");
  }
  if (!described) return load_model_shape(a.model);
  if (const auto what = missing_of(a.parameters); !what.empty()) {
    return error(errc::bad_request, "plan: --layers wants " + what + " beside it");
  }
  return shape_of(a.parameters, *find_quantization(a.quantization));
}

/// Only this one may be the master, and it need not be a worker.
bool take_master(plan_report& report, const std::string& name) {
  if (name.empty()) return true;
  bool found = false;
  for (std::size_t i = 0; i < report.phones.size(); ++i) {
    const bool it = report.phones[i].name == name;
    report.devices[i].may_master = it;
    found = found || it;
  }
  return found;
}

/// Whoever cannot be reached accepts no connections; the time of the others is what was measured.
void probe(plan_report& report, double timeout) {
  std::vector<probe_target> targets;
  std::vector<std::size_t> whose;
  for (std::size_t i = 0; i < report.phones.size(); ++i) {
    const auto& p = report.phones[i];
    if (!p.may_work) continue;
    targets.push_back({p.host, rpc_port_of(p, report.settings)});
    whose.push_back(i);
  }
  const auto got = probe_ports(targets, milliseconds(std::llround(timeout * 1000)));
  for (std::size_t n = 0; n < got.size(); ++n) {
    const auto i = whose[n];
    report.looked[i] = got[n];
    report.devices[i].accepts = got[n].what != probed::outcome::silent;
    if (report.devices[i].accepts) report.devices[i].link.rtt_s = got[n].rtt_ms / 1000;
  }
}

/// The plan is worthless if llama.cpp makes something else of its numbers.
bool replays(const plan_report& r) {
  const auto& best = r.result.best;
  if (!best || best->layout.workers.empty()) return true;
  const auto split = best->tensor_split();
  const auto units = replay_split(r.model.layers.size(), split, best->ngl());
  for (std::size_t w = 0; w < split.size(); ++w) {
    const auto got = std::count(units.begin(), units.end(), static_cast<int>(w));
    if (static_cast<std::uint64_t>(got) != split[w]) return false;
  }
  return true;
}

}  // namespace

int plan(const plan_arguments& arguments) {
  plan_report report;
  auto model = model_of(arguments);
  if (!model) return complain(model.error().message);
  report.model = std::move(*model);
  auto loaded = load_plan_phones(arguments.phones);
  for (const auto& m : loaded.mistakes) std::cerr << to_string(m, arguments.phones) << '\n';
  if (!loaded.mistakes.empty()) return exit_bad_file;
  report.phones = std::move(loaded.phones);
  report.looked.resize(report.phones.size());
  for (const auto& p : report.phones) report.devices.push_back(as_device(p, report.model));
  report.settings = {arguments.model.empty() ? report.model.name + ".gguf" : arguments.model, arguments.port,
                     arguments.tunnel};
  if (!take_master(report, arguments.master)) {
    return complain("--master " + printable(arguments.master) + ": no phone of that name in " +
                    arguments.phones);
  }
  if (arguments.probe) probe(report, arguments.probe_timeout);

  plan_options options;
  options.context =
      arguments.context != 0 ? arguments.context : std::min(usual_context, report.model.context);
  options.share = arguments.share;
  options.tunnel = arguments.tunnel;
  std::vector<std::uint64_t> batches(usual_batches.begin(), usual_batches.end());
  if (arguments.batch != 0) batches = {arguments.batch};
  report.result = plan_fleet(report.model, report.devices, options, batches);
  if (!replays(report)) {
    std::cerr
        << "pocketfleet: the plan's --tensor-split would not give these layers: a fault of this program\n";
    return exit_failed;
  }
  if (arguments.as_json) {
    std::cout << plan_json(report) << '\n';
  } else {
    std::cout << plan_text(report, arguments.explain, wants_colour());
  }
  return report.result.best ? exit_good : exit_failed;
}

}  // namespace pocketfleet
