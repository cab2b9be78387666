#include "group_run.hpp"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "group_plan.hpp"
#include "pocketfleet/app/commands.hpp"
#include "pocketfleet/app/log.hpp"

namespace pocketfleet {
namespace {

constexpr milliseconds tick_interval{50};
constexpr milliseconds settling{1000};  // elsewhere: from its line to its listening
constexpr seconds version_limit{20};

/// The line of --version that says it; empty: there is none.
std::string version_in(const std::string& text) {
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    const std::string line = trimmed(std::string_view(text).substr(at, end - at));
    if (line.starts_with("version:")) return trimmed(line.substr(8));
    at = end + 1;
  }
  return {};
}

}  // namespace

group_supervisor::group_supervisor(const group_config& config)
    : config_(config),
      watch_(config.workers.size(), config.limits),
      members_(config.workers.size() + 1),
      children_(context_.get_executor(), SIGCHLD),
      stop_(context_.get_executor(), SIGTERM, SIGINT, SIGHUP),
      acceptor_(context_.get_executor()),
      ticker_(context_.get_executor()) {}

group_supervisor::~group_supervisor() {
  for (auto& m : members_) {
    if (m.pid > 0) {
      ::kill(-m.pid, SIGKILL);
      ::waitpid(m.pid, nullptr, 0);
    }
    if (m.held >= 0) ::close(m.held);
  }
}

const group_member_config& group_supervisor::config_of(std::size_t who) const {
  return who < config_.workers.size() ? config_.workers[who] : config_.master;
}

int group_supervisor::run() {
  open_logs();
  if (config_.status.port != 0) {
    boost::system::error_code failed;
    const tcp::endpoint at(asio::ip::make_address(config_.status.address), config_.status.port);
    acceptor_.open(at.protocol(), failed);
    if (!failed) acceptor_.set_option(tcp::acceptor::reuse_address(true), failed);
    if (!failed) acceptor_.bind(at, failed);
    if (!failed) acceptor_.listen(16, failed);
    if (failed) {
      log(log_level::error, "cannot serve the status", {{"why", std::string_view(failed.message())}});
      return exit_failed;
    }
    asio::co_spawn(context_.get_executor(), serve_status(), asio::detached);
  }
  asio::co_spawn(context_.get_executor(), until_told(), asio::detached);
  asio::co_spawn(context_.get_executor(), everything(), [this](const std::exception_ptr& thrown) {
    context_.stop();
    if (thrown) std::rethrow_exception(thrown);
  });
  context_.run();
  return exit_code_;
}

task<> group_supervisor::everything() {
  const bool same = co_await same_builds();
  if (!same) {
    exit_code_ = exit_failed;
    co_return;
  }
  if (over_) co_return;
  asio::co_spawn(context_.get_executor(), reap(), asio::detached);
  asio::co_spawn(context_.get_executor(), look(), asio::detached);
  for (;;) {
    act(watch_.begin(clock::now()));
    co_await tick();
    if (over_ || !next_) break;
    take(std::move(*next_));
    next_.reset();
  }
}

/// A master that meets another version ends at once, and what it says of that is easily overlooked.
task<bool> group_supervisor::same_builds() {
  const std::size_t master = watch_.master();
  for (std::size_t i = members_.size(); i-- > 0 && !over_;) {
    const word_list words = version_command_of(config_, i);
    const std::string said = co_await capture(words);
    members_[i].build = version_in(said);
  }
  const std::string& wanted = members_[master].build;
  bool same = true;
  for (std::size_t i = 0; i < master; ++i) {
    const std::string& build = members_[i].build;
    if (build.empty() || wanted.empty() || build == wanted) continue;
    same = false;
    log(log_level::error, "version_mismatch: nothing is started",
        {{"worker", std::string_view(config_of(i).name)},
         {"has", std::string_view(build)},
         {"master_has", std::string_view(wanted)}});
  }
  co_return same;
}

task<std::string> group_supervisor::capture(const word_list& words) {
  std::string out;
  const auto started = start_child(words);
  if (!started) co_return out;
  pipe_end from(context_.get_executor(), started->said);
  wait_timer limit(context_.get_executor());
  limit.expires_after(version_limit);
  // Its group is killed as soon as it has been read, and it is reaped below: the number is still its own.
  limit.async_wait([pid = started->pid](const boost::system::error_code& ended) {
    if (!ended) ::kill(-pid, SIGKILL);
  });
  std::array<char, 4096> part{};
  while (out.size() < std::size_t{1} << 16U) {
    const auto [failed, got] = co_await from.async_read_some(asio::buffer(part), use_result);
    if (failed) break;
    out.append(part.data(), got);
  }
  limit.cancel();
  ::kill(-started->pid, SIGKILL);
  ::waitpid(started->pid, nullptr, 0);
  ::close(started->held);
  co_return out;
}

// ---- what is to be done

void group_supervisor::act(const group_watch::actions& todo) {
  for (const auto& a : todo) {
    switch (a.kind) {
      case group_action::what::start: start(a.who); break;
      case group_action::what::terminate: send(a.who, SIGTERM); break;
      case group_action::what::kill: send(a.who, SIGKILL); break;
      case group_action::what::lost: lose(a.who); break;
    }
  }
  const bool ends = watch_.phase() == group_phase::ending || watch_.phase() == group_phase::ended;
  if (next_ && !ends) return act(watch_.end(clock::now()));
  tell_of_changes();
}

void group_supervisor::lose(std::size_t who) {
  auto next = who == watch_.master() ? result<group_config>(error(errc::bad_request, "it is the master"))
                                     : planned_without(config_, who);
  const std::string name = config_of(who).name;
  if (next) {
    next_ = std::move(*next);
    left_out_.push_back(name);
    log(log_level::warning, "a member is lost, the others go on without it",
        {{"member", std::string_view(name)}});
    return;
  }
  log(log_level::error, "a member is lost",
      {{"member", std::string_view(name)},
       {"no_plan_without_it", std::string_view(next.error().message)},
       {"remedy",
        "it is tried again now and then; or pocketfleet plan without it, and its numbers into the file"}});
}

/// None of the processes is left.
void group_supervisor::take(group_config next) {
  config_ = std::move(next);
  watch_ = group_watch(config_.workers.size(), config_.limits);
  members_ = std::vector<member>(config_.workers.size() + 1);
  ++era_;
  open_logs();
}

void group_supervisor::open_logs() {
  if (config_.log_folder.empty()) return;
  std::error_code failed;
  std::filesystem::create_directories(config_.log_folder, failed);
  for (std::size_t i = 0; i < members_.size(); ++i)
    members_[i].file.open(config_.log_folder + "/" + config_of(i).name + ".log", std::ios::app);
}

void group_supervisor::start(std::size_t who) {
  member& m = members_[who];
  m.tail.clear();
  m.last_words.reset();
  m.met_odd_answer = false;
  m.says_it_starts.reset();
  std::optional<group_cause> differs;
  if (who == watch_.master()) {
    for (std::size_t i = 1; i < who; ++i) {
      if (!members_[i].protocol.empty() && members_[i].protocol != members_[0].protocol)
        differs = group_cause{group_fault::version_mismatch, i};
    }
  } else {
    m.protocol.clear();
  }
  const auto started = differs ? result<child>(error(errc::aborted, "the workers' versions differ"))
                               : start_child(command_of(config_, who));
  if (!started) {
    m.tail.push_back(started.error().message);
    asio::post(context_, [this, who, differs] { act(watch_.exited(who, differs, clock::now())); });
    return;
  }
  m.pid = started->pid;
  m.held = started->held;
  m.said = std::make_shared<output>(pipe_end(context_.get_executor(), started->said));
  asio::co_spawn(context_.get_executor(), read_output(who, m.said), asio::detached);
}

void group_supervisor::send(std::size_t who, int signal) {
  member& m = members_[who];
  if (m.pid <= 0) return;
  if (!is_here(who) && m.held >= 0) {  // SSH hands on no signal
    ::close(m.held);
    m.held = -1;
  }
  ::kill(-m.pid, signal);
}

// ---- what happens

task<> group_supervisor::reap() {
  for (;;) {
    collect_ended();
    const auto [failed, signal] = co_await children_.async_wait(use_result);
    if (failed) co_return;
  }
}

void group_supervisor::collect_ended() {
  for (std::size_t i = 0; i < members_.size(); ++i) {
    int status = 0;
    if (members_[i].pid > 0 && ::waitpid(members_[i].pid, &status, WNOHANG) == members_[i].pid)
      ended(i, status);
  }
}

void group_supervisor::ended(std::size_t who, int status) {
  member& m = members_[who];
  ::kill(-m.pid, SIGKILL);  // whatever it has left behind
  if (m.held >= 0) ::close(m.held);
  m.held = -1;
  m.pid = -1;
  hear_rest(who);
  const bool expected = watch_.members()[who].ending;
  const std::string how = WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status))
                                              : "exit code " + std::to_string(WEXITSTATUS(status));
  const std::string last = m.tail.empty() || expected ? std::string{} : m.tail.back();
  log(expected ? log_level::info : log_level::warning, expected ? "ended" : "has died",
      {{"member", std::string_view(config_of(who).name)},
       {"how", std::string_view(how)},
       {"last_line", std::string_view(last)}});
  act(watch_.exited(who, reason_of(who), clock::now()));
}

task<> group_supervisor::until_told() {
  const auto [failed, signal] = co_await stop_.async_wait(use_result);
  if (failed) co_return;
  over_ = true;
  log(log_level::info, "stopping", {});
  if (watch_.phase() == group_phase::off) {
    context_.stop();
    co_return;
  }
  act(watch_.end(clock::now()));
}

task<> group_supervisor::tick() {
  while (watch_.phase() != group_phase::ended) {
    if (watch_.phase() == group_phase::workers) look_for_listeners();
    act(watch_.tick(clock::now()));
    collect_ended();  // signals may come together and be told as one
    if (watch_.phase() == group_phase::ended) break;
    ticker_.expires_after(tick_interval);
    co_await ticker_.async_wait(use_result);
  }
}

// ---- looks

/// From the process's own side: nobody knocks at a worker's port.
void group_supervisor::look_for_listeners() {
  for (std::size_t i = 0; i < watch_.master(); ++i) {
    const auto& m = members_[i];
    if (m.pid <= 0 || watch_.members()[i].listens) continue;
    const bool there = is_here(i) ? listens(m.pid, config_of(i).port)
                                  : m.says_it_starts && clock::now() - *m.says_it_starts >= settling;
    if (there) act(watch_.listening(i, clock::now()));
  }
}

void group_supervisor::look_at_processes(group_look& into) const {
  const std::size_t master = watch_.master();
  std::optional<std::vector<tcp_line>> of_master;
  if (is_here(master) && members_[master].pid > 0) {
    into.master = look_at(members_[master].pid);
    of_master = tcp_of(members_[master].pid);
  }
  constexpr unsigned established = 1;
  constexpr unsigned connects = 2;
  into.workers.resize(master);
  for (std::size_t i = 0; i < master; ++i) {
    process_look& w = into.workers[i];
    const auto end = rpc_end_of(config_of(i).endpoint());
    for (const tcp_line& l : of_master.value_or(std::vector<tcp_line>{})) {
      const bool to_it = end && l.far.address == end->address && l.far.port == end->port;
      if (to_it && (l.state == established || l.state == connects) && l.tries > 0) w.unheard = true;
    }
    if (!is_here(i) || members_[i].pid <= 0) continue;
    const bool unheard = w.unheard;
    w = look_at(members_[i].pid);
    w.unheard = unheard;
    const auto own = tcp_of(members_[i].pid);
    if (!own) continue;
    w.clients = 0;
    const auto bound = rpc_end_of(config_of(i).host + ":" + std::to_string(config_of(i).port));
    for (const tcp_line& l : *own) {
      if (l.state != established || !bound || l.near.port != bound->port) continue;
      if (bound->address != 0 && l.near.address != bound->address) continue;
      ++*w.clients;
      if (l.tries > 0) w.unheard = true;
    }
  }
}

task<> group_supervisor::look() {
  wait_timer timer(context_.get_executor());
  for (;;) {
    const bool starts = watch_.phase() == group_phase::master;
    if (starts || watch_.phase() == group_phase::serving) {
      const unsigned era = era_;
      const unsigned which = watch_.members()[watch_.master()].starts;
      group_look found;
      std::string body;
      const std::string path = starts ? "/health" : "/slots";
      int status = 0;
      look_at_processes(found);
      if (found.master.state != process_state::stopped) status = co_await get(path, body);
      found.ready = status == 200;
      found.answers = status != 0;
      if (!starts && status == 200) read_slots(body, found);
      look_at_processes(found);
      const bool same = era == era_ && which == watch_.members()[watch_.master()].starts &&
                        starts == (watch_.phase() == group_phase::master);
      if (same) act(watch_.looked(found, clock::now()));
    }
    timer.expires_after(starts ? std::min(config_.interval, milliseconds{200}) : config_.interval);
    co_await timer.async_wait(use_result);
  }
}

}  // namespace pocketfleet
