#include "pocketfleet/app/llama_processes.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <thread>

namespace pocketfleet {
namespace {

/// A port that was free a moment ago.
std::uint16_t free_port() {
  boost::asio::io_context context;
  using tcp = boost::asio::ip::tcp;
  const tcp::acceptor probe(context, tcp::endpoint(boost::asio::ip::address_v4::loopback(), 0));
  return probe.local_endpoint().port();
}

/// False: the process has ended, or takes longer than any engine takes to open its port.
bool wait_until_it_listens(int pid, std::uint16_t port) {
  using tcp = boost::asio::ip::tcp;
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds{30};
  const auto ended = [pid] {
    siginfo_t info{};
    return ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
           info.si_pid != 0;
  };
  while (std::chrono::steady_clock::now() < give_up && !ended()) {
    boost::asio::io_context context;
    tcp::socket socket(context);
    boost::system::error_code refused;
    socket.connect(tcp::endpoint(boost::asio::ip::address_v4::loopback(), port), refused);
    if (!refused) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds{20});  // a process offers no event for this
  }
  return false;
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
    arguments.reserve(words.size() + 1);
    for (auto& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);

    const int pid = ::fork();
    if (pid < 0) return error(errc::aborted, std::string("cannot start a process: ") + std::strerror(errno));
    if (pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // whatever ends us ends it
      const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
      if (nowhere >= 0) {
        ::dup2(nowhere, STDOUT_FILENO);
        ::dup2(nowhere, STDERR_FILENO);
      }
      ::execvp("llama-server", arguments.data());
      ::_exit(127);
    }
    pids_.push_back(pid);
    phones.push_back(std::move(phone));
  }
  for (std::size_t i = 0; i < phones.size(); ++i) {
    if (!wait_until_it_listens(pids_[i], phones[i].port)) {
      return error(errc::aborted, "llama-server does not start; is it installed, and can it read the model?");
    }
  }
  return phones;
}

}  // namespace pocketfleet
