#include "pocketfleet/wire/lines.hpp"

namespace pocketfleet {
namespace {

std::string_view without_cr(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

}  // namespace

void line_splitter::feed(std::string_view bytes) {
  if (kept_used_) {
    kept_.clear();
    kept_used_ = false;
  }
  bytes_ = bytes;
}

bool line_splitter::next(std::string_view& line) {
  if (kept_used_) {
    kept_.clear();
    kept_used_ = false;
  }
  if (overflow_) return false;
  const auto end = bytes_.find('\n');
  const std::size_t length = end == std::string_view::npos ? bytes_.size() : end;
  if (kept_.size() + length > cap_) {
    overflow_ = true;
    return false;
  }
  if (end == std::string_view::npos) {
    kept_.append(bytes_);
    bytes_ = {};
    return false;
  }
  if (kept_.empty()) {
    line = without_cr(bytes_.substr(0, end));
  } else {
    kept_.append(bytes_.substr(0, end));
    kept_used_ = true;
    line = without_cr(kept_);
  }
  bytes_.remove_prefix(end + 1);
  return true;
}

void sse_reader::take(std::string_view line) {
  if (!line.starts_with("data:")) return;
  line.remove_prefix(5);
  if (line.starts_with(' ')) line.remove_prefix(1);
  if (has_data_) data_ += '\n';
  data_.append(line);
  has_data_ = true;
}

bool sse_reader::finish(std::string_view& data) {
  if (delivered_) {
    data_.clear();
    has_data_ = delivered_ = false;
  }
  take(lines_.rest());
  data = data_;
  return has_data_;
}

bool sse_reader::next(std::string_view& data) {
  if (delivered_) {
    data_.clear();
    has_data_ = delivered_ = false;
  }
  std::string_view line;
  while (lines_.next(line)) {
    if (line.empty()) {  // the end of an event
      if (!has_data_) continue;
      data = data_;
      delivered_ = true;
      return true;
    }
    take(line);
    if (data_.size() > max_line) return false;
  }
  return false;
}

}  // namespace pocketfleet
