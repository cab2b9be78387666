#include "pocketfleet/transport/framing_guard.hpp"

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <boost/beast/http/verb.hpp>

namespace pocketfleet {
namespace {

namespace http = boost::beast::http;

bool iequals(std::string_view a, std::string_view b) {
  return boost::beast::iequals(a, b);
}

std::size_t count(const http::fields& head, http::field name) {
  const auto [first, last] = head.equal_range(name);
  return static_cast<std::size_t>(std::distance(first, last));
}

/// name[:port] or [IPv6][:port], and nothing else.
std::optional<std::string_view> host_part(std::string_view value) {
  std::string_view host = value;
  std::string_view port;
  if (value.starts_with('[')) {
    const auto end = value.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    host = value.substr(1, end - 1);
    port = value.substr(end + 1);
    if (host.empty() || host.find_first_not_of("0123456789abcdefABCDEF:.") != std::string_view::npos)
      return std::nullopt;
  } else {
    const auto colon = value.find(':');
    if (colon != std::string_view::npos) {
      host = value.substr(0, colon);
      port = value.substr(colon);
    }
    const auto plain = [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
             c == '.' || c == '_';
    };
    if (host.empty() || !std::all_of(host.begin(), host.end(), plain)) return std::nullopt;
  }
  if (!port.empty()) {
    if (port[0] != ':' || port.size() > 6 ||
        port.find_first_not_of("0123456789", 1) != std::string_view::npos) {
      return std::nullopt;
    }
  }
  return host;
}

}  // namespace

bool has_folded_line(std::string_view bytes) {
  const std::string_view head = bytes.substr(0, bytes.find("\r\n\r\n"));
  for (auto at = head.find('\n'); at != std::string_view::npos; at = head.find('\n', at + 1)) {
    if (at + 1 < head.size() && (head[at + 1] == ' ' || head[at + 1] == '\t')) return true;
  }
  return false;
}

namespace {

/// The fields that decide where a request ends and whom it is for, found in one pass.
struct framing_fields {
  unsigned codings = 0;
  unsigned lengths = 0;
  unsigned hosts = 0;
  bool encoded = false;
  bool control = false;  // a control character in some value
  std::string_view coding{};
  std::string_view length{};
  std::string_view host{};
};

framing_fields read_fields(const http::request_header<>& head) {
  framing_fields out;
  const auto control = [](char c) {
    return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
  };
  for (const auto& field : head) {
    const std::string_view value = field.value();
    out.control = out.control || std::any_of(value.begin(), value.end(), control);
    switch (field.name()) {
      case http::field::transfer_encoding:
        ++out.codings;
        out.coding = value;
        break;
      case http::field::content_length:
        ++out.lengths;
        out.length = value;
        break;
      case http::field::host:
        ++out.hosts;
        out.host = value;
        break;
      case http::field::content_encoding: out.encoded = true; break;
      default: break;
    }
  }
  return out;
}

std::optional<refusal> check_body_length(const framing_fields& f, unsigned version) {
  if (f.codings + f.lengths > 1) return refusal{400, "the body's length is ambiguous"};
  if (f.codings == 1 && (version != 11 || !iequals(f.coding, "chunked"))) {
    return refusal{400, "unknown transfer coding"};
  }
  const bool number = !f.length.empty() && f.length.find_first_not_of("0123456789") == std::string_view::npos;
  if (f.lengths == 1 && !number) return refusal{400, "the body's length is not a number"};
  return std::nullopt;
}

}  // namespace

std::optional<refusal> check_framing(const http::request_header<>& head, std::size_t most_fields,
                                     std::size_t most_target) {
  if (head.version() != 11 && head.version() != 10) return refusal{505, "HTTP/1.1 is spoken here"};
  if (static_cast<std::size_t>(std::distance(head.begin(), head.end())) > most_fields) {
    return refusal{431, "too many header fields"};
  }
  const std::string_view target = head.target();
  if (target.size() > most_target) return refusal{414, "the target is too long"};
  const framing_fields f = read_fields(head);
  if (auto why = check_body_length(f, head.version())) return why;
  if (f.control) return refusal{400, "a control character in the header"};
  if (f.hosts != 1 || !host_part(f.host)) return refusal{400, "exactly one valid Host is needed"};
  switch (head.method()) {
    case http::verb::get:
    case http::verb::head:
    case http::verb::post:
    case http::verb::options:
    case http::verb::put:
    case http::verb::delete_:
    case http::verb::patch: break;
    default: return refusal{405, "unknown method"};
  }
  if (!target.starts_with('/') && !(target == "*" && head.method() == http::verb::options)) {
    return refusal{400, "the target must begin with a slash"};
  }
  if (f.encoded) return refusal{415, "compressed bodies are not read"};
  return std::nullopt;
}

bool framing_is_sound(const http::response_header<>& head) {
  const auto codings = count(head, http::field::transfer_encoding);
  const auto lengths = count(head, http::field::content_length);
  if (codings > 1 || lengths > 1 || (codings == 1 && lengths == 1)) return false;
  return codings == 0 || iequals(head[http::field::transfer_encoding], "chunked");
}

std::optional<refusal> check_origin(const http::request_header<>& head, const std::vector<std::string>& names,
                                    const std::vector<std::string>& origins) {
  const std::string_view host_field = head[http::field::host];
  const std::string_view host = host_part(host_field).value_or(std::string_view{});
  boost::system::error_code not_an_address;
  boost::asio::ip::make_address(host, not_an_address);
  const auto is_host = [&](const std::string& name) { return iequals(name, host); };
  if (not_an_address && !iequals(host, "localhost") && std::none_of(names.begin(), names.end(), is_host)) {
    return refusal{403, "unknown host name; name it in \"host_names\" if it is this gateway's"};
  }
  const auto origin = head.find(http::field::origin);
  if (origin == head.end()) {
    // What a page of another site makes a browser ask without saying whose page it is: pictures, scripts,
    // forms of old browsers. Following a link is no such thing.
    const bool follows = head["Sec-Fetch-Mode"] == "navigate" && head.method() == http::verb::get;
    if (head["Sec-Fetch-Site"] == "cross-site" && !follows)
      return refusal{403, "pages of another origin may not ask"};
    return std::nullopt;
  }
  const std::string_view value = origin->value();
  const auto slashes = value.find("://");
  const bool own = slashes != std::string_view::npos && iequals(value.substr(slashes + 3), host_field);
  if (!own && std::find(origins.begin(), origins.end(), value) == origins.end())
    return refusal{403, "pages of another origin may not ask"};
  return std::nullopt;
}

}  // namespace pocketfleet
