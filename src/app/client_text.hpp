// Text for a terminal: aligned columns, colour where it is wanted; private to this layer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pocketfleet {

enum class tint : std::uint8_t { none, good, warning, bad, dim, bold };

struct cell {
  cell(std::string what, tint how = tint::none) : text(std::move(what)), colour(how) {}
  cell(const char* what) : text(what) {}

  std::string text;
  tint colour = tint::none;
};

/// True if standard output is a terminal, and neither NO_COLOR nor TERM=dumb says otherwise.
bool wants_colour();

/// What comes from elsewhere cannot steer the terminal.
std::string printable(std::string_view text);

/// The text in its colour.
std::string tinted(const cell& what, bool colour);

/// Columns as wide as they need to be, two spaces between them; the last one ragged. Empty columns are left
/// out.
class text_table {
 public:
  struct column {
    std::string title;
    bool right = false;  ///< numbers
  };
  explicit text_table(std::vector<column> columns) : columns_(std::move(columns)) {}
  void add(std::vector<cell> row) { rows_.push_back(std::move(row)); }

  /// One line each, the titles first. `width`: longer lines are cut; 0: no limit.
  std::vector<std::string> lines(bool colour, std::size_t width = 0) const;

 private:
  std::string line(const std::vector<cell>& row, const std::vector<std::size_t>& widths, bool colour,
                   std::size_t width) const;

  std::vector<column> columns_;
  std::vector<std::vector<cell>> rows_;
};

/// "1 phone", "2 phones"
std::string counted(std::size_t n, std::string_view what);

}  // namespace pocketfleet
