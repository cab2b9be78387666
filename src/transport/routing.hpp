// From a request's target to its route; private to this layer.
#pragma once

#include <boost/beast/http/message.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/service/ports.hpp"

namespace pocketfleet {

/// Without what stands behind a `?`.
std::string_view path_of(std::string_view target);

bool is_for(const route& r, std::string_view path);

/// What stands in the path for the route's "/*" or "{...}", percent-decoded; empty if it has neither.
std::string below_of(const route& r, std::string_view path);

struct found_route {
  const route* to = nullptr;
  std::string allow{};  ///< if nothing is found: the methods of that path, each with ", " behind it
};
found_route find_route(const std::vector<route>& routes, std::string_view path, std::string_view method);

/// The key that a client shows; empty: none. A view into the header.
std::string_view key_in(const boost::beast::http::request_header<>& head);

/// What is not a sound escape stays as it is.
std::string percent_decoded(std::string_view text);

}  // namespace pocketfleet
