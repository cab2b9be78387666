// A group's supervisor: its processes, its looks at them, its status for the gateway.
#pragma once

#include <array>
#include <boost/asio/basic_signal_set.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <deque>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "group_file.hpp"
#include "group_process.hpp"
#include "pocketfleet/core/group_watch.hpp"
#include "pocketfleet/service/async.hpp"
#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {

/// What a master's /slots says, into `busy` and `progress`.
void read_slots(const std::string& body, group_look& into);

/// Without spaces at either end, and without what ends a line.
std::string trimmed(std::string_view text);

/// Single-threaded. run() serves until SIGTERM or SIGINT; no child is left when it returns.
class group_supervisor {
 public:
  explicit group_supervisor(const group_config& config);
  ~group_supervisor();
  group_supervisor(const group_supervisor&) = delete;
  group_supervisor& operator=(const group_supervisor&) = delete;

  int run();  ///< the program's exit code

 private:
  using tcp = asio::ip::tcp;
  using socket = asio::basic_stream_socket<tcp, executor>;
  using pipe_end = asio::posix::basic_stream_descriptor<executor>;

  /// Where a process speaks, and the line that it has begun.
  struct output {
    explicit output(pipe_end end) : from(std::move(end)) {}
    pipe_end from;
    std::string line{};
  };

  /// A member's process, and what is known of it.
  struct member {
    pid_t pid = -1;
    int held = -1;
    std::shared_ptr<output> said{};
    std::deque<std::string> tail{};  ///< its last lines
    std::string build{};             ///< the line with its version
    std::string protocol{};          ///< as rpc-server says when it starts
    std::optional<time_point> says_it_starts{};
    std::optional<group_cause> last_words{};  ///< why it ends, by what it says
    bool met_odd_answer = false;              ///< of the master: it took a worker for broken
    std::ofstream file{};
  };

  task<> everything();
  task<bool> same_builds();
  task<std::string> capture(const word_list& words);
  task<> tick();
  task<> look();
  task<> read_output(std::size_t who, std::shared_ptr<output> said);
  task<> reap();
  task<> until_told();
  task<> serve_status();
  task<> answer(socket with);
  task<int> get(std::string path, std::string& body);

  void act(const group_watch::actions& todo);
  void start(std::size_t who);
  void send(std::size_t who, int signal);
  void hear(std::size_t who, output& said, std::string_view text);
  void hear_rest(std::size_t who);
  void note_line(std::size_t who, std::string line);
  void note_reason(std::size_t who, const std::string& line);
  std::optional<group_cause> reason_of(std::size_t who) const;
  std::size_t worker_in(const std::string& line) const;
  void collect_ended();
  void ended(std::size_t who, int status);
  void look_for_listeners();
  bool is_here(std::size_t who) const { return config_of(who).ssh.empty(); }
  void look_at_processes(group_look& into) const;
  void lose(std::size_t who);
  void take(group_config next);
  void open_logs();
  void tell_of_changes();
  const group_member_config& config_of(std::size_t who) const;
  std::string in_words() const;
  json status() const;

  group_config config_;
  asio::io_context context_{1};
  group_watch watch_;
  std::vector<member> members_;
  asio::basic_signal_set<executor> children_;
  asio::basic_signal_set<executor> stop_;
  asio::basic_socket_acceptor<tcp, executor> acceptor_;
  wait_timer ticker_;
  int exit_code_ = 0;
  bool over_ = false;
  std::string told_{};                   // of the last change
  std::optional<group_config> next_{};   // what is gone on with when all have ended
  std::vector<std::string> left_out_{};  // workers that were lost
  unsigned era_ = 0;                     // how often it was planned anew
};

}  // namespace pocketfleet
