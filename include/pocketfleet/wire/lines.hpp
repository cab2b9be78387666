// Cuts a stream of bytes into lines and SSE events. Bytes come in any portions; nothing is kept but an
// unfinished line.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace pocketfleet {

inline constexpr std::size_t max_line = std::size_t{1} << 20U;

/// Lines end with LF or CRLF. Feed bytes, then take lines until there are no more; the bytes must live that
/// long:
///
///     lines.feed(bytes);
///     while (lines.next(line)) use(line);
///
/// A line that lies whole in the bytes just fed is not copied; it is valid until the next feed().
class line_splitter {
 public:
  explicit line_splitter(std::size_t cap = max_line) : cap_(cap) {}

  void feed(std::string_view bytes);

  /// The next whole line without its end. False: none yet.
  bool next(std::string_view& line);

  /// What stands behind the last line end, when the stream has ended there. Empty if nothing does.
  std::string_view rest() const { return kept_used_ ? std::string_view{} : std::string_view(kept_); }

  /// A line is over the cap; the stream cannot be read on.
  bool overflow() const { return overflow_; }

 private:
  std::size_t cap_;
  std::string kept_;        // an unfinished line of earlier feeds
  bool kept_used_ = false;  // kept_ was handed out as a line and may go
  std::string_view bytes_;  // not yet cut
  bool overflow_ = false;
};

/// The data of server-sent events. Comments and other fields are passed over; several data lines are joined
/// by LF.
class sse_reader {
 public:
  void feed(std::string_view bytes) { lines_.feed(bytes); }

  /// The data of the next whole event; valid until the next call.
  bool next(std::string_view& data);

  /// The stream has ended: the data of an event without the blank line behind it. False: there is none.
  bool finish(std::string_view& data);

  bool overflow() const { return lines_.overflow() || data_.size() > max_line; }

 private:
  void take(std::string_view line);

  line_splitter lines_;
  std::string data_;
  bool has_data_ = false;
  bool delivered_ = false;
};

}  // namespace pocketfleet
