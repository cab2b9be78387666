// A client's bytes: header, framing guard, body, and the next request behind it.
//
// The session reads from a socket, so its loops cannot be run here. The ones below are those of
// src/transport/session.cpp (fill, parse, read_header, read_body), line for line where it matters: keep them
// so.
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <optional>
#include <stdexcept>

#include "fuzz.hpp"
#include "pocketfleet/transport/framing_guard.hpp"
#include "pocketfleet/transport/settings.hpp"

namespace pocketfleet::fuzz {
namespace {

namespace http = boost::beast::http;
using boost::system::error_code;

constexpr std::size_t buffer_cap = std::size_t{32} << 10U;
constexpr std::size_t read_size = 8192;

/// The lines of a header behind the request line, as they stand there.
std::vector<std::string_view> raw_fields(std::string_view head) {
  std::vector<std::string_view> lines;
  for (auto at = head.find("\r\n"); at != std::string_view::npos;) {
    const auto begin = at + 2;
    at = head.find("\r\n", begin);
    if (at != std::string_view::npos && at > begin) lines.push_back(head.substr(begin, at - begin));
  }
  return lines;
}

/// How many of the lines a plain reader, as a proxy may have it, takes for fields of that name.
std::size_t count_raw(const std::vector<std::string_view>& lines, std::string_view name) {
  std::size_t n = 0;
  for (const auto line : lines) {
    std::string_view here = line.substr(0, line.find(':'));
    while (here.ends_with(' ') || here.ends_with('\t')) here.remove_suffix(1);
    if (boost::beast::iequals(here, name)) ++n;
  }
  return n;
}

class connection {
 public:
  explicit connection(portions bytes) : bytes_(std::move(bytes)), buffer_(buffer_cap) {
    std::erase(bytes_, std::string_view{});
  }

  /// The requests that would have been served, each with all that a handler can see of it.
  std::vector<std::string> requests() {
    std::vector<std::string> out;
    for (;;) {
      if (buffer_.size() == 0 && !fill()) break;
      if (!read_header() || !read_body()) break;
      out.push_back(seen());
      if (!parser_->keep_alive()) break;
    }
    return out;
  }

 private:
  using parser = http::request_parser<http::string_body>;

  bool fill() {
    const std::size_t room = buffer_.max_size() - buffer_.size();
    if (room == 0 || next_ == bytes_.size()) return false;
    auto& portion = bytes_[next_];
    const std::size_t n = std::min({room, read_size, portion.size()});
    const auto space = buffer_.prepare(n);
    std::copy_n(portion.data(), n, static_cast<char*>(space.data()));
    buffer_.commit(n);
    portion.remove_prefix(n);
    if (portion.empty()) ++next_;
    return true;
  }

  error_code parse() {
    error_code ec;
    try {
      buffer_.consume(parser_->put(buffer_.data(), ec));
    } catch (const std::length_error&) {  // the one that the session expects; any other ends this program
      ec = http::error::header_limit;
    }
    return ec == http::error::need_more ? error_code{} : ec;
  }

  bool read_header() {
    parser_.emplace();
    parser_->header_limit(static_cast<std::uint32_t>(limits_.header_bytes));
    parser_->body_limit(limits_.body_bytes);
    parser_->eager(false);
    head_.clear();
    while (!parser_->is_header_done()) {
      const auto bytes = buffer_.cdata();
      const std::string_view before(static_cast<const char*>(bytes.data()), bytes.size());
      const error_code ec = parse();
      // The parser may take the first lines of a header before the others have come.
      head_.append(before.substr(0, before.size() - buffer_.size()));
      if (has_folded_line(head_) && parser_->is_header_done()) return false;
      if (ec) return false;
      if (parser_->is_header_done()) break;
      if (!fill()) return false;
    }
    const auto& head = parser_->get().base();
    if (const auto why = check_framing(head, limits_.header_fields, limits_.target_bytes)) {
      must(why->status >= 400 && why->status <= 599 && !why->text.empty(), "a refusal says why");
      return false;
    }
    check_head();
    if (const auto why = check_origin(head, limits_.host_names, limits_.origins)) {
      must(why->status == 403 && !why->text.empty(), "a refusal says why");
      return false;
    }
    if (const auto origin = head.find(http::field::origin); origin != head.end()) {
      const std::string_view page = origin->value();
      const std::string_view host = head[http::field::host];
      must(page.size() >= host.size() && boost::beast::iequals(page.substr(page.size() - host.size()), host),
           "a page of another origin was let in");
    }
    return true;
  }

  bool read_body() {
    const std::string_view expect = parser_->get()[http::field::expect];
    if (!expect.empty() && !boost::beast::iequals(expect, "100-continue")) return false;
    const auto announced = parser_->content_length();
    const bool chunked = parser_->chunked();
    parser_->eager(true);
    while (!parser_->is_done()) {
      if (parse()) return false;
      if (parser_->is_done()) break;
      if (!fill()) return false;
    }
    const std::size_t size = parser_->get().body().size();
    must(size <= limits_.body_bytes, "a body over the limit");
    must(chunked || size == (announced ? *announced : 0), "a body is not as long as it was announced");
    return true;
  }

  /// What must be true of any header that the framing guard lets pass.
  void check_head() const {
    const auto& head = parser_->get().base();
    const auto lines = raw_fields(head_);
    const auto fields = static_cast<std::size_t>(std::distance(head.begin(), head.end()));
    must(lines.size() == fields, "a field more or less than there are lines");
    must(fields <= limits_.header_fields, "too many fields");
    must(head.target().size() <= limits_.target_bytes, "the target is too long");
    must(head.target().starts_with('/') || head.target() == "*", "an odd target");
    must(head.version() == 10 || head.version() == 11, "an odd version");

    must(head_.ends_with("\r\n\r\n"), "a header without an end");
    for (std::size_t i = 0; i < head_.size(); ++i) {
      const auto c = static_cast<unsigned char>(head_[i]);
      if (c == '\r') {
        must(head_[i + 1] == '\n', "a carriage return alone");
      } else if (c == '\n') {
        must(i > 0 && head_[i - 1] == '\r', "a line feed alone");
      } else {
        must((c >= 0x20 && c != 0x7f) || c == '\t', "a control character in the header");
      }
    }
    for (const auto line : lines) {
      const auto colon = line.find(':');
      must(colon != std::string_view::npos && colon > 0, "a line that is no field");
      must(line.substr(0, colon).find_first_of(" \t") == std::string_view::npos, "a space before the colon");
    }

    const auto hosts = count_raw(lines, "Host");
    const auto codings = count_raw(lines, "Transfer-Encoding");
    const auto lengths = count_raw(lines, "Content-Length");
    must(hosts == 1 && !head[http::field::host].empty(), "not exactly one Host");
    must(codings + lengths <= 1, "the body's length is ambiguous");
    must(count_raw(lines, "Content-Encoding") == 0, "a compressed body");
    must(parser_->chunked() == (codings == 1), "a transfer coding that was passed over");
    must(codings == 0 ||
             (head.version() == 11 && boost::beast::iequals(head[http::field::transfer_encoding], "chunked")),
         "a transfer coding that is not chunked");
    const auto announced = parser_->content_length();
    must(announced.has_value() == (lengths == 1), "a length that was passed over");
    if (announced) {
      std::string_view digits = head[http::field::content_length];
      while (digits.size() > 1 && digits.starts_with('0')) digits.remove_prefix(1);
      must(digits == std::to_string(*announced), "a length that was misread");
    }
  }

  std::string seen() const {
    const auto& request = parser_->get();
    std::string out;
    out.append(request.method_string()).append(" ").append(request.target());
    out.append(" ").append(std::to_string(request.version())).append("\n");
    for (const auto& field : request) {
      out.append(field.name_string()).append(": ").append(field.value()).append("\n");
    }
    return out.append("\n").append(request.body());
  }

  const listener_settings limits_{};
  portions bytes_;
  std::size_t next_ = 0;
  boost::beast::flat_buffer buffer_;
  std::optional<parser> parser_;
  std::string head_;  // of the present request, as it came
};

void run(std::string_view text) {
  const auto whole = connection(portions{text}).requests();
  dice thrown(text);
  const auto cut = connection(cut_at_random(text, thrown)).requests();
  // The parser takes the lines of a header before the blank one has come.
  const auto last_line = std::min(text.find("\r\n\r\n"), text.size());
  const auto blank = std::min(last_line + 2, text.size());
  const auto late = connection({text.substr(0, blank), text.substr(blank)}).requests();
  // The parser's limits apply to what the buffer holds, which depends on the cuts.
  if (text.size() > listener_settings{}.header_bytes) return;
  must(cut == whole, "other requests when the bytes are cut at random");
  must(late == whole, "other requests when a blank line comes late");
}

}  // namespace
}  // namespace pocketfleet::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  pocketfleet::fuzz::run(pocketfleet::fuzz::text_of(data, size));
  return 0;
}
