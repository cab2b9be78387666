#include "group_process.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "pocketfleet/app/listen_address.hpp"

namespace pocketfleet {
namespace {

constexpr unsigned established = 1;
constexpr unsigned listening = 10;

std::string proc(pid_t pid, std::string_view what) {
  return "/proc/" + std::to_string(pid) + "/" + std::string(what);
}

/// Never returns.
[[noreturn]] void become(std::vector<char*>& words, pid_t parent, int in, int out) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // it ended before that was said
  ::dup2(in, STDIN_FILENO);
  ::dup2(out, STDOUT_FILENO);
  ::dup2(out, STDERR_FILENO);
  ::close_range(STDERR_FILENO + 1, ~0U, 0);  // sockets of ours have no mark that they end here
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const int each : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) ::signal(each, SIG_DFL);
  ::signal(SIGPIPE, SIG_IGN);  // stays so over exec
  ::execvp(words[0], words.data());
  for (const char* text : {"cannot run ", static_cast<const char*>(words[0]), "\n"}) {
    if (::write(STDERR_FILENO, text, std::strlen(text)) < 0) break;
  }
  ::_exit(127);
}

std::optional<rpc_end> parse_hex_end(const std::string& text) {
  unsigned address = 0;
  unsigned port = 0;
  if (text.size() != 13 || std::sscanf(text.c_str(), "%8X:%4X", &address, &port) != 2) return std::nullopt;
  return rpc_end{__builtin_bswap32(address), static_cast<std::uint16_t>(port)};
}

std::set<std::uint64_t> sockets_of(pid_t pid) {
  std::set<std::uint64_t> out;
  std::error_code failed;
  for (std::filesystem::directory_iterator at(proc(pid, "fd"), failed), end; !failed && at != end;
       at.increment(failed)) {
    std::error_code gone;
    const std::string target = std::filesystem::read_symlink(at->path(), gone).string();
    if (unsigned long long inode = 0; std::sscanf(target.c_str(), "socket:[%llu]", &inode) == 1)
      out.insert(inode);
  }
  return out;
}

}  // namespace

result<child> start_child(const std::vector<std::string>& words) {
  std::array<int, 2> in{-1, -1};
  std::array<int, 2> out{-1, -1};
  const auto failed = [&] {
    const std::string why = std::strerror(errno);
    for (const int fd : {in[0], in[1], out[0], out[1]}) {
      if (fd >= 0) ::close(fd);
    }
    return error(errc::aborted, "cannot start a process: " + why);
  };
  if (::pipe2(in.data(), O_CLOEXEC) != 0 || ::pipe2(out.data(), O_CLOEXEC) != 0) return failed();
  std::vector<std::string> copies(words);
  std::vector<char*> arguments;
  for (auto& word : copies) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return failed();
  if (pid == 0) become(arguments, parent, in[0], out[1]);
  ::setpgid(pid, pid);  // whoever of the two is first
  ::close(in[0]);
  ::close(out[1]);
  return child{pid, out[0], in[1]};
}

std::optional<rpc_end> rpc_end_of(const std::string& host_and_port) {
  const auto at = parse_listen_address(host_and_port);
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  if (!at || std::sscanf(at->address.c_str(), "%u.%u.%u.%u", &a, &b, &c, &d) != 4) return std::nullopt;
  return rpc_end{(a << 24U) | (b << 16U) | (c << 8U) | d, at->port};
}

std::optional<tcp_line> parse_tcp_line(const std::string& line) {
  std::istringstream in(line);
  std::string number, near, far, state, queues, timer, tries, uid, timeout;
  tcp_line out;
  if (!(in >> number >> near >> far >> state >> queues >> timer >> tries >> uid >> timeout >> out.inode))
    return std::nullopt;
  const auto n = parse_hex_end(near);
  const auto f = parse_hex_end(far);
  const auto hex = [](const std::string& text, unsigned& into) {
    return std::from_chars(text.data(), text.data() + text.size(), into, 16).ec == std::errc{};
  };
  if (!n || !f || !hex(state, out.state) || !hex(tries, out.tries)) return std::nullopt;
  out.near = *n;
  out.far = *f;
  return out;
}

std::optional<std::vector<tcp_line>> tcp_of(pid_t pid) {
  std::ifstream in(proc(pid, "net/tcp"));
  std::string line;
  if (!std::getline(in, line)) return std::nullopt;  // the heading
  std::vector<tcp_line> out;
  while (std::getline(in, line)) {
    if (auto one = parse_tcp_line(line)) out.push_back(*one);
  }
  return out;
}

bool listens(pid_t pid, std::uint16_t port) {
  const auto all = tcp_of(pid);
  if (!all) return false;
  const auto own = sockets_of(pid);
  return std::any_of(all->begin(), all->end(), [&](const tcp_line& l) {
    return l.state == listening && l.near.port == port && own.contains(l.inode);
  });
}

process_look look_at(pid_t pid) {
  process_look out;
  std::ifstream in(proc(pid, "stat"));
  std::string all;
  if (!std::getline(in, all)) return out;
  std::istringstream rest(all.substr(std::min(all.size(), all.rfind(')') + 1)));
  std::string state;
  rest >> state;
  out.state = state == "T" || state == "t" ? process_state::stopped : process_state::running;
  std::string skipped;
  for (int i = 0; i < 10; ++i) rest >> skipped;
  std::int64_t user = 0;
  std::int64_t kernel = 0;
  if (rest >> user >> kernel) out.cpu = milliseconds((user + kernel) * 1000 / ::sysconf(_SC_CLK_TCK));
  return out;
}

}  // namespace pocketfleet
