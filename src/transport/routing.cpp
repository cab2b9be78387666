#include "routing.hpp"

#include <charconv>
#include <iterator>

namespace pocketfleet {

std::string_view path_of(std::string_view target) {
  return target.substr(0, target.find('?'));
}

namespace {

/// What stands in the path for the part between what is `before` and `behind` it; empty if the path is
/// another.
std::string_view between(std::string_view before, std::string_view path, std::string_view behind) {
  if (path.size() <= before.size() + behind.size() || !path.starts_with(before) || !path.ends_with(behind))
    return {};
  path.remove_prefix(before.size());
  path.remove_suffix(behind.size());
  return path;
}

/// As it was sent.
std::string_view open_part(const route& r, std::string_view path) {
  if (r.path.ends_with("/*")) return between(r.path.substr(0, r.path.size() - 1), path, {});
  const auto brace = r.path.find('{');
  if (brace == std::string_view::npos) return {};
  const std::string_view part = between(r.path.substr(0, brace), path, r.path.substr(r.path.find('}') + 1));
  return part.find('/') == std::string_view::npos ? part : std::string_view{};
}

}  // namespace

bool is_for(const route& r, std::string_view path) {
  return r.path == path || !open_part(r, path).empty();
}

std::string below_of(const route& r, std::string_view path) {
  return percent_decoded(open_part(r, path));
}

found_route find_route(const std::vector<route>& routes, std::string_view path, std::string_view method) {
  found_route out;
  for (const route& r : routes) {
    if (!is_for(r, path)) continue;
    const bool get = r.method == "GET";
    if (method == r.method || (get && method == "HEAD")) return {&r};
    out.allow.append(r.method).append(get ? ", HEAD, " : ", ");
  }
  return out;
}

std::string_view key_in(const boost::beast::http::request_header<>& head) {
  namespace http = boost::beast::http;
  constexpr std::string_view scheme = "Bearer ";
  for (const std::string_view name : {"Authorization", "X-API-Key"}) {
    const auto [first, last] = head.equal_range(name);
    if (std::distance(first, last) > 1) return {};  // whose request it is cannot be told
  }
  const std::string_view authorization = head[http::field::authorization];
  if (authorization.size() > scheme.size() &&
      boost::beast::iequals(authorization.substr(0, scheme.size()), scheme))
    return authorization.substr(scheme.size());
  return head["X-API-Key"];
}

std::string percent_decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned char value = 0;
    const char* const digits = text.data() + i + 1;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(digits, digits + 2, value, 16).ptr == digits + 2) {
      out += static_cast<char>(value);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace pocketfleet
