#include "client_text.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace pocketfleet {
namespace {

std::string_view code_of(tint colour) {
  switch (colour) {
    case tint::good: return "\x1b[32m";
    case tint::warning: return "\x1b[33m";
    case tint::bad: return "\x1b[31m";
    case tint::dim: return "\x1b[2m";
    case tint::bold: return "\x1b[1m";
    case tint::none: break;
  }
  return {};
}

}  // namespace

bool wants_colour() {
  const char* no_colour = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  if (no_colour != nullptr && *no_colour != '\0') return false;
  return term != nullptr && std::string_view(term) != "dumb" && ::isatty(STDOUT_FILENO) != 0;
}

std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text) out += c >= ' ' && c < 0x7f ? c : '?';
  return out;
}

std::string tinted(const cell& what, bool colour) {
  const auto code = colour ? code_of(what.colour) : std::string_view{};
  return code.empty() ? what.text : std::string(code) + what.text + "\x1b[0m";
}

std::string text_table::line(const std::vector<cell>& row, const std::vector<std::size_t>& widths,
                             bool colour, std::size_t width) const {
  std::string out;
  std::size_t used = 0;     // characters of the line so far
  std::size_t pending = 0;  // spaces that are written only if something follows
  for (std::size_t i = 0; i < row.size(); ++i) {
    if (widths[i] == 0) continue;
    const std::size_t room = width == 0 ? std::string::npos : width - std::min(width, used + pending);
    cell shown{row[i].text.substr(0, room), row[i].colour};
    const std::size_t pad = widths[i] - std::min(widths[i], shown.text.size());
    if (columns_[i].right) pending += pad;
    if (!shown.text.empty()) {
      out.append(pending, ' ').append(tinted(shown, colour));
      used += pending + shown.text.size();
      pending = 0;
    }
    pending += (columns_[i].right ? 0 : pad) + 2;
  }
  return out;
}

std::vector<std::string> text_table::lines(bool colour, std::size_t width) const {
  std::vector<std::size_t> widths(columns_.size(), 0);
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].text.size());
  }
  std::vector<cell> titles;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    if (widths[i] > 0) widths[i] = std::max(widths[i], columns_[i].title.size());
    titles.emplace_back(columns_[i].title, tint::bold);
  }
  std::vector<std::string> out{line(titles, widths, colour, width)};
  for (const auto& row : rows_) out.push_back(line(row, widths, colour, width));
  return out;
}

std::string counted(std::size_t n, std::string_view what) {
  return std::to_string(n) + " " + std::string(what) + (n == 1 ? "" : "s");
}

}  // namespace pocketfleet
