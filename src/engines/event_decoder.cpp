#include <algorithm>
#include <cmath>

#include "streams.hpp"

namespace pocketfleet {

using simdjson::dom::element;
using field = simdjson::simdjson_result<element>;

std::uint64_t number(const element& value) {
  constexpr std::uint64_t most = std::uint64_t{1} << 62U;
  std::uint64_t count = 0;
  return value.get(count) == simdjson::SUCCESS ? std::min(count, most) : 0;
}

std::uint64_t number(const field& f) {
  element value;
  return f.get(value) == simdjson::SUCCESS ? number(value) : 0;
}

nanoseconds from_milliseconds(const element& value) {
  double time = 0;
  if (value.get(time) != simdjson::SUCCESS || !(time >= 0 && time < 1e12)) return nanoseconds{0};
  return nanoseconds(std::llround(time * 1e6));
}

nanoseconds from_milliseconds(const field& f) {
  element value;
  return f.get(value) == simdjson::SUCCESS ? from_milliseconds(value) : nanoseconds{0};
}

void add_member(std::string& members, std::string_view name, const simdjson::dom::element& value) {
  if (!members.empty()) members += ',';
  append_json_string(members, name);
  members.append(":").append(simdjson::minify(value));
}

result<void> event_decoder::feed(std::string_view bytes, answer_sink& sink) {
  events_.feed(bytes);
  std::string_view data;
  while (!done_ && events_.next(data)) {
    if (auto read = one(data, sink); !read) return read;
  }
  if (events_.overflow()) return error(errc::bad_response, "the phone sent an event without end");
  return {};
}

result<void> event_decoder::finish(answer_sink& sink) {
  std::string_view data;
  if (!done_ && events_.finish(data)) {  // a last event without the blank line behind it
    if (auto read = one(data, sink); !read && read.error().code != errc::bad_response) return read;
  }
  if (done_) return {};
  return unfinished();
}

}  // namespace pocketfleet
