#include "pocketfleet/app/llama_processes.hpp"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <cstring>
#include <filesystem>

extern char** environ;

namespace pocketfleet {
namespace {

/// A port that was free a moment ago.
std::uint16_t free_port() {
  boost::asio::io_context context;
  using tcp = boost::asio::ip::tcp;
  const tcp::acceptor probe(context, tcp::endpoint(boost::asio::ip::address_v4::loopback(), 0));
  return probe.local_endpoint().port();
}

}  // namespace

llama_processes::~llama_processes() {
  for (const int pid : pids_)
    ::kill(pid, SIGKILL);  // it has nothing to save, and SIGTERM may hang on an open stream
  for (const int pid : pids_) ::waitpid(pid, nullptr, 0);
}

result<std::vector<phone_config>> llama_processes::start(const std::string& model_file, unsigned count) {
  std::error_code none;
  if (!std::filesystem::is_regular_file(model_file, none))
    return error(errc::aborted, "no such file: " + model_file);
  const std::string model = std::filesystem::path(model_file).stem().string();
  std::vector<phone_config> phones;
  for (unsigned i = 0; i < count; ++i) {
    phone_config phone;
    phone.name = "llama-" + std::to_string(i + 1);
    phone.host = "127.0.0.1";
    phone.port = free_port();
    phone.model = model;
    phone.engine = engine_kind::llama_server;
    std::vector<std::string> words{
        "llama-server", "-m",  model_file, "--host", phone.host, "--port", std::to_string(phone.port),
        "-a",           model, "-np",      "1",      "-t",       "1",      "--no-webui"};
    std::vector<char*> arguments;
    for (auto& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) {
      posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_WRONLY, 0);
    }
    int pid = 0;
    const int failed = ::posix_spawnp(&pid, "llama-server", &actions, nullptr, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed != 0)
      return error(errc::aborted, std::string("cannot start llama-server: ") + std::strerror(failed));
    pids_.push_back(pid);
    phones.push_back(std::move(phone));
  }
  return phones;
}

}  // namespace pocketfleet
