// A phone's bytes, as far as its body.
//
// An exchange reads from a socket, so its loops cannot be run here. The ones below are those of
// src/transport/phone_exchange.cpp (fill, parse, read_head, read), line for line where it matters: keep them
// so.
#include <array>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <optional>
#include <stdexcept>

#include "fuzz.hpp"
#include "pocketfleet/transport/framing_guard.hpp"
#include "pocketfleet/transport/settings.hpp"

namespace pocketfleet::fuzz {
namespace {

namespace http = boost::beast::http;
using boost::system::error_code;

constexpr std::size_t read_size = 16384;
constexpr std::size_t header_limit = 16384;

/// What came of a response. The text of a response that broke off may end anywhere.
struct response {
  bool sound = false;  ///< it ended as it said it would
  unsigned status = 0;
  std::string head{};
  std::string body{};
};

class exchange {
 public:
  explicit exchange(portions bytes, std::size_t buffer_bytes = phone_link_settings{}.buffer_bytes)
      : bytes_(std::move(bytes)), buffer_(buffer_bytes) {
    std::erase(bytes_, std::string_view{});
  }

  response run() {
    response out;
    if (!read_head()) return out;
    const auto& head = parser_->get();
    out.status = head.result_int();
    for (const auto& field : head) {
      out.head.append(field.name_string()).append(": ").append(field.value()).append("\n");
    }
    const auto announced = parser_->content_length();
    const bool chunked = parser_->chunked();
    const bool to_the_end = parser_->need_eof();
    must(!(announced && chunked), "a body with two lengths");
    must(chunked == (head.count(http::field::transfer_encoding) == 1) || bodyless(out.status),
         "a transfer coding that was passed over");
    for (;;) {
      const auto got = read();
      if (!got) return out;
      if (got->empty()) break;
      out.body.append(*got);
    }
    must(bodyless(out.status) || !announced || out.body.size() == *announced,
         "a body is not as long as it was announced");
    out.sound = true;
    must(!(parser_->keep_alive() && to_the_end), "a connection that has ended would be used again");
    return out;
  }

 private:
  using parser = http::response_parser<http::buffer_body>;

  static bool bodyless(unsigned status) { return status == 204 || status == 304; }

  bool fill() {
    const std::size_t room = buffer_.max_size() - buffer_.size();
    if (room == 0) return false;
    if (next_ == bytes_.size()) {  // the phone has closed the connection
      must(!ended_, "it waits for more after the end");
      ended_ = true;
      if (!parser_->is_header_done()) return false;
      error_code bad;
      parser_->put_eof(bad);
      return !bad;
    }
    auto& portion = bytes_[next_];
    const std::size_t n = std::min({room, read_size, portion.size()});
    const auto space = buffer_.prepare(n);
    std::copy_n(portion.data(), n, static_cast<char*>(space.data()));
    buffer_.commit(n);
    portion.remove_prefix(n);
    if (portion.empty()) ++next_;
    return true;
  }

  std::optional<std::size_t> parse() {
    auto& body = parser_->get().body();
    body.data = decoded_.data();
    body.size = decoded_.size();
    body.more = true;
    error_code ec;
    try {
      buffer_.consume(parser_->put(buffer_.data(), ec));
    } catch (const std::length_error&) {  // the one that the exchange expects; any other ends this program
      return std::nullopt;
    }
    if (ec && ec != http::error::need_more && ec != http::error::need_buffer) return std::nullopt;
    return parser_->is_header_done() ? decoded_.size() - body.size : 0;
  }

  bool read_head() {
    for (unsigned interim = 0; interim < 8; ++interim) {
      parser_.emplace();
      parser_->header_limit(header_limit);
      parser_->body_limit(boost::none);
      parser_->eager(false);
      while (!parser_->is_header_done()) {
        if (buffer_.size() > 0) {
          const std::size_t before = buffer_.size();
          if (!parse()) return false;
          if (parser_->is_header_done() || buffer_.size() != before) continue;
        }
        if (!fill()) return false;
      }
      if (parser_->get().result_int() / 100 != 1) break;
    }
    if (parser_->get().result_int() / 100 == 1 || !framing_is_sound(parser_->get().base())) return false;
    parser_->eager(true);
    return true;
  }

  /// Empty: the body has ended. Nothing: it broke off.
  std::optional<std::string_view> read() {
    for (;;) {
      if (buffer_.size() > 0 && !parser_->is_done()) {
        const auto got = parse();
        if (!got) return std::nullopt;
        must(*got <= decoded_.size(), "more was decoded than there is room for");
        if (*got > 0) return std::string_view(decoded_.data(), *got);
      }
      if (parser_->is_done()) return std::string_view{};
      if (!fill()) return std::nullopt;
    }
  }

  portions bytes_;
  std::size_t next_ = 0;
  bool ended_ = false;
  boost::beast::flat_buffer buffer_;
  std::array<char, 16384> decoded_{};
  std::optional<parser> parser_;
};

void run(std::string_view text) {
  const response whole = exchange(portions{text}).run();
  dice thrown(text);
  const response cut = exchange(cut_at_random(text, thrown)).run();
  // With "phone_buffer_bytes" at its most a trailer field can be so long that Beast 345 throws.
  exchange(portions{text}, std::size_t{1} << 20U).run();
  // The parser's limits apply to what the buffer holds, which depends on the cuts.
  if (text.size() > header_limit) return;
  must(cut.sound == whole.sound, "sound or not, when the bytes are cut otherwise");
  if (!whole.sound) return;
  must(cut.status == whole.status && cut.head == whole.head,
       "another header when the bytes are cut otherwise");
  must(cut.body == whole.body, "another body when the bytes are cut otherwise");
}

}  // namespace
}  // namespace pocketfleet::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  pocketfleet::fuzz::run(pocketfleet::fuzz::text_of(data, size));
  return 0;
}
