// The command line of the subcommands that talk to a running gateway.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "client_commands.hpp"
#include "pocketfleet/app/client.hpp"
#include "pocketfleet/app/commands.hpp"

namespace pocketfleet {
namespace {

struct subcommand {
  CLI::App* app;
  void (*run)(const client_arguments&);
};

struct all_subcommands {
  client_arguments given{};
  std::vector<subcommand> list{};

  CLI::App* add(CLI::App& to, const char* name, const char* what, void (*run)(const client_arguments&)) {
    CLI::App* app = to.add_subcommand(name, what);
    app->add_option("--gateway", given.where.gateway,
                    "URL of the gateway (else $POCKETFLEET_URL, else http://127.0.0.1:8000)");
    app->add_option("--key-file", given.where.key_file, "File with an admin key (else $POCKETFLEET_KEY)");
    app->add_option("--ca-file", given.where.ca_file,
                    "Who vouches for an https gateway, in PEM form (else $POCKETFLEET_CA_FILE, else whom the "
                    "system trusts)");
    app->add_flag("--json", given.as_json, "What the API says, as it is");
    list.push_back({app, run});
    return app;
  }
  CLI::App* add_for_phone(CLI::App& to, const char* name, const char* what,
                          void (*run)(const client_arguments&)) {
    CLI::App* app = add(to, name, what, run);
    app->add_option("NAME", given.name, "The phone's name, as \"pocketfleet phones\" shows it")->required();
    return app;
  }
  void add_numbers(CLI::App& to) {
    to.add_option("--weight", given.weight, "Its share of the requests")->check(CLI::Range(1, 1000));
    to.add_option("--permits", given.permits, "Requests that run on it at once")->check(CLI::Range(1, 64));
  }
};

void add_all(all_subcommands& all, CLI::App& app) {
  all.add(app, "phones", "List the phones of a running gateway", show_phones);
  auto* drain = all.add_for_phone(app, "drain", "Give a phone no new requests", drain_phone);
  drain->add_flag("--wait", all.given.wait, "Until nothing runs on it any more");
  drain->add_option("--timeout", all.given.timeout, "Seconds to wait (default 900)")
      ->check(CLI::Range(1, 86400));
  all.add_for_phone(app, "undrain", "Give a drained phone requests again", undrain_phone);
  all.add_numbers(*all.add_for_phone(app, "set", "Change a phone's weight or permits", set_phone));
  auto* add = all.add(app, "add", "Add a phone to the fleet", add_phone);
  add->add_option("HOST", all.given.host, "Its address or name")->required();
  add->add_option("--port", all.given.port, "Port of its engine (default 11434)")
      ->check(CLI::Range(1, 65535));
  add->add_option("--name", all.given.name, "What it is called (default HOST:PORT)");
  add->add_option("--model", all.given.model, "Model for requests that name none");
  add->add_option("--engine", all.given.engine, "ollama, llama-server or auto")
      ->check(CLI::IsMember({"ollama", "llama-server", "auto"}));
  add->add_option("--id", all.given.id, "The id that its heartbeats have");
  all.add_numbers(*add);
  all.add_for_phone(app, "remove", "Take a phone out of the fleet", remove_phone);
  auto* breaker = all.add_for_phone(app, "breaker", "Open or close a phone's breaker", steer_breaker);
  breaker->add_option("STATE", all.given.state, "open (until it is closed by hand) or closed")
      ->required()
      ->check(CLI::IsMember({"open", "closed"}));
  auto* cache = app.add_subcommand("cache", "What the gateway keeps of answers");
  cache->require_subcommand(1);
  all.add(*cache, "clear", "Forget all kept answers", clear_cache);
  all.add(app, "reload", "Make the gateway read its phones.json again", reload_file);
  all.add(app, "save", "Write what was changed by hand into the gateway's phones.json", save_file);
  all.add(app, "top", "Watch the fleet; Ctrl-C ends it", show_top);
}

}  // namespace

std::function<std::optional<int>()> add_client_commands(CLI::App& app) {
  const auto all = std::make_shared<all_subcommands>();
  add_all(*all, app);
  return [all]() -> std::optional<int> {
    for (const subcommand& each : all->list) {
      if (!each.app->parsed()) continue;
      try {
        each.run(all->given);
        return exit_good;
      } catch (const client_failure& e) {
        std::cerr << "pocketfleet: " << e.what() << '\n';
        return e.exit_code;
      }
    }
    return std::nullopt;
  };
}

}  // namespace pocketfleet
