#include "pocketfleet/wire/fast_json.hpp"

#include <algorithm>
#include <string>

namespace pocketfleet {

std::optional<simdjson::dom::element> parse_fast(std::string_view text) {
  constexpr std::size_t worth_keeping = std::size_t{64} << 10U;
  thread_local simdjson::dom::parser parser;
  thread_local std::string padded;
  if (padded.capacity() > worth_keeping + simdjson::SIMDJSON_PADDING) {  // after a very long text
    padded = std::string();
    parser = simdjson::dom::parser();
  }
  padded.reserve(std::max<std::size_t>(text.size(), 4096) + simdjson::SIMDJSON_PADDING);
  padded.assign(text);
  simdjson::dom::element document;
  if (parser.parse(padded.data(), padded.size(), false).get(document) != simdjson::SUCCESS)
    return std::nullopt;
  return document;
}

}  // namespace pocketfleet
