#include "pocketfleet/wire/fleet_picture.hpp"

#include <unordered_map>

namespace pocketfleet {
namespace {

std::string event(std::string_view name, const json& data) {
  std::string out;
  out.append("event: ").append(name).append("\ndata: ");
  append_json(out, data);
  out += "\n\n";
  return out;
}

const std::string& name_of(const json& phone) {
  return phone.at("name").get_ref<const std::string&>();
}

/// What of `now` is not so in `before`.
json difference(const json& before, const json& now) {
  json out = json::object();
  for (const auto& [key, value] : now.items()) {
    const auto was = before.find(key);
    if (was == before.end() || *was != value) out[key] = value;
  }
  return out;
}

}  // namespace

std::string render_fleet(const fleet_picture& now, const token_history& tokens) {
  json phones = json::array();
  for (const json& p : now.phones) {
    phones.push_back(p);
    if (const auto found = tokens.find(name_of(p)); found != tokens.end())
      phones.back()["tokens"] = found->second;
  }
  json all{{"at", now.at}, {"gateway", now.gateway}};
  all["phones"] = std::move(phones);
  return event("fleet", all);
}

std::string render_change(const fleet_picture& before, const fleet_picture& now) {
  json out = json::object();
  if (json numbers = difference(before.gateway, now.gateway); !numbers.empty())
    out["gateway"] = std::move(numbers);

  std::unordered_map<std::string_view, const json*> known;
  for (const json& p : before.phones) known.emplace(name_of(p), &p);
  json phones = json::array();
  for (const json& p : now.phones) {
    const auto was = known.find(name_of(p));
    if (was == known.end()) {
      phones.push_back(p);
      continue;
    }
    if (json changed = difference(*was->second, p); !changed.empty()) {
      changed["name"] = p.at("name");
      phones.push_back(std::move(changed));
    }
    known.erase(was);
  }
  if (!phones.empty()) out["phones"] = std::move(phones);

  json gone = json::array();
  for (const auto& [name, phone] : known) gone.push_back(name);
  if (!gone.empty()) out["gone"] = std::move(gone);

  if (out.empty()) return ": nothing has changed\n\n";
  out["at"] = now.at;
  return event("change", out);
}

}  // namespace pocketfleet
