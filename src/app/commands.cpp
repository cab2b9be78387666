#include "pocketfleet/app/commands.hpp"

#include <csignal>
#include <filesystem>
#include <iostream>

#include "pocketfleet/app/gateway.hpp"
#include "pocketfleet/app/invitation.hpp"
#include "pocketfleet/app/keys_file.hpp"
#include "pocketfleet/app/listen_address.hpp"
#include "pocketfleet/app/llama_processes.hpp"
#include "pocketfleet/app/log.hpp"
#include "pocketfleet/app/registered_file.hpp"
#include "pocketfleet/app/service_manager.hpp"
#include "pocketfleet/app/settings.hpp"
#include "pocketfleet/sim/fleet.hpp"
#include "pocketfleet/wire/digest.hpp"

namespace pocketfleet {
namespace {

void print_mistakes(const loaded_configuration& loaded, const std::string& file) {
  for (const auto& m : loaded.mistakes) std::cerr << error_prefix() << to_string(m, file) << '\n';
}

void complain(const std::string& what) {
  std::cerr << error_prefix() << "pocketfleet: " << what << '\n';
}

/// The command line goes before the file. False: it is wrong, and that was said.
bool take_listen(gateway_settings& settings, const std::string& text, std::string_view remedy) {
  if (text.empty()) return true;
  const auto listen = parse_listen_address(text);
  if (!listen) {
    std::cerr << "--listen " << text << ": expected " << listen_address_form << '\n';
    return false;
  }
  if (!is_loopback(listen->address) && !settings.allow_unauthenticated_lan && settings.keys.empty()) {
    std::cerr << "--listen " << text << ": " << remedy << '\n';
    return false;
  }
  settings.listener.address = listen->address;
  settings.listener.port = listen->port;
  return true;
}

/// What `ready` prints is for people, on standard output.
int run(const configuration& c, const std::string& file,
        const std::function<void(const std::string&)>& ready) {
  const auto handed = handed_socket(c.gateway.listener.address, c.gateway.listener.port);
  if (!handed) {
    complain(handed.error().message);
    return exit_bad_file;
  }
  gateway all(c);
  all.catch_signals(file);
  const auto port = all.listen(*handed);
  if (!port) {
    complain(port.error().message);
    return exit_failed;
  }
  const std::string address = to_string(listen_address{c.gateway.listener.address, *port});
  log(log_level::info, "listening on " + address, {{"phones", static_cast<std::int64_t>(c.phones.size())}});
  if (ready) ready(address);
  tell_ready();
  all.run();
  // From here on a signal changes nothing: without this one that comes late would end the process in its own
  // way.
  sigset_t every;
  ::sigfillset(&every);
  ::pthread_sigmask(SIG_SETMASK, &every, nullptr);
  log(log_level::info, "stopped", {});
  return exit_good;
}

/// Text that a shell takes as one word, as it is.
bool is_plain_word(std::string_view text) {
  constexpr std::string_view letters =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:/@+=,-";
  return !text.empty() && text.size() <= 256 && text.find_first_not_of(letters) == std::string_view::npos;
}

void print_try(const std::string& address, std::string_view what, const std::string& key) {
  std::cout << what << "\nTry:\n\n  curl -s http://" << address
            << R"(/ask -d '{"prompt":"Count to ten.","options":{"num_predict":10}}')"
            << "\n\n  curl -sN http://" << address
            << R"(/ask_stream -d '{"prompt":"Count to twenty.","options":{"num_predict":20}}')"
            << "\n\n  curl -s http://" << address << "/health\n\nor http://" << address
            << "/ in a browser.\n\nWhat changes the fleet takes this run's admin key: " << key
            << "\nCtrl-C ends it.\n"
            << std::flush;
}

}  // namespace

int serve(const serve_arguments& arguments) {
  auto loaded = load_configuration(arguments.phones);
  if (!loaded.ok()) {
    print_mistakes(loaded, arguments.phones);
    return exit_bad_file;
  }
  constexpr std::string_view remedy =
      R"(beyond this machine only with "api_keys_file" or "allow_unauthenticated_lan": true in the file)";
  if (!take_listen(loaded.value.gateway, arguments.listen, remedy)) return exit_bad_file;
  set_up_log(loaded.value.gateway.log_level, loaded.value.gateway.log);
  return run(loaded.value, arguments.phones, {});
}

int check(const std::string& file) {
  const auto loaded = load_configuration(file);
  if (!loaded.ok()) {
    print_mistakes(loaded, file);
    return exit_bad_file;
  }
  const auto& gateway = loaded.value.gateway;
  std::cout << file << ": good: " << loaded.value.phones.size()
            << (loaded.value.phones.size() == 1 ? " phone" : " phones") << ", listen "
            << to_string(listen_address{gateway.listener.address, gateway.listener.port}) << ", policy "
            << gateway.policy << '\n';
  return exit_good;
}

int invite(const invite_arguments& arguments) {
  const auto loaded = load_without_token(arguments.phones);
  if (!loaded.ok()) {
    print_mistakes(loaded, arguments.phones);
    return exit_bad_file;
  }
  const gateway_settings& g = loaded.value.gateway;
  if (g.registration.mode != registration_mode::open || g.registration.token_file.empty()) {
    std::cerr
        << arguments.phones
        << R"(: phones cannot join. It takes, in "gateway": "registration": "open", "fleet_token_file": "token")"
        << '\n';
    return exit_bad_file;
  }
  if (arguments.model.empty() || arguments.model.front() == '-' || !is_plain_word(arguments.model)) {
    std::cerr << "--model: expected a model's name, as qwen2.5:1.5b\n";
    return exit_bad_file;
  }
  std::string address = arguments.address;
  if (address.empty()) {
    auto found = address_for_phones(g.listener);
    if (!found) {
      std::cerr << "pocketfleet: " << found.error().message << '\n';
      return exit_bad_file;
    }
    address = std::move(*found);
  } else if (!is_plain_word(address)) {
    std::cerr << "--address: expected HOST:PORT\n";
    return exit_bad_file;
  }
  const std::string& file = g.registration.token_file;
  if (!std::filesystem::exists(file)) {
    if (const auto made = write_atomically(file, new_token() + "\n"); !made) {
      std::cerr << "pocketfleet: " << made.error().message << '\n';
      return exit_failed;
    }
    std::cerr << "made " << file << ": the gateway takes it when it is started, or with SIGHUP\n";
  }
  const auto read = read_token(file);
  if (read.wrong) {
    std::cerr << to_string(*read.wrong, arguments.phones) << '\n';
    return exit_bad_file;
  }
  const std::string command = join_command(address, read.token, arguments.model);
  std::cout << "On the phone, in Termux (the token in it lets any phone join):\n\n  " << command << '\n';
  if (arguments.qr) std::cout << '\n' << qr_code(command);
  return exit_good;
}

int demo(const demo_arguments& arguments) {
  configuration c;
  if (!take_listen(c.gateway, arguments.listen, "the demo is for this machine only")) return exit_bad_file;
  c.gateway.service.probe.interval = seconds{2};  // who kills one of the phones wants to see it
  const std::string key = new_api_key();
  api_key admin;
  admin.digest = sha256(key);
  admin.terms.name = "demo";
  admin.terms.role = key_role::admin;
  c.gateway.keys.push_back(std::move(admin));
  set_up_log("warn", log_format::text);
  if (!arguments.model.empty()) {
    llama_processes processes;
    auto phones = processes.start(arguments.model, arguments.phones);
    if (!phones) {
      std::cerr << "pocketfleet: " << phones.error().message << '\n';
      return exit_failed;
    }
    c.phones = std::move(*phones);
    set_up_log("info", log_format::text);
    return run(c, {}, [&](const std::string& address) {
      print_try(address, std::to_string(arguments.phones) + " llama-server processes are the phones.", key);
    });
  }
  std::vector<sim::phone_settings> phones;
  for (unsigned i = 0; i < arguments.phones; ++i) {
    sim::phone_settings phone;
    phone.engine = i % 2 == 0 ? engine_kind::ollama : engine_kind::llama_server;
    phone.name = "sim-" + std::to_string(i + 1);
    phone.decode_rate = 8.0 + 2.0 * (i % 3);  // phones differ
    phones.push_back(std::move(phone));
  }
  sim::fleet fleet(std::move(phones));
  fleet.start();
  c.phones = fleet.configs();
  set_up_log("info", log_format::text);
  return run(c, {}, [&](const std::string& address) {
    print_try(address,
              std::to_string(arguments.phones) + " simulated phones, of both engines; their answers count.",
              key);
  });
}

int sim_phones(const sim_arguments& arguments) {
  const auto engine = engine_from_string(arguments.engine).value_or(engine_kind::ollama);
  asio::io_context context(1);
  std::vector<sim::phone> phones;
  for (unsigned i = 0; i < arguments.count; ++i) {
    sim::phone_settings s;
    s.engine = engine;
    s.name = "sim-" + std::to_string(i + 1);
    s.model = arguments.model;
    s.port =
        arguments.base_port == 0 ? std::uint16_t{0} : static_cast<std::uint16_t>(arguments.base_port + i);
    s.decode_rate = arguments.decode_rate;
    s.prefill_rate = arguments.prefill_rate;
    s.load_time = milliseconds(arguments.load_ms);
    s.slots = arguments.slots;
    s.gain_of_more = arguments.gain_of_more;
    s.prompt_cache = arguments.prompt_cache;
    s.answer_tokens = arguments.answer_tokens;
    s.context = arguments.context;
    s.thinking = arguments.reasoning != 0;
    s.reasoning_tokens = arguments.reasoning;
    s.embedding = arguments.embeddings;
    s.tools = arguments.tools;
    s.messages = arguments.messages;
    s.other_models = arguments.other_models;
    phones.emplace_back(context, std::move(s));
    phones.back().start();
    std::cout << "sim: " << phones.back().settings().name << " engine=" << arguments.engine
              << " http://127.0.0.1:" << phones.back().port() << std::endl;
  }
  asio::signal_set signals(context, SIGTERM, SIGINT);
  signals.async_wait([&](const boost::system::error_code&, int) { context.stop(); });
  context.run();
  return exit_good;
}

}  // namespace pocketfleet
