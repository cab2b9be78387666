#include "pocketfleet/app/phones_file.hpp"

#include <sys/stat.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "pocketfleet/app/registered_file.hpp"
#include "pocketfleet/app/settings.hpp"

namespace pocketfleet {
namespace {

using ordered = nlohmann::ordered_json;

constexpr std::size_t one_line = 110;  // what is not longer is not spread over several lines

/// {"host": "10.0.0.1", "port": 11434}
std::string flat(const ordered& value) {
  if (!value.is_structured()) return value.dump();
  std::string out(1, value.is_object() ? '{' : '[');
  for (const auto& [key, member] : value.items()) {
    if (out.size() > 1) out += ", ";
    if (value.is_object()) out += ordered(key).dump() + ": ";
    out += flat(member);
  }
  return out + (value.is_object() ? '}' : ']');
}

/// As people write it: what is short on one line, the document and its parts (`spread`) on several.
void lay_out(std::string& out, const ordered& value, std::size_t depth, bool spread) {
  if (!value.is_structured() || value.empty()) {
    out += flat(value);
    return;
  }
  if (std::string line = flat(value); !spread && line.size() <= one_line) {
    out += line;
    return;
  }
  out += value.is_object() ? '{' : '[';
  bool first = true;
  for (const auto& [key, member] : value.items()) {
    out.append(first ? "\n" : ",\n").append(2 * (depth + 1), ' ');
    first = false;
    if (value.is_object()) out += ordered(key).dump() + ": ";
    const bool list = member.is_array() && !member.empty() && member.front().is_structured();
    lay_out(out, member, depth + 1, depth == 0 && value.is_object() && (member.is_object() || list));
  }
  out.append("\n").append(2 * depth, ' ') += value.is_object() ? '}' : ']';
}

void set_if_other(ordered& entry, const char* key, std::uint32_t now, std::uint32_t said, bool& changed) {
  if (now == said) return;
  entry[key] = now;
  changed = true;
}

error another_file() {
  return {errc::conflict, "the file is not the one that was read"};
}

/// What an entry that was added by hand says of itself.
phone_config as_given(const ordered& entry) {
  const auto number = [&](const char* key) {
    return entry.contains(key) ? static_cast<std::uint32_t>(entry[key].get<double>()) : 1U;
  };
  phone_config p;
  p.weight = number("weight");
  p.max_concurrency = number("max_concurrency");
  return p;
}

}  // namespace

result<std::string> with_changes(std::string_view text, const std::vector<roster::entry>& phones) {
  ordered document = ordered::parse(text, nullptr, false);
  if (!document.is_array() && !(document.is_object() && document.contains("phones"))) return another_file();
  ordered& list = document.is_array() ? document : document["phones"];
  ordered kept = ordered::array();
  bool changed = false;
  std::size_t of_file = 0;
  for (const roster::entry& e : phones) {
    if (e.said && of_file >= list.size()) return another_file();
    ordered entry = e.said ? list[of_file++] : ordered::parse(e.text, nullptr, false);
    if (!entry.is_object()) return another_file();
    changed = changed || e.removed || !e.said;
    if (e.removed) continue;
    const phone_config before = e.said ? *e.said : as_given(entry);
    set_if_other(entry, "weight", e.now.weight, before.weight, changed);
    set_if_other(entry, "max_concurrency", e.now.max_concurrency, before.max_concurrency, changed);
    kept.push_back(std::move(entry));
  }
  if (of_file != list.size()) return another_file();
  if (!changed) return std::string(text);
  list = std::move(kept);
  std::string out;
  lay_out(out, document, 0, true);
  out += '\n';
  const auto checked = parse_configuration(out);
  if (!checked.ok())
    return error(errc::conflict, "the file would not be good: " + to_string(checked.mistakes.front()));
  return out;
}

result<void> replace_file(const std::string& file, const std::string& text) {
  std::error_code failed;
  const auto real = std::filesystem::canonical(file, failed);
  struct stat about {};
  if (failed || ::stat(real.c_str(), &about) != 0)
    return error(errc::overloaded, file + ": " + (failed ? failed.message() : "it is gone"));
  return write_atomically(real.string(), text, &about);
}

}  // namespace pocketfleet
