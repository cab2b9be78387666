#include "pocketfleet/wire/heartbeat.hpp"

#include <cmath>

#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {
namespace {

constexpr std::string_view id_letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
constexpr std::size_t longest_id = 64;
constexpr double least_interval = 1;
constexpr double longest_interval = 3600;

/// Reads members of an object and keeps the first mistake. A member that is absent or null is unknown.
class reader {
 public:
  reader(const json& object, std::string path, std::optional<error>& wrong)
      : object_(object), path_(std::move(path)), wrong_(wrong) {}

  reader within(const char* key) {
    static const json nothing = json::object();
    const json* there = find(key);
    if (there == nullptr) return {nothing, path_ + key + ".", wrong_};
    if (!there->is_object()) refuse(key, "an object or null");
    return {there->is_object() ? *there : nothing, path_ + key + ".", wrong_};
  }

  std::optional<double> number(const char* key, double least, double most) {
    const json* there = find(key);
    if (there == nullptr) return std::nullopt;
    const double value = there->is_number() ? there->get<double>() : std::nan("");
    if (value >= least && value <= most) return value;
    const auto whole = [](double d) { return std::to_string(std::llround(d)); };
    refuse(key, "a number from " + whole(least) + " to " + whole(most) + ", or null");
    return std::nullopt;
  }

  std::optional<std::uint64_t> count(const char* key, double most) {
    const auto value = number(key, 0, most);
    return value ? std::optional(static_cast<std::uint64_t>(*value)) : std::nullopt;
  }

  std::optional<std::uint16_t> port(const char* key) {
    const auto value = number(key, 1, 65535);
    return value ? std::optional(static_cast<std::uint16_t>(*value)) : std::nullopt;
  }

  std::optional<bool> flag(const char* key) {
    const json* there = find(key);
    if (there == nullptr) return std::nullopt;
    if (there->is_boolean()) return there->get<bool>();
    refuse(key, "true, false or null");
    return std::nullopt;
  }

  std::string text(const char* key) {
    const json* there = find(key);
    if (there == nullptr) return {};
    if (there->is_string()) return there->get<std::string>();
    refuse(key, "a string or null");
    return {};
  }

  void refuse(const char* key, std::string_view expected) {
    if (!wrong_) wrong_ = error(errc::bad_request, path_ + key + ": expected " + std::string(expected));
  }

 private:
  const json* find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  const json& object_;
  std::string path_;
  std::optional<error>& wrong_;
};

/// A name that may stand in a log line and a label, or none.
std::string plain(std::string text) {
  if (text.size() > longest_id) text.resize(longest_id);
  for (auto& c : text) {
    if (c <= ' ' || c >= 0x7f || c == '"' || c == '\\') c = '-';
  }
  return text;
}

}  // namespace

bool is_phone_id(std::string_view text) {
  return !text.empty() && text.size() <= longest_id &&
         text.find_first_not_of(id_letters) == std::string_view::npos;
}

result<heartbeat> parse_heartbeat(std::string_view body) {
  const auto parsed = parse_json(body);
  if (!parsed) return parsed.error();
  if (!parsed->is_object()) return error(errc::bad_request, "expected a JSON object");
  std::optional<error> wrong;
  reader all(*parsed, "", wrong);
  heartbeat out;
  out.id = all.text("id");
  if (!is_phone_id(out.id)) all.refuse("id", "1 to 64 letters, digits, '.', '_' or '-'");
  out.name = plain(all.text("name"));
  if (const auto s = all.number("interval_s", least_interval, longest_interval))
    out.interval = seconds{std::llround(*s)};

  reader engine = all.within("engine");
  const std::string kind = engine.text("kind");
  out.engine = engine_from_string(kind).value_or(engine_kind::unknown);
  if (!kind.empty() && out.engine == engine_kind::unknown)
    engine.refuse("kind", "\"ollama\", \"llama-server\" or null");
  out.port = engine.port("port").value_or(0);
  out.engine_up = engine.flag("up").value_or(false);
  out.tunnel_port = all.port("tunnel_port");

  reader battery = all.within("battery");
  out.reads.temperature_c = battery.number("temperature_c", -60, 150);
  out.reads.battery_level = battery.number("level", 0, 100);
  out.reads.charging = battery.flag("charging");
  out.reads.current_ua = battery.number("current_ua", -1e8, 1e8);
  reader memory = all.within("memory");
  out.reads.memory_total_kb = memory.count("total_kb", 1e12);
  out.reads.memory_available_kb = memory.count("available_kb", 1e12);
  reader wifi = all.within("wifi");
  out.reads.wifi_rssi_dbm = wifi.number("rssi_dbm", -200, 100);
  out.reads.wifi_link_mbps = wifi.number("link_mbps", -1, 1e6);
  if (wrong) return std::move(*wrong);
  return out;
}

}  // namespace pocketfleet
