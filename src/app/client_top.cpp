// `pocketfleet top`: the fleet, drawn anew each second.
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <iostream>

#include "client_commands.hpp"

namespace pocketfleet {
namespace {

constexpr seconds between_draws{1};
constexpr seconds patience{5};

/// What is counted, as of one look.
struct numbers {
  double requests = 0;
  double tokens = 0;
};

struct look {
  json health{};
  numbers counted{};
  time_point at{};
};

std::string_view label(std::string_view labels, std::string_view name) {
  const std::string sought = std::string(name) + "=\"";
  const auto at = labels.find(sought);
  if (at == std::string_view::npos) return {};
  labels.remove_prefix(at + sought.size());
  return labels.substr(0, labels.find('"'));
}

/// Requests for answers, not those that look at the fleet.
bool is_question(std::string_view route) {
  return route.starts_with("/ask") || route.starts_with("/v1/") || route.starts_with("/api/");
}

/// Of Prometheus' text: name{labels} value
numbers read_metrics(std::string_view text) {
  numbers out;
  while (!text.empty()) {
    const auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const auto space = line.rfind(' ');
    const auto brace = line.find('{');
    if (line.starts_with('#') || space == std::string_view::npos || brace > space) continue;
    const auto name = line.substr(0, brace);
    const auto labels = line.substr(brace, space - brace);
    const double value = std::strtod(std::string(line.substr(space + 1)).c_str(), nullptr);
    if (name == "pocketfleet_requests_total" && is_question(label(labels, "route"))) out.requests += value;
    if (name == "pocketfleet_answer_tokens_total") out.tokens += value;
  }
  return out;
}

look look_at(gateway_client& gateway) {
  look out;
  out.health = gateway.get("/health").body;
  out.counted = read_metrics(gateway.get("/metrics").text);
  out.at = clock::now();
  return out;
}

std::string rounded(double value, const char* unit, int digits = 0) {
  std::array<char, 48> text{};
  std::snprintf(text.data(), text.size(), "%.*f%s", digits, value, unit);
  return text.data();
}

std::string reading(const json& phone, const char* key, const char* unit) {
  const json& all = phone.value("telemetry", json(nullptr));
  if (!all.is_object() || !all.contains(key) || !all[key].is_number()) return {};
  return rounded(all[key].get<double>(), unit);
}

std::string clock_time() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&now, &local);
  std::array<char, 16> text{};
  const auto n = std::strftime(text.data(), text.size(), "%H:%M:%S", &local);
  return {text.data(), n};
}

/// One line about the gateway. Rates need two looks.
std::string summary(const look& now, const look* before) {
  const json cache = now.health.value("cache", json::object());
  const double hits = static_cast<double>(number_of(cache, "hits"));
  const double asked = hits + static_cast<double>(number_of(cache, "misses"));
  const std::string waiting = std::to_string(number_of(now.health.value("queue", json::object()), "waiting"));
  std::string out = "requests " + rounded(now.counted.requests, "");
  if (before != nullptr) {
    const double time = std::max(0.1, std::chrono::duration<double>(now.at - before->at).count());
    const auto rate = [&](double last, double first) { return std::max(0.0, last - first) / time; };
    out += " (" + rounded(rate(now.counted.requests, before->counted.requests), "/s", 1) + ")";
    out += "   tokens " + rounded(rate(now.counted.tokens, before->counted.tokens), "/s");
  }
  out += "   waiting " + waiting;
  out += "   cache " + counted(number_of(cache, "entries"), "answer");
  if (asked > 0) out += ", " + rounded(100 * hits / asked, " % hits");
  return out;
}

void add_row(text_table& table, const json& p) {
  table.add({text_of(p, "name"),
             {state_word(p), state_tint(p)},
             std::to_string(number_of(p, "inflight")) + "/" + std::to_string(number_of(p, "permits")),
             std::to_string(number_of(p, "weight")),
             learned_speed_of(p),
             reading(p, "temperature_c", " C"),
             reading(p, "battery_level", " %"),
             text_of(p, "model"),
             {text_of(p, "reason"), tint::dim}});
}

struct size {
  std::size_t width = 0;  ///< 0: no limit
  std::size_t height = 0;
};

size of_terminal() {
  winsize found{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &found) != 0 || found.ws_col == 0) return {};
  return {found.ws_col, found.ws_row};
}

/// Those that are not well come first if there is no room for all.
std::vector<std::string> drawn(const look& now, const look* before, const std::string& url, bool colour,
                               size room) {
  json phones = now.health.value("phones", json::array());
  const std::size_t fixed = 5;  // lines beside those of the phones
  const std::size_t fit = room.height == 0 ? phones.size() : room.height - std::min(room.height, fixed);
  if (phones.size() > fit) {
    std::stable_sort(phones.begin(), phones.end(), [](const json& a, const json& b) {
      return state_word(a) != "up" && state_word(b) == "up";
    });
  }
  const std::string status = text_of(now.health, "status");
  const tint its = status == "ok" ? tint::good : status == "down" ? tint::bad : tint::warning;
  std::vector<std::string> out;
  out.push_back(tinted({url, tint::bold}, colour) + "   " + tinted({status, its}, colour) + "   " +
                clock_time());
  out.push_back(summary(now, before).substr(0, room.width == 0 ? std::string::npos : room.width));
  out.emplace_back();
  text_table table({{"NAME"},
                    {"STATE"},
                    {"RUNNING", true},
                    {"WEIGHT", true},
                    {"SPEED", true},
                    {"HEAT", true},
                    {"BATTERY", true},
                    {"MODEL"},
                    {"WHY"}});
  for (std::size_t i = 0; i < std::min(fit, phones.size()); ++i) add_row(table, phones[i]);
  for (auto& line : table.lines(colour, room.width)) out.push_back(std::move(line));
  if (phones.size() > fit) out.push_back("... and " + std::to_string(phones.size() - fit) + " more");
  return out;
}

/// The terminal's other screen, without a cursor, as long as it lives. Signals that end the program are
/// waited for meanwhile, so that the terminal is always given back.
class screen {
 public:
  screen() {
    ::sigemptyset(&ends_);
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&ends_, number);
    ::pthread_sigmask(SIG_BLOCK, &ends_, &before_);
    std::cout << "\x1b[?1049h\x1b[?25l" << std::flush;
  }
  screen(const screen&) = delete;
  screen& operator=(const screen&) = delete;
  ~screen() {
    std::cout << "\x1b[?25h\x1b[?1049l" << std::flush;
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

  static void draw(const std::vector<std::string>& lines) {
    std::string out = "\x1b[H";
    for (std::size_t i = 0; i < lines.size(); ++i)
      out.append(i == 0 ? "" : "\r\n").append(lines[i]).append("\x1b[K");
    std::cout << out << "\x1b[J" << std::flush;
  }

  /// False: the program is to end.
  bool wait(seconds time) const {
    const timespec bound{time.count(), 0};
    return ::sigtimedwait(&ends_, nullptr, &bound) < 0;
  }

 private:
  sigset_t ends_{};
  sigset_t before_{};
};

void watch(gateway_client& gateway, look first) {
  const bool colour = wants_colour();
  look now = std::move(first);
  std::optional<look> before;
  std::string trouble;
  screen terminal;
  do {
    auto lines = drawn(now, before ? &*before : nullptr, gateway.url(), colour, of_terminal());
    if (!trouble.empty()) lines[0] = tinted({trouble, tint::bad}, colour);
    screen::draw(lines);
    if (!terminal.wait(between_draws)) return;
    try {
      look next = look_at(gateway);
      before = std::exchange(now, std::move(next));
      trouble.clear();
    } catch (const client_failure& e) {  // it may come back
      trouble = printable(e.what());
    }
  } while (std::cout);
}

}  // namespace

void show_top(const client_arguments& given) {
  gateway_client gateway(given.where);
  gateway.give_up_after(patience);
  if (given.as_json) {
    std::cout << gateway.get("/health").text << '\n' << std::flush;
    return;
  }
  look now = look_at(gateway);  // what is wrong at the start ends it
  if (::isatty(STDOUT_FILENO) != 0) return watch(gateway, std::move(now));
  for (const auto& line : drawn(now, nullptr, gateway.url(), false, {})) std::cout << line << '\n';
  std::cout << std::flush;
}

}  // namespace pocketfleet
