// The service manager that may have started this process (systemd): it is told how things are, hands over the
// listening socket, and ends a process that gives no signs of life. Where there is none, nothing here does
// anything.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "pocketfleet/core/error.hpp"
#include "pocketfleet/service/async.hpp"

namespace pocketfleet {

/// The gateway listens.
void tell_ready();

/// It is about to end, which may take so long.
void tell_stopping(seconds longest);

/// The file is being reread from here to the end of the scope.
class reload_notice {
 public:
  reload_notice();
  reload_notice(const reload_notice&) = delete;
  reload_notice& operator=(const reload_notice&) = delete;
  ~reload_notice();
};

/// The listening socket that was handed over (socket activation), if one was. An error if it is anything else
/// than one TCP socket that listens at `address` and `port` (0: any): who may reach the gateway is decided by
/// what the file says. To be asked once; the environment is cleared of it.
result<std::optional<int>> handed_socket(const std::string& address, std::uint16_t port);

/// Tells the state in words now and then, and gives signs of life: only when every loop has answered a
/// question of this one, so that one that hangs is found out. Used on the first loop's thread.
class service_reports {
 public:
  service_reports(std::vector<asio::io_context*> loops, std::function<std::string()> state);
  service_reports(const service_reports&) = delete;
  service_reports& operator=(const service_reports&) = delete;

  void start();
  void stop() { timer_.cancel(); }

 private:
  struct round {
    std::atomic<std::size_t> unanswered;
  };

  void next();
  void tell_state();
  void ask_all();

  std::vector<asio::io_context*> loops_;
  std::function<std::string()> state_;
  wait_timer timer_;
  std::chrono::microseconds watchdog_{0};  // 0: nobody waits for signs of life
  std::shared_ptr<round> round_;
  std::string told_;
};

}  // namespace pocketfleet
