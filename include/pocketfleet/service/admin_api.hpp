// /admin/...: what an operator does to the fleet while the gateway runs.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "pocketfleet/service/desk.hpp"
#include "pocketfleet/service/dispatch.hpp"
#include "pocketfleet/service/ports.hpp"
#include "pocketfleet/service/registry.hpp"
#include "pocketfleet/service/roster.hpp"

namespace pocketfleet {

/// What became of reading the file again.
struct reread_file {
  std::vector<std::string> mistakes{};  ///< not empty: nothing has changed
  std::size_t phones = 0;
  bool needs_restart = false;  ///< a setting has changed that is not taken over while running
};

struct saved_file {
  std::string file{};
  std::size_t phones = 0;
  bool written = false;  ///< false: it says all of it already
};

/// What only the application can do. Called one after the other, as `in_turn` sees to.
struct admin_means {
  /// Runs it where changes are made, one after the other: never two at once, and none beside a reload.
  std::function<void(std::function<void()>)> in_turn;
  std::function<result<new_phone>(std::string_view text)> read_phone;
  std::function<result<phone_change>(std::string_view text)> read_change;
  /// Roster or registry have changed: the desk gets the new fleet. `joined`: the registry has.
  std::function<void(bool joined)> use_fleet;
  std::function<result<reread_file>()> reread;
  std::function<result<saved_file>()> save;
  std::function<void(std::string_view what, std::string_view phone)> note;  ///< for the log
};

/// Owned by the application, used from every worker; outlives the workers.
class admin_api {
 public:
  admin_api(desk& fleet, dispatch& runner, roster& phones, registry& joined, admin_means means)
      : desk_(fleet), dispatch_(runner), roster_(phones), registry_(joined), means_(std::move(means)) {}

  std::vector<route> routes();

 private:
  /// What goes to the client.
  struct said {
    int status = 200;
    std::string body{};
    std::string_view outcome{};  ///< for the books, where the status says that it went wrong
  };
  using work = std::function<result<said>()>;

  route in_turn(std::string_view path, std::string_view method,
                std::function<result<said>(const std::string& name, const std::string& body)> what);
  task<> run(http_call& call, work what);

  result<said> list();
  result<said> add(const std::string& body);
  result<said> remove(const std::string& name);
  result<said> change(const std::string& name, const std::string& body);
  result<said> drain(const std::string& name, bool drained);
  result<said> breaker(const std::string& name, const std::string& body);
  result<said> clear_cache();
  result<said> reload();
  result<said> save();
  result<said> one(const std::string& name, int status = 200);
  std::string_view source_of(const phone_status& p, const std::vector<roster::entry>& known) const;

  desk& desk_;
  dispatch& dispatch_;
  roster& roster_;
  registry& registry_;
  const admin_means means_;
};

}  // namespace pocketfleet
