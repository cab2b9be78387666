// The file of `pocketfleet group`: one model, its master and its workers, and how they are started.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "pocketfleet/app/listen_address.hpp"
#include "pocketfleet/app/settings.hpp"
#include "pocketfleet/core/group_watch.hpp"

namespace pocketfleet {

using word_list = std::vector<std::string>;

/// A process of the group, on this machine or on another.
struct group_member_config {
  std::string name;
  std::string host;  ///< that it is bound to
  std::uint16_t port = 0;
  std::string program;
  word_list arguments{};    ///< beside those that follow from the rest of the file
  word_list environment{};  ///< NAME=VALUE
  word_list prefix{};       ///< words before the program, which these end by running: nsenter, nice, ...
  word_list ssh{};          ///< the command that gives its last word to a shell elsewhere; empty: here
  word_list version{};      ///< says which build it is; empty: the program with --version
  std::string at{};         ///< of a worker: HOST:PORT where the master reaches it; empty: host and port
  bool on_all_addresses = false;  ///< somebody means it

  std::string endpoint() const;
};

/// What is needed to plan anew when a worker is lost.
struct group_replan {
  std::string phones{};  ///< a file as for `pocketfleet plan`; empty: nothing is planned
  std::string model{};   ///< the GGUF file as this machine names it; empty: as the master's does
  std::uint64_t context = 4096;
  std::uint64_t batch = 512;
  double share = 0.7;
};

struct group_config {
  std::string name = "group";
  std::string model;  ///< the file, as the master's machine names it
  group_member_config master{};
  std::vector<group_member_config> workers{};
  std::vector<unsigned> tensor_split{};  ///< one for each worker
  unsigned ngl = 0;
  bool output_on_master = false;
  group_replan replan{};
  std::string api_key_file{};             ///< the master's, for looking at its slots
  std::string api_key{};                  ///< read from there
  std::string log_folder{};               ///< what the processes say goes there, a file each; empty: nowhere
  listen_address status{"127.0.0.1", 0};  ///< port 0: no status is served
  milliseconds interval{1000};            ///< between two looks
  group_limits limits{};
};

struct loaded_group {
  group_config value{};
  std::vector<mistake> mistakes{};
  bool ok() const { return mistakes.empty(); }
};
loaded_group parse_group(std::string_view text);
/// Paths in it that are this machine's count from its folder; the key is read.
loaded_group load_group(const std::string& file);

/// The words that start it; the last worker's index + 1 is the master's.
word_list command_of(const group_config& group, std::size_t who);
/// The words that say which build it is.
word_list version_command_of(const group_config& group, std::size_t who);

}  // namespace pocketfleet
