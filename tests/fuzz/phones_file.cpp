// phones.json: settings, or what is wrong.
#include <set>

#include "fuzz.hpp"
#include "pocketfleet/app/settings.hpp"
#include "pocketfleet/app/settings_json.hpp"

namespace pocketfleet::fuzz {
namespace {

json phone_to_json(const phone_config& phone) {
  json out{{"host", phone.host},
           {"port", phone.port},
           {"weight", phone.weight},
           {"max_concurrency", phone.max_concurrency},
           {"engine", phone.engine == engine_kind::unknown ? "auto" : to_string(phone.engine)}};
  if (phone.name.size() <= 64) out["name"] = phone.name;  // one that is made of a long host may be longer
  if (!phone.model.empty()) out["model"] = phone.model;
  if (!phone.serial.empty()) out["serial"] = phone.serial;
  return out;
}

void check_mistakes(const loaded_configuration& read) {
  must(read.value.phones.empty(), "phones beside mistakes");
  for (const auto& m : read.mistakes) {
    must(!m.found.empty() && !m.expected.empty(), "a mistake that says nothing");
    const std::string text = to_string(m, "phones.json");
    must(text.size() < 4096, "a mistake without end");
    // It goes to a terminal.
    const auto harmless = [](char c) { return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f; };
    must(std::all_of(text.begin(), text.end(), harmless), "a control character in a message");
    must(*parse_json(dump_json(json(text))) == json(text), "a message that is not UTF-8");
  }
}

void check_settings(const configuration& read) {
  must(!read.phones.empty(), "neither phones nor mistakes");
  std::set<std::string> names;
  for (const auto& phone : read.phones) {
    must(!phone.host.empty() && phone.port != 0, "a phone without an address");
    must(phone.weight >= 1 && phone.max_concurrency >= 1, "a phone that is never asked");
    must(!phone.name.empty() && names.insert(phone.name).second, "a phone without a name of its own");
  }
  // What was read, written down, reads as the same.
  json document{{"gateway", settings_to_json(read.gateway)}, {"phones", json::array()}};
  for (const auto& phone : read.phones) document["phones"].push_back(phone_to_json(phone));
  const auto again = parse_configuration(dump_json(document));
  must(again.ok(), "settings that are refused when they are written down");
  must(again.value.phones == read.phones, "other phones when they are written down");
  must(settings_to_json(again.value.gateway) == settings_to_json(read.gateway),
       "other settings when they are written down");
}

void run(std::string_view text) {
  const auto read = parse_configuration(text);
  if (read.ok()) {
    check_settings(read.value);
  } else {
    check_mistakes(read);
  }
}

}  // namespace
}  // namespace pocketfleet::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  pocketfleet::fuzz::run(pocketfleet::fuzz::text_of(data, size));
  return 0;
}
