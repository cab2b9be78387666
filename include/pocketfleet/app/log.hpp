// Log lines with fields, as text or JSON, on standard error.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "pocketfleet/app/settings.hpp"
#include "pocketfleet/core/time.hpp"

namespace pocketfleet {

enum class log_level : std::uint8_t { debug, info, warning, error };

using log_value = std::variant<std::string_view, std::int64_t, bool>;
using log_field = std::pair<std::string_view, log_value>;

/// Once, before any line. `level` as in phones.json; an unknown one is "info".
void set_up_log(std::string_view level, log_format format);

/// Writes what there is and ends the log. False: standard error did not take it in time, and a thread still
/// waits for it: the process can only be left by std::_Exit.
bool end_log(milliseconds bound);

/// Lines that were given up because standard error took none: the oldest go first.
std::size_t dropped_log_lines();

/// For errors that are told on standard error before there is a log: a priority, where that is the journal.
std::string_view error_prefix();

bool logs(log_level level);

/// "event key=value ..." or {"time","level","event","key":value ...}. Never give it a prompt or an answer.
void log(log_level level, std::string_view event, std::initializer_list<log_field> fields = {});

}  // namespace pocketfleet
