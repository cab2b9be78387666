#include "credentials.hpp"

#include <cstdlib>
#include <string_view>

namespace pocketfleet {
namespace {

constexpr std::string_view by_name = "credential:";

/// What systemd has set; empty where it has not.
std::filesystem::path folder_of_service(const char* variable) {
  const char* said = std::getenv(variable);
  return said == nullptr ? "" : said;
}

}  // namespace

std::string resolve_path(const std::filesystem::path& folder, const std::string& path) {
  if (!path.starts_with(by_name)) return (folder / path).string();
  const std::string name = path.substr(by_name.size());
  const auto passed = folder_of_service("CREDENTIALS_DIRECTORY");
  if (passed.empty()) return (folder / "credentials" / name).string();
  std::error_code ignored;
  if (std::filesystem::exists(passed / name, ignored)) return (passed / name).string();
  return (passed / ("pocketfleet_" + name)).string();
}

bool is_private(const std::string& file, mode_t mode) {
  const auto passed = folder_of_service("CREDENTIALS_DIRECTORY");
  const bool credential = !passed.empty() && std::filesystem::path(file).parent_path() == passed;
  return (mode & (credential ? 007U : 077U)) == 0;
}

std::string state_file(const std::string& phones, const std::string& ending) {
  const auto kept_in = folder_of_service("STATE_DIRECTORY");
  const auto name = std::filesystem::path(phones).filename().string() + ending;
  return kept_in.empty() ? phones + ending : (kept_in / name).string();
}

}  // namespace pocketfleet
