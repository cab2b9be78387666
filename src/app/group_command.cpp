// pocketfleet group
#include <iostream>

#include "group_run.hpp"
#include "plan_commands.hpp"
#include "pocketfleet/app/commands.hpp"
#include "pocketfleet/app/log.hpp"

namespace pocketfleet {
namespace {

std::optional<group_config> loaded(const std::string& file) {
  auto group = load_group(file);
  for (const auto& m : group.mistakes) std::cerr << error_prefix() << to_string(m, file) << '\n';
  if (!group.ok()) return std::nullopt;
  return std::move(group.value);
}

}  // namespace

int group_check(const std::string& file) {
  const auto group = loaded(file);
  if (!group) return exit_bad_file;
  std::cout << file << ": good: a master and " << group->workers.size()
            << (group->workers.size() == 1 ? " worker" : " workers") << "\n";
  for (std::size_t i = 0; i <= group->workers.size(); ++i) {
    std::cout << (i < group->workers.size() ? group->workers[i].name : group->master.name) << ':';
    for (const auto& word : command_of(*group, i)) std::cout << ' ' << shell_word(word);
    std::cout << '\n';
  }
  return exit_good;
}

int group_run(const std::string& file) {
  const auto group = loaded(file);
  if (!group) return exit_bad_file;
  set_up_log("info", log_format::automatic);
  group_supervisor supervisor(*group);
  return supervisor.run();
}

}  // namespace pocketfleet
