// One page of a phone, read whole; private to this layer.
#pragma once

#include "pocketfleet/engines/codec.hpp"
#include "pocketfleet/service/ports.hpp"

namespace pocketfleet {

struct page {
  int status = 0;
  std::string server{};
  std::string body{};
};

inline constexpr std::size_t most_page = std::size_t{1} << 20U;

/// A longer one is errc::too_large. The other errors are those of the exchange.
task<result<page>> read_page(phone_exchange& exchange, const phone_request& request, time_point deadline,
                             std::size_t most_bytes = most_page);

}  // namespace pocketfleet
