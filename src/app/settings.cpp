#include "pocketfleet/app/settings.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "credentials.hpp"
#include "descriptor.hpp"
#include "pocketfleet/app/keys_file.hpp"
#include "pocketfleet/wire/digest.hpp"
#include "private_file.hpp"
#include "settings_tables.hpp"

namespace pocketfleet {
namespace {

constexpr std::size_t largest_file = std::size_t{4} << 20U;

loaded_configuration refused(mistake why) {
  loaded_configuration out;
  out.mistakes.push_back(std::move(why));
  return out;
}

mistake too_large(std::size_t bytes) {
  return {"", std::to_string(bytes) + " bytes", "at most " + std::to_string(largest_file) + " bytes (4 MiB)"};
}

void read_document(configuration& into, const place& from) {
  if (from.value.is_array()) {
    // The same paths as in the object form: the name tells more than an empty one would.
    into.phones = read_phones({from.value, "phones", from.mistakes}, false);
    return;
  }
  if (!from.value.is_object()) return from.refuse(R"(an array of phones, or an object with "phones" in it)");

  for (const auto& [key, value] : from.value.get_ref<const json::object_t&>()) {
    if (key == "gateway") {
      read_gateway(into.gateway, from.member(key));
    } else if (key == "phones") {
      into.phones = read_phones(from.member(key), into.gateway.registration.mode == registration_mode::open);
    } else if (key == "$schema") {  // editors find the schema by it
      if (!value.is_string()) from.member(key).refuse("the address of a JSON Schema, as a string");
    } else {
      const auto& table = gateway_table();
      const bool setting_outside =
          std::any_of(table.begin(), table.end(), [&k = key](const auto& s) { return s.key == k; });
      if (setting_outside) {
        from.mistakes.add(from.path_to(key), "a setting of the gateway", R"(it to stand inside "gateway")");
      } else {
        refuse_unknown_key(from, key, {"gateway", "phones"});
      }
    }
  }
  if (!from.value.contains("phones")) {
    from.mistakes.add(from.path_to("phones"), "nothing", "an array with at least one phone");
  }
}

constexpr std::size_t least_token = 16;
constexpr std::size_t longest_token = 256;
constexpr std::size_t largest_token_file = 4096;

/// Paths count from the file's own folder.
void resolve_paths(configuration& c, const std::string& file) {
  const auto folder = std::filesystem::path(file).parent_path();
  auto& registration = c.gateway.registration;
  std::vector<std::string*> paths{&registration.token_file,      &registration.registered_file,
                                  &c.gateway.phone_api_key_file, &c.gateway.api_keys_file,
                                  &c.gateway.tls.certificate,    &c.gateway.tls.key,
                                  &c.gateway.tls.client_ca,      &c.gateway.phone_tls_ca_file};
  for (auto& p : c.phones) paths.push_back(&p.api_key_file);
  for (std::string* path : paths) {
    if (!path->empty()) *path = resolve_path(folder, *path);
  }
  if (registration.registered_file.empty()) registration.registered_file = state_file(file, ".registered");
}

}  // namespace

token_or_mistake read_token(const std::string& file, const std::string& path) {
  const auto refuse = [&](std::string found, std::string expected) {
    return token_or_mistake{{}, mistake{path, std::move(found), std::move(expected)}};
  };
  constexpr std::string_view form = "one line of 16 to 256 printable characters without spaces";
  private_file read = read_private_file(
      file, largest_token_file,
      path == "gateway.fleet_token_file" ? "a file with the fleet's token; \"pocketfleet invite\" makes one"
                                         : "a file with the key");
  if (!read) return refuse(std::move(read.found), std::move(read.expected));
  std::string_view text = read.bytes;
  while (text.ends_with('\n') || text.ends_with('\r')) text.remove_suffix(1);
  const bool plain = std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
  if (text.size() < least_token || text.size() > longest_token || !plain)
    return refuse("a file with something else", std::string(form));
  return {std::string(text), std::nullopt};
}

loaded_configuration load_configuration(const std::string& file) {
  loaded_configuration loaded = load_without_token(file);
  if (!loaded.ok()) return loaded;
  auto& gateway = loaded.value.gateway;
  const auto read = [&](const std::string& from, const std::string& path) {
    auto got = read_token(from, path);
    if (got.wrong) loaded.mistakes.push_back(std::move(*got.wrong));
    return std::move(got.token);
  };
  if (const auto& from = gateway.registration.token_file; !from.empty())
    gateway.registration.token_sha256 = sha256_hex(read(from, "gateway.fleet_token_file"));
  if (const auto& from = gateway.phone_api_key_file; !from.empty())
    gateway.registration.api_key = read(from, "gateway.phone_api_key_file");
  if (const auto& from = gateway.api_keys_file; !from.empty()) {
    auto keys = read_keys(from);
    for (auto& m : keys.wrong) {
      const std::string where = m.path.empty() ? std::string{} : from + ": " + m.path + ": ";
      loaded.mistakes.push_back({"gateway.api_keys_file", where + m.found, std::move(m.expected)});
    }
    gateway.keys = std::move(keys.keys);
  }
  if (!gateway.tls.certificate.empty()) {
    auto tls = load_tls(gateway.tls);
    if (!tls.which.empty())
      loaded.mistakes.push_back({"gateway.tls_" + tls.which, std::move(tls.found), std::move(tls.expected)});
    gateway.tls_loaded = std::move(tls.context);
  }
  const bool phones_with_tls = std::any_of(loaded.value.phones.begin(), loaded.value.phones.end(),
                                           [](const phone_config& p) { return p.tls; });
  if (phones_with_tls || !gateway.phone_tls_ca_file.empty()) {
    auto tls = load_phone_tls(gateway.phone_tls_ca_file);
    if (!tls.which.empty())
      loaded.mistakes.push_back({"gateway.phone_tls_ca_file", std::move(tls.found), std::move(tls.expected)});
    gateway.links.tls = std::move(tls.context);
  }
  for (std::size_t i = 0; i < loaded.value.phones.size(); ++i) {
    phone_config& p = loaded.value.phones[i];
    p.api_key = p.api_key_file.empty()
                    ? gateway.registration.api_key
                    : read(p.api_key_file, "phones[" + std::to_string(i) + "].api_key_file");
  }
  if (!loaded.ok()) loaded.value = {};
  return loaded;
}

text_or_mistake read_text(const std::string& file) {
  const auto refuse = [](std::string found, std::string expected) {
    return text_or_mistake{{}, mistake{"", std::move(found), std::move(expected)}};
  };
  // Without O_NONBLOCK a named pipe would hold up the start, or the reload of a gateway that is serving.
  const descriptor opened(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat about {};
  if (opened.fd() < 0 || ::fstat(opened.fd(), &about) != 0) {
    return refuse(std::generic_category().message(errno), "a file that can be read");
  }
  if (S_ISDIR(about.st_mode)) return refuse("a directory", "a file");
  if (!S_ISREG(about.st_mode)) return refuse("a device or a pipe", "a file");
  if (about.st_size > static_cast<off_t>(largest_file))
    return {{}, too_large(static_cast<std::size_t>(about.st_size))};

  std::string text(static_cast<std::size_t>(about.st_size), '\0');
  std::size_t size = 0;
  while (size < text.size()) {
    const auto n = ::read(opened.fd(), text.data() + size, text.size() - size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return refuse(std::generic_category().message(errno), "a file that can be read");
    if (n == 0) break;  // it was cut while it was being read: what is left decides
    size += static_cast<std::size_t>(n);
  }
  text.resize(size);
  return {std::move(text), std::nullopt};
}

loaded_configuration load_without_token(const std::string& file) {
  auto read = read_text(file);
  if (read.wrong) return refused(std::move(*read.wrong));
  loaded_configuration loaded = parse_configuration(read.text);
  if (!loaded.ok()) return loaded;
  resolve_paths(loaded.value, file);
  loaded.value.digest = sha256_hex(read.text);
  return loaded;
}

loaded_configuration parse_configuration(std::string_view text) {
  if (text.size() > largest_file) return refused(too_large(text.size()));
  json document;
  if (auto none = json_mistake(text, document)) return refused(std::move(*none));
  loaded_configuration out;
  mistake_list mistakes;
  read_document(out.value, {document, "", mistakes});
  out.mistakes = mistakes.take();
  if (!out.ok()) out.value = {};  // nobody can serve half a file by accident
  return out;
}

std::string to_string(const mistake& m, const std::string& file) {
  return file + ": " + to_string(m);
}

std::string to_string(const mistake& m) {
  return (m.path.empty() ? "" : m.path + ": ") + "found " + m.found + ", expected " + m.expected;
}

}  // namespace pocketfleet
