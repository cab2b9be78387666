// Child processes, and what the kernel tells of them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "pocketfleet/core/error.hpp"
#include "pocketfleet/core/group_watch.hpp"

namespace pocketfleet {

/// A child in a process group of its own, which ends with us whatever ends us. Its owner closes the ends of
/// the pipes and reaps it.
struct child {
  pid_t pid = -1;
  int said = -1;  ///< what it writes, both streams
  int held = -1;  ///< its standard input: closed, it tells a shell elsewhere that we are gone
};

/// SIGPIPE is ignored in it: an rpc-server whose client gives up while it waits would die of it. Errors: the
/// machine has no process or file left. A program that cannot be run says so and ends with 127.
result<child> start_child(const std::vector<std::string>& words);

/// Where a worker listens, or is reached: an IPv4 address and a port.
struct rpc_end {
  std::uint32_t address = 0;  ///< host's order
  std::uint16_t port = 0;
};
std::optional<rpc_end> rpc_end_of(const std::string& host_and_port);

/// One line of /proc/PID/net/tcp.
struct tcp_line {
  rpc_end near{};
  rpc_end far{};
  unsigned state = 0;  ///< 1: established, 2: connects, 10: listens
  unsigned tries = 0;  ///< how often it has sent again what nobody acknowledges
  std::uint64_t inode = 0;
};
std::optional<tcp_line> parse_tcp_line(const std::string& line);

/// All connections in the process's network; nothing if the kernel does not tell.
std::optional<std::vector<tcp_line>> tcp_of(pid_t pid);

/// True if a socket of the process listens on that port.
bool listens(pid_t pid, std::uint16_t port);

/// State and time; `unknown` if there is no such process.
process_look look_at(pid_t pid);

}  // namespace pocketfleet
