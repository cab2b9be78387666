#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <map>

#include "pocketfleet/app/client.hpp"
#include "pocketfleet/app/commands.hpp"
#include "pocketfleet/app/log.hpp"

namespace {

struct key_commands {
  CLI::App* all;
  CLI::App* make;
  CLI::App* list;
};

key_commands add_key_commands(CLI::App& app, pocketfleet::key_arguments& into) {
  auto* all = app.add_subcommand("key", "The keys of clients: new, list, remove")->require_subcommand(1);
  auto* make = all->add_subcommand("new", "Make a key; it is printed once, and kept as a digest");
  auto* list = all->add_subcommand("list", "Who has a key, and what it may");
  auto* remove = all->add_subcommand("remove", "Take a key back");
  for (auto* each : {make, list, remove}) {
    auto* where = each->add_option_group("file");
    where->add_option("--file", into.file, "The file with the keys");
    where->add_option("--phones", into.phones, "phones.json, which names that file");
    where->require_option(1);
  }
  auto& terms = into.made.terms;
  make->add_option("--name", terms.name, "Whose it is; in logs")->required();
  make->add_flag_callback(
      "--admin", [&terms] { terms.role = pocketfleet::key_role::admin; }, "It may change the fleet");
  make->add_option("--rate", terms.rate_per_minute, "Requests a minute; 0: no limit")
      ->check(CLI::Range(0, 1'000'000));
  make->add_option("--concurrency", terms.max_concurrency, "Requests at once; 0: no limit")
      ->check(CLI::Range(0, 100'000));
  make->add_option("--model", terms.models, "A model that it may use; several times; none: all");
  make->add_option("--cache", terms.cache, "With whom it shares answers: shared, own, none")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, pocketfleet::cache_scope>{{"shared", pocketfleet::cache_scope::shared},
                                                          {"own", pocketfleet::cache_scope::own},
                                                          {"none", pocketfleet::cache_scope::none}}));
  list->add_flag("--json", into.as_json, "As the file has it");
  remove->add_option("NAME", into.name, "Whose")->required();
  return {all, make, list};
}

int run_key_command(const key_commands& commands, const pocketfleet::key_arguments& key) {
  if (*commands.make) return pocketfleet::key_new(key);
  if (*commands.list) return pocketfleet::key_list(key);
  return pocketfleet::key_remove(key);
}

CLI::App* add_plan_command(CLI::App& app, pocketfleet::plan_arguments& into) {
  auto* plan = app.add_subcommand("plan", "How a model runs on these phones: on one, or split over several");
  plan->add_option("MODEL", into.model, "A GGUF file; only its header is read");
  plan->add_option("--phones", into.phones, "Memory, speed and links of the phones, as docs/groups.md says")
      ->required();
  plan->add_option("--context", into.context, "Tokens of context (default 4096, or the model's)")
      ->check(CLI::Range(1, 1 << 24));
  plan->add_option("--batch", into.batch,
                   "Tokens of a prompt at once (default: the largest that fits of 512 to 64)")
      ->check(CLI::Range(1, 1 << 16));
  plan->add_option("--budget-share", into.share, "How much of a phone's memory may be used (default 0.7)")
      ->check(CLI::Range(0.01, 1.0));
  plan->add_option("--master", into.master, "The phone that is to be the master");
  plan->add_option("--port", into.port, "Port of rpc-server (default 50052)")->check(CLI::Range(1, 65000));
  plan->add_flag("--tunnel", into.tunnel, "Workers listen on 127.0.0.1 and are reached by SSH");
  plan->add_flag("--probe", into.probe,
                 "Connect to each worker's port from here, and plan with what comes of it");
  plan->add_option("--probe-timeout", into.probe_timeout, "Seconds to wait for them (default 2)")
      ->check(CLI::Range(0.01, 60.0));
  plan->add_flag("--explain", into.explain, "Why it came out so");
  plan->add_flag("--json", into.as_json, "For machines");
  auto& p = into.parameters;
  const auto size = CLI::Range(1, 1 << 24);
  plan->add_option("--layers", p.layers, "Instead of a file: its layers")->check(CLI::Range(1, 4096));
  plan->add_option("--embedding", p.n_embd, "Width of its layers")->check(size);
  plan->add_option("--feed-forward", p.n_ff, "Width inside of the feed-forward part")->check(size);
  plan->add_option("--heads", p.n_head, "Heads of attention")->check(CLI::Range(1, 65536));
  plan->add_option("--kv-heads", p.n_head_kv, "Heads of keys and values (default: as many)")
      ->check(CLI::Range(1, 65536));
  plan->add_option("--vocabulary", p.n_vocab, "Words in its vocabulary")->check(size);
  plan->add_option("--model-context", p.context, "Context that it was made for (default 4096)")->check(size);
  plan->add_flag("--tied", p.tied, "Its embeddings are its output layer too");
  std::vector<std::string> names;
  for (const auto& q : pocketfleet::quantizations()) names.emplace_back(q.name);
  plan->add_option("--quantization", into.quantization, "Of a model without a file (default Q4_K_M)")
      ->check(CLI::IsMember(names));
  return plan;
}

struct group_commands {
  CLI::App* run;
  CLI::App* check;
};

group_commands add_group_commands(CLI::App& app, std::string& file) {
  auto* all =
      app.add_subcommand("group", "A model split over several phones: run, check")->require_subcommand(1);
  auto* run = all->add_subcommand("run", "Start a group's workers and master, watch and heal them");
  auto* check = all->add_subcommand("check", "Check a group's file; prints the commands, starts nothing");
  for (auto* each : {run, check})
    each->add_option("FILE", file, "The group's file, as docs/groups.md says")->required();
  return {run, check};
}

int run(int argc, char** argv) {
  CLI::App app{"One LLM server out of a drawer of Android phones", "pocketfleet"};
  app.set_version_flag("--version", POCKETFLEET_VERSION);
  app.require_subcommand(1);

  pocketfleet::serve_arguments serve;
  auto* serve_command = app.add_subcommand("serve", "Serve a fleet");
  serve_command->add_option("--phones", serve.phones, "phones.json")->required();
  serve_command->add_option("--listen", serve.listen, "ADDR:PORT, instead of what the file says");

  std::string file;
  auto* check_command = app.add_subcommand("check", "Check a phones.json; exit code 0 if good, 2 if bad");
  check_command->add_option("FILE", file, "phones.json")->required();

  pocketfleet::invite_arguments invite;
  auto* invite_command = app.add_subcommand("invite", "Print the command by which a phone joins the fleet");
  invite_command->add_option("--phones", invite.phones, "phones.json")->required();
  invite_command->add_option("--address", invite.address, "HOST:PORT where phones reach the gateway");
  invite_command->add_option("--model", invite.model, "What the phone is to serve");
  invite_command->add_flag("--qr", invite.qr, "As a QR code too");

  pocketfleet::key_arguments key;
  const key_commands keys = add_key_commands(app, key);

  pocketfleet::plan_arguments plan;
  const auto* plan_command = add_plan_command(app, plan);
  const group_commands groups = add_group_commands(app, file);

  pocketfleet::demo_arguments demo;
  auto* demo_command = app.add_subcommand("demo", "Serve a small fleet of simulated phones");
  demo_command->add_option("--listen", demo.listen, "ADDR:PORT (default 127.0.0.1:8000)");
  demo_command->add_option("--phones", demo.phones, "How many")->check(CLI::Range(1, 64));
  demo_command->add_option("--model", demo.model, "A GGUF file: real llama-server processes as the phones");

  pocketfleet::sim_arguments sim;
  auto* sim_command = app.add_subcommand("sim", "Run simulated phones alone");
  sim_command->add_option("--count", sim.count, "How many")->check(CLI::Range(1, 1000));
  sim_command->add_option("--base-port", sim.base_port, "Ports from here on; 0: any free ones");
  sim_command->add_option("--engine", sim.engine, "ollama or llama-server")
      ->check(CLI::IsMember({"ollama", "llama-server"}));
  sim_command->add_option("--model", sim.model, "Name of the model");
  sim_command->add_option("--decode-rate", sim.decode_rate, "Tokens per second")->check(CLI::PositiveNumber);
  sim_command->add_option("--prefill-rate", sim.prefill_rate, "Prompt tokens per second")
      ->check(CLI::PositiveNumber);
  sim_command->add_option("--load-ms", sim.load_ms, "Time to load the model");
  sim_command->add_option("--slots", sim.slots, "Requests at once")->check(CLI::Range(1, 64));
  sim_command
      ->add_option("--gain-of-more", sim.gain_of_more,
                   "What each further request at once adds to the speed: 1 as much again, 0 nothing")
      ->check(CLI::Range(0.0, 1.0));
  sim_command->add_option("--prompt-cache", sim.prompt_cache,
                          "false: every prompt is read from its beginning");
  sim_command->add_option("--answer-tokens", sim.answer_tokens, "Length of an answer without a limit");
  sim_command->add_option("--context", sim.context, "Tokens that a slot has room for")
      ->check(CLI::Range(16, 1 << 20));
  sim_command
      ->add_option("--reasoning", sim.reasoning, "Tokens of reasoning before an answer; 0: does not think")
      ->check(CLI::Range(0, 100000));
  sim_command->add_option("--embeddings", sim.embeddings,
                          "true: embeds; llama-server then does nothing else");
  sim_command->add_option("--tools", sim.tools, "false: Ollama's model cannot call tools");
  sim_command->add_option("--messages", sim.messages, "false: an Ollama too old for Anthropic's API");
  sim_command->add_option("--other-models", sim.other_models, "Ollama's other models, with commas between")
      ->delimiter(',');

  const auto run_client = pocketfleet::add_client_commands(app);

  try {
    app.parse(argc, argv);
    if (const auto code = run_client()) return *code;
    if (*serve_command) return pocketfleet::serve(serve);
    if (*check_command) return pocketfleet::check(file);
    if (*invite_command) return pocketfleet::invite(invite);
    if (*keys.all) return run_key_command(keys, key);
    if (*plan_command) return pocketfleet::plan(plan);
    if (*groups.run) return pocketfleet::group_run(file);
    if (*groups.check) return pocketfleet::group_check(file);
    if (*demo_command) return pocketfleet::demo(demo);
    return pocketfleet::sim_phones(sim);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? pocketfleet::exit_good : pocketfleet::exit_bad_file;
  } catch (const std::exception& e) {
    std::cerr << pocketfleet::error_prefix() << "pocketfleet: " << e.what() << '\n';
    return pocketfleet::exit_failed;
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a client that leaves is an error code, not the end
  const int code = run(argc, argv);
  if (!pocketfleet::end_log(std::chrono::seconds{1})) std::_Exit(code);
  return code;
}
