#include "plan_commands.hpp"

#include <filesystem>

#include "host_text.hpp"

namespace pocketfleet {
namespace {

constexpr std::string_view loopback = "127.0.0.1";

std::string joined(const std::vector<std::string>& parts) {
  std::string out;
  for (const auto& p : parts) out.append(out.empty() ? "" : ",").append(p);
  return out;
}

struct writer {
  const shard_plan& plan;
  const plan_options& options;
  const std::vector<plan_phone>& phones;
  const command_settings& settings;

  const plan_phone& master() const { return phones[plan.layout.master]; }

  plan_command worker(const shard_member& m) const {
    const auto& p = phones[m.device];
    const std::string address = settings.tunnel ? std::string(loopback) : p.host;
    // A client that gives up while it waits for its turn ends the server by SIGPIPE, were it not ignored.
    return {m.device, "worker",
            "( trap '' PIPE; exec ggml-rpc-server -H " + address + " -p " +
                std::to_string(rpc_port_of(p, settings)) + " -t " + std::to_string(p.threads_used()) + " )"};
  }

  /// Who can be connected to is connected to.
  plan_command tunnel(const shard_member& m, const std::string& at_master) const {
    const auto& p = phones[m.device];
    const std::string at_worker = std::string(loopback) + ":" + std::to_string(rpc_port_of(p, settings));
    const std::string head =
        "ssh -N -T -o BatchMode=yes -o ExitOnForwardFailure=yes -o ServerAliveInterval=15 -o "
        "ServerAliveCountMax=3 ";
    const auto to = [](const plan_phone& there) {
      return " -p " + std::to_string(there.ssh_port) + " " + (there.ssh.empty() ? there.host : there.ssh);
    };
    const std::string ends = at_master + ":" + at_worker;
    if (p.accepts) return {plan.layout.master, "tunnel", head + "-L " + ends + to(p)};
    return {m.device, "tunnel", head + "-R " + ends + to(master())};
  }

  plan_command serve(const std::vector<std::string>& endpoints) const {
    const auto& p = master();
    std::string file = p.model_path;
    if (file.empty()) file = std::filesystem::path(settings.model).filename().string();
    std::string text = "llama-server -m " + shell_word(file) + " --host " + p.host + " --port " +
                       std::to_string(p.http_port);
    if (!endpoints.empty()) {
      std::vector<std::string> split;
      for (const auto n : plan.tensor_split()) split.push_back(std::to_string(n));
      text += " --rpc " + joined(endpoints) + " -ts " + joined(split) + " -ngl " +
              std::to_string(plan.ngl()) + " -sm layer -fit off";
      if (plan.layout.output_on_master) text += " -ot '^output\\.weight$=CPU'";
    }
    text += " -fa off -np 1 --cache-ram 0 -c " + std::to_string(options.context) + " -b " +
            std::to_string(options.batch) + " -ub " + std::to_string(options.batch) + " -t " +
            std::to_string(p.threads_used());
    return {plan.layout.master, "master", text};
  }
};

}  // namespace

std::string shell_word(const std::string& text) {
  constexpr std::string_view plain =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:/@+=,-";
  const bool home = text.starts_with("~/");
  const std::string rest = home ? text.substr(2) : text;
  if (!rest.empty() && rest.find_first_not_of(plain) == std::string::npos) return text;
  std::string out = home ? "~/'" : "'";
  for (const char c : rest) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::uint16_t rpc_port_of(const plan_phone& phone, const command_settings& settings) {
  return phone.rpc_port != 0 ? phone.rpc_port : settings.port;
}

std::vector<std::string> endpoints_of(const shard_plan& plan, const std::vector<plan_phone>& phones,
                                      const command_settings& settings) {
  std::vector<std::string> out;
  for (std::size_t i = 1; i < plan.members.size(); ++i) {
    const auto& p = phones[plan.members[i].device];
    // At the master's end of the tunnel each has a port of its own.
    out.push_back(settings.tunnel ? join_host_port(loopback, settings.port + static_cast<unsigned>(i))
                                  : join_host_port(p.host, rpc_port_of(p, settings)));
  }
  return out;
}

std::vector<plan_command> commands_of(const shard_plan& plan, const plan_options& options,
                                      const std::vector<plan_phone>& phones,
                                      const command_settings& settings) {
  const writer w{plan, options, phones, settings};
  const auto endpoints = endpoints_of(plan, phones, settings);
  std::vector<plan_command> out;
  for (std::size_t i = 1; i < plan.members.size(); ++i) out.push_back(w.worker(plan.members[i]));
  for (std::size_t i = 1; settings.tunnel && i < plan.members.size(); ++i) {
    out.push_back(w.tunnel(plan.members[i], endpoints[i - 1]));
  }
  out.push_back(w.serve(endpoints));
  return out;
}

std::vector<std::string> safety_of(const shard_plan& plan, const std::vector<plan_phone>& phones,
                                   const command_settings& settings) {
  std::vector<std::string> out;
  const auto& master = phones[plan.layout.master];
  out.push_back("llama-server answers whoever reaches " + join_host_port(master.host, master.http_port) +
                ": give it --api-key-file, and the gateway the same key (\"api_key_file\").");
  if (plan.layout.workers.empty()) return out;
  out.push_back(
      "rpc-server has no authentication and no encryption. Whoever reaches its port can read what is asked, "
      "write into its memory and end it: llama.cpp calls it insecure by design.");
  if (settings.tunnel) {
    out.push_back(
        "Here it listens on 127.0.0.1 only; on a phone, its other apps can still reach it. What crosses the "
        "network is SSH: give its key no shell (restrict,port-forwarding in authorized_keys).");
  } else {
    out.push_back(
        "It is bound to the phone's own address, never to 0.0.0.0. Let only " + master.host + " reach " +
        joined(endpoints_of(plan, phones, settings)) +
        ": a phone without root has no firewall, so in the access point, or in a Wi-Fi of their own; "
        "on Linux: ufw allow from " +
        master.host + " to any port " + std::to_string(settings.port) +
        " proto tcp. On a network that others use: --tunnel.");
  }
  out.push_back(
      "Workers and master must come from the same build of llama.cpp: compare --version before the first "
      "start. Start all workers before the master, which ends at once if one does not answer.");
  out.push_back(
      "A worker serves one client at a time. While it is busy, do not look at its port, not even with "
      "--probe: a connection more waits silently, and the ones after it are lost.");
  return out;
}

}  // namespace pocketfleet
