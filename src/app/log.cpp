#include "pocketfleet/app/log.hpp"

#include <spdlog/async.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <future>
#include <thread>

#include "pocketfleet/service/wall_clock.hpp"
#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {
namespace {

constexpr std::size_t lines_kept = 8192;  // while nobody reads standard error

log_format format_now = log_format::text;
bool priorities = false;  // in front of each line, as systemd's journal reads them
std::shared_ptr<spdlog::details::thread_pool> writer;  // its one thread writes; no request waits for it

spdlog::level::level_enum to_spdlog(log_level level) {
  switch (level) {
    case log_level::debug: return spdlog::level::debug;
    case log_level::info: return spdlog::level::info;
    case log_level::warning: return spdlog::level::warn;
    case log_level::error: break;
  }
  return spdlog::level::err;
}

void append_value(std::string& out, const log_value& value, bool quote_always) {
  if (const auto* number = std::get_if<std::int64_t>(&value)) {
    out += std::to_string(*number);
  } else if (const auto* flag = std::get_if<bool>(&value)) {
    out += *flag ? "true" : "false";
  } else {
    const auto text = std::get<std::string_view>(value);
    if (quote_always || text.empty() || text.find_first_of(" \"=\\\t\r\n") != std::string_view::npos) {
      append_json_string(out, text);
    } else {
      out += text;
    }
  }
}

/// systemd says which file its journal is; standard error may have been turned elsewhere since.
bool stderr_is_the_journal() {
  const char* said = std::getenv("JOURNAL_STREAM");
  struct stat about {};
  if (said == nullptr || ::fstat(STDERR_FILENO, &about) != 0) return false;
  return said == std::to_string(about.st_dev) + ":" + std::to_string(about.st_ino);
}

/// As in syslog.
std::string_view priority(log_level level) {
  switch (level) {
    case log_level::debug: return "<7>";
    case log_level::info: return "<6>";
    case log_level::warning: return "<4>";
    case log_level::error: break;
  }
  return "<3>";
}

}  // namespace

std::string_view error_prefix() {
  return stderr_is_the_journal() ? priority(log_level::error) : "";
}

void set_up_log(std::string_view level, log_format format) {
  const bool journal = stderr_is_the_journal();
  if (format == log_format::automatic) format = journal ? log_format::journal : log_format::text;
  format_now = format;
  priorities = format == log_format::journal || (journal && format == log_format::objects);
  // The writer's thread takes no signals: those are for the threads that look for them.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  writer = std::make_shared<spdlog::details::thread_pool>(lines_kept, 1);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  auto logger =
      std::make_shared<spdlog::async_logger>("pocketfleet", std::make_shared<spdlog::sinks::stderr_sink_mt>(),
                                             writer, spdlog::async_overflow_policy::overrun_oldest);
  logger->set_pattern(format == log_format::text ? "%Y-%m-%dT%H:%M:%S.%e %l %v" : "%v");
  const auto wanted = spdlog::level::from_str(std::string(level == "warning" ? "warn" : level));
  logger->set_level(wanted == spdlog::level::off && level != "off" ? spdlog::level::info : wanted);
  logger->flush_on(spdlog::level::trace);
  spdlog::set_default_logger(std::move(logger));
}

bool end_log(milliseconds bound) {
  if (!writer) return true;
  spdlog::default_logger_raw()->set_level(spdlog::level::off);
  std::promise<void> written;
  auto all = written.get_future();
  // The pool's destructor waits for the last line, and for ever if nobody reads.
  std::thread([pool = std::move(writer), done = std::move(written)]() mutable {
    pool.reset();
    done.set_value();
  }).detach();
  return all.wait_for(bound) == std::future_status::ready;
}

std::size_t dropped_log_lines() {
  return writer ? writer->overrun_counter() : 0;
}

bool logs(log_level level) {
  return spdlog::should_log(to_spdlog(level));
}

void log(log_level level, std::string_view event, std::initializer_list<log_field> fields) {
  if (!logs(level)) return;
  std::string line;
  line.reserve(256);
  if (priorities) line = priority(level);
  if (format_now == log_format::objects) {
    line.append(R"({"time":")").append(rfc3339_now()).append(R"(","level":")");
    const auto name = spdlog::level::to_string_view(to_spdlog(level));
    line.append(name.data(), name.size()).append(R"(","event":)");
    append_json_string(line, event);
    for (const auto& [key, value] : fields) {
      line.append(",\"").append(key).append("\":");
      append_value(line, value, true);
    }
    line += '}';
  } else {
    line += event;
    for (const auto& [key, value] : fields) {
      line.append(" ").append(key).append("=");
      append_value(line, value, false);
    }
  }
  spdlog::default_logger_raw()->log(to_spdlog(level), spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace pocketfleet
