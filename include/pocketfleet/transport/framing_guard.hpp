// What is refused on the header alone, before a byte of the body is read and before anything else looks at
// it.
//
// Beast 345 (Boost 1.81) reads a request with an unknown transfer coding as one without a body, so that the
// body becomes a request of its own, and takes several other forms that proxies in front may read otherwise.
// This is the one place that keeps such requests out; Boost 1.92 refuses some of them itself.
#pragma once

#include <boost/beast/http/fields.hpp>
#include <boost/beast/http/message.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pocketfleet {

struct refusal {
  int status;
  std::string_view text;
};

/// A header line that is continued on the next one (obs-fold), which Beast joins without a word. `bytes`
/// begin with a whole header.
bool has_folded_line(std::string_view bytes);

/// The framing of a request: transfer coding, length, host, target, method.
std::optional<refusal> check_framing(const boost::beast::http::request_header<>& head,
                                     std::size_t most_fields, std::size_t most_target);

/// The same for a phone's response. False: it cannot be trusted to end where it says.
bool framing_is_sound(const boost::beast::http::response_header<>& head);

/// Who may be meant by Host: localhost, any IP address, this machine, and the names in the file. Other names
/// come from pages that made a browser believe that their name is this machine (DNS rebinding). A request of
/// a browser (it has an Origin, or says that it crosses sites) must come from a page of the same host, or of
/// one of `origins`.
std::optional<refusal> check_origin(const boost::beast::http::request_header<>& head,
                                    const std::vector<std::string>& names,
                                    const std::vector<std::string>& origins);

}  // namespace pocketfleet
