// pocketfleet key new, list, remove.
#include <algorithm>
#include <filesystem>
#include <iostream>

#include "config_reader.hpp"
#include "pocketfleet/app/commands.hpp"
#include "pocketfleet/app/keys_file.hpp"
#include "pocketfleet/app/registered_file.hpp"
#include "pocketfleet/core/model_name.hpp"
#include "pocketfleet/wire/digest.hpp"

namespace pocketfleet {
namespace {

/// Which file is meant, and what stands in it. Nothing: that was said.
struct opened_keys {
  std::string file;
  std::vector<api_key> keys{};
};

std::optional<std::string> file_of(const key_arguments& arguments) {
  if (!arguments.file.empty()) return arguments.file;
  const auto loaded = load_without_token(arguments.phones);
  for (const auto& m : loaded.mistakes) std::cerr << to_string(m, arguments.phones) << '\n';
  if (!loaded.ok()) return std::nullopt;
  if (loaded.value.gateway.api_keys_file.empty()) {
    std::cerr << arguments.phones
              << R"(: names no file for keys; it takes, in "gateway": "api_keys_file": "keys.json")" << '\n';
    return std::nullopt;
  }
  return loaded.value.gateway.api_keys_file;
}

std::optional<opened_keys> open_keys(const key_arguments& arguments, bool may_be_missing) {
  const auto file = file_of(arguments);
  if (!file) return std::nullopt;
  std::error_code ignored;
  if (may_be_missing && !std::filesystem::exists(*file, ignored)) return opened_keys{*file};
  auto read = read_keys(*file);
  for (const auto& m : read.wrong) std::cerr << to_string(m, *file) << '\n';
  if (!read.wrong.empty()) return std::nullopt;
  return opened_keys{*file, std::move(read.keys)};
}

int write_keys(const opened_keys& all) {
  const auto done = write_atomically(all.file, render_keys(all.keys));
  if (done) return exit_good;
  std::cerr << "pocketfleet: " << done.error().message << '\n';
  return exit_failed;
}

auto by_name(std::vector<api_key>& keys, const std::string& name) {
  return std::find_if(keys.begin(), keys.end(), [&](const api_key& k) { return k.terms.name == name; });
}

std::string limit(std::uint32_t value) {
  return value == 0 ? "-" : std::to_string(value);
}

std::string_view scope_name(cache_scope scope) {
  switch (scope) {
    case cache_scope::own: return "own";
    case cache_scope::none: return "none";
    case cache_scope::shared: break;
  }
  return "shared";
}

std::string padded(std::string text, std::size_t width) {
  text.resize(std::max(width, text.size()), ' ');
  return text + "  ";
}

}  // namespace

int key_new(const key_arguments& arguments) {
  auto all = open_keys(arguments, true);
  if (!all) return exit_bad_file;
  api_key key = arguments.made;
  if (key.terms.name.empty() || !is_plain_name(key.terms.name, 64)) {
    std::cerr << "--name: expected a name of at most 64 printable characters\n";
    return exit_bad_file;
  }
  if (by_name(all->keys, key.terms.name) != all->keys.end()) {
    std::cerr << all->file << ": there is a key of that name: " << key.terms.name << '\n';
    return exit_bad_file;
  }
  for (auto& model : key.terms.models) model = normalized_model(model);
  const std::string text = new_api_key();
  key.digest = sha256(text);
  all->keys.push_back(std::move(key));
  if (const int failed = write_keys(*all); failed != exit_good) return failed;
  std::cerr << "written to " << all->file
            << "; a running gateway takes it with SIGHUP. The key, shown this once:\n";
  std::cout << text << '\n';
  return exit_good;
}

int key_list(const key_arguments& arguments) {
  const auto all = open_keys(arguments, false);
  if (!all) return exit_bad_file;
  if (arguments.as_json) {
    std::cout << render_keys(all->keys);
    return exit_good;
  }
  std::size_t width = 4;
  for (const auto& k : all->keys) width = std::max(width, k.terms.name.size());
  std::cout << padded("NAME", width) << "ROLE    PER MINUTE  AT ONCE  CACHE   MODELS\n";
  for (const auto& k : all->keys) {
    std::string models;
    for (const auto& m : k.terms.models) models.append(models.empty() ? "" : ", ").append(m);
    std::cout << padded(k.terms.name, width)
              << padded(k.terms.role == key_role::admin ? "admin" : "client", 6)
              << padded(limit(k.terms.rate_per_minute), 10) << padded(limit(k.terms.max_concurrency), 7)
              << padded(std::string(scope_name(k.terms.cache)), 6) << (models.empty() ? "all" : models)
              << '\n';
  }
  return exit_good;
}

int key_remove(const key_arguments& arguments) {
  auto all = open_keys(arguments, false);
  if (!all) return exit_bad_file;
  const auto found = by_name(all->keys, arguments.name);
  if (found == all->keys.end()) {
    std::cerr << all->file << ": there is no key of that name: " << arguments.name << '\n';
    return exit_bad_file;
  }
  if (all->keys.size() == 1) {
    std::cerr << all->file << ": it is the last key, without which the gateway would not start\n";
    return exit_bad_file;
  }
  all->keys.erase(found);
  return write_keys(*all);
}

}  // namespace pocketfleet
