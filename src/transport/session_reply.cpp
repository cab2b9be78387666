// The session as the reply to its present request: heads, chunks, endings.
#include <algorithm>
#include <array>
#include <charconv>

#include "pocketfleet/transport/status.hpp"
#include "session.hpp"

namespace pocketfleet {

using boost::system::error_code;

namespace {

/// Up to here a copy into one buffer costs less than a system call that gathers several.
constexpr std::size_t worth_gathering = 4096;

}  // namespace

std::string session::head(int status, std::string_view content_type, const header_list& headers,
                          std::string_view framing) {
  std::string out;
  out.reserve(384);
  out.append("HTTP/1.1 ").append(std::to_string(status)).append(" ").append(reason_phrase(status));
  out.append("\r\nServer: pocketfleet\r\nDate: ").append(server_->date());
  out.append("\r\nX-Request-Id: ").append(request_id_);
  // Anthropic's library looks for it under its own name.
  if (form() == envelope::anthropic) out.append("\r\nRequest-Id: ").append(request_id_);
  if (!origin_.empty()) {
    out.append("\r\nAccess-Control-Allow-Origin: ").append(origin_).append("\r\nVary: Origin");
    out.append("\r\nAccess-Control-Expose-Headers: X-Request-Id, X-Phone, X-Cache, X-Stand-In, Retry-After");
  }
  if (!content_type.empty()) out.append("\r\nContent-Type: ").append(content_type);
  for (const auto& [name, value] : headers) {
    out.append("\r\n").append(name).append(": ");
    // Names of phones come from the file, but nothing may end the line.
    for (const char c : value) out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  if (finish_) keep_alive_ = false;
  if (!keep_alive_) out.append("\r\nConnection: close");
  out.append("\r\n").append(framing).append("\r\n");
  return out;
}

task<> session::send(int status, std::string_view content_type, std::string body, header_list headers) {
  status_ = status;
  std::string framing;
  if (status != 204 && status != 304) framing = "Content-Length: " + std::to_string(body.size()) + "\r\n";
  std::string first = head(status, content_type, headers, framing);
  std::string_view second = head_only_ ? std::string_view{} : std::string_view(body);
  if (second.size() < worth_gathering) {
    first.append(second);
    second = {};
  }
  outgoing all(first, second);
  if (!write_at_once(all) && !co_await write_rest(all)) leave();
}

task<> session::fail(const error& why, header_list headers) {
  has_failed_ = true;
  failed_ = why.code;
  const int status = http_status(why);
  if (why.retry_after > seconds{0})
    headers.emplace_back("Retry-After", std::to_string(why.retry_after.count()));
  // OpenAI's and Anthropic's libraries ask again by themselves. Where every phone has been tried that would
  // only double the load; where the fleet is busy, Retry-After says when.
  if (status >= 500 && status != 503) headers.emplace_back("X-Should-Retry", "false");
  std::string body = refusal_body(status, to_string(why.code), why.message);
  co_await send(status, "application/json", std::move(body), std::move(headers));
}

void session::begin(int status, std::string_view content_type, header_list headers) {
  status_ = status;
  if (parser_->get().version() == 10)
    keep_alive_ = false;  // HTTP/1.0 knows no chunks: the body ends with the connection
  pending_head_ = head(status, content_type, headers,
                       parser_->get().version() == 10 ? "" : "Transfer-Encoding: chunked\r\n");
}

task<bool> session::write(std::string_view bytes) {
  if (bytes.empty() && pending_head_.empty()) co_return true;
  if (head_only_) {  // the head is all there is
    co_await end({});
    co_return false;
  }
  std::string first = std::exchange(pending_head_, {});
  bool sent = false;
  if (parser_->get().version() == 10) {
    outgoing all(first, bytes);
    sent = write_at_once(all) || co_await write_rest(all);
  } else {
    char size[24];
    const auto digits = std::to_chars(size, size + sizeof size, bytes.size(), 16).ptr;
    first.append(size, digits).append("\r\n");
    if (bytes.size() < worth_gathering) {
      first.append(bytes).append("\r\n");
      outgoing all(first);
      sent = write_at_once(all) || co_await write_rest(all);
    } else {
      outgoing all(first, bytes, "\r\n");
      sent = write_at_once(all) || co_await write_rest(all);
    }
  }
  if (!sent) leave();
  co_return sent;
}

task<> session::end(std::string_view last) {
  std::string all = std::exchange(pending_head_, {});
  if (head_only_) {
    // no body
  } else if (parser_->get().version() == 10) {
    all.append(last);
  } else {
    if (!last.empty()) {
      char size[24];
      const auto digits = std::to_chars(size, size + sizeof size, last.size(), 16).ptr;
      all.append(size, digits).append("\r\n").append(last).append("\r\n");
    }
    all.append("0\r\n\r\n");
  }
  outgoing bytes(all);
  if (!write_at_once(bytes) && !co_await write_rest(bytes)) leave();
}

void session::cut() {
  cut_ = true;
  keep_alive_ = false;
}

/// Writes until the socket takes no more; nearly always it all goes. True: it has.
bool session::write_at_once(outgoing& what) {
  while (what.left > 0) {
    error_code ec;
    std::size_t n = 0;
    auto& parts = what.parts;
    if (tls_) {
      const auto next = std::find_if(parts.begin(), parts.end(), [](const auto& p) { return p.size() > 0; });
      n = tls_->write_some(*next, ec);
    } else {
      n = what.left == parts[0].size() ? socket_.write_some(parts[0], ec) : socket_.write_some(parts, ec);
    }
    what.broken = ec && ec != asio::error::would_block;
    if (ec) return false;
    what.left -= n;
    for (auto& part : parts) {
      const std::size_t gone = std::min(n, part.size());
      part += gone;
      n -= gone;
    }
  }
  return true;
}

/// After that. False: the client is gone, or has taken nothing for as long as is waited.
task<bool> session::write_rest(outgoing& what) {
  while (!what.broken) {
    guard_.set(clock::now() + server_->face().settings.write_stall);
    const bool to_read = tls_ && !tls_->wants_write();
    const auto how = to_read ? asio::ip::tcp::socket::wait_read : asio::ip::tcp::socket::wait_write;
    const auto [failed] = co_await socket_.async_wait(how, use_result);
    guard_.never();
    if (expired_ || (failed && failed != asio::error::operation_aborted)) co_return false;
    if (write_at_once(what)) co_return true;
  }
  co_return false;
}

}  // namespace pocketfleet
