#include "pocketfleet/service/static_pages.hpp"

#include <algorithm>
#include <array>

#include "ask_common.hpp"
#include "pocketfleet/wire/digest.hpp"

namespace pocketfleet {
namespace {

constexpr std::string_view index = "index.html";

// The page loads and asks nothing but its own origin, runs no script but its files, and stands in nobody's
// frame.
constexpr std::string_view policy =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

constexpr std::array<std::pair<std::string_view, std::string_view>, 4> types{{
    {".html", "text/html; charset=utf-8"},
    {".css", "text/css; charset=utf-8"},
    {".js", "text/javascript; charset=utf-8"},
    {".svg", "image/svg+xml"},
}};

std::string_view type_of(std::string_view name) {
  const auto found =
      std::find_if(types.begin(), types.end(), [&](const auto& t) { return name.ends_with(t.first); });
  return found != types.end() ? found->second : "application/octet-stream";
}

}  // namespace

static_pages::static_pages(const std::vector<static_file>& files) {
  for (const auto& f : files)
    pages_.push_back({f.name, type_of(f.name), f.bytes, '"' + sha256_hex(f.bytes).substr(0, 16) + '"'});
}

std::vector<route> static_pages::routes() {
  std::vector<route> all{{"/", "GET", [this](http_call& call) { return root(call); }, access_level::open}};
  if (!pages_.empty())
    all.push_back({"/ui/*", "GET", [this](http_call& call) { return file(call); }, access_level::open});
  return all;
}

const static_pages::page* static_pages::find(std::string_view name) const {
  const auto found =
      std::find_if(pages_.begin(), pages_.end(), [&](const page& p) { return p.name == name; });
  return found != pages_.end() ? &*found : nullptr;
}

task<> static_pages::root(http_call& call) const {
  const page* const there = find(index);
  if (there != nullptr && call.accept.find("text/html") != std::string::npos) {
    co_await send(call, *there, true);
    co_return;
  }
  // By this Ollama's clients know that it is there.
  std::string greeting = "Ollama is running";
  header_list headers;
  if (there != nullptr) headers.emplace_back("Vary", "Accept");
  co_await call.out->send(200, "text/plain; charset=utf-8", std::move(greeting), std::move(headers));
}

task<> static_pages::file(http_call& call) const {
  const page* const there = call.below == index ? nullptr : find(call.below);
  if (there != nullptr) {
    co_await send(call, *there, false);
    co_return;
  }
  call.record.outcome = "not_found";
  std::string body = R"({"error":"there is no such file"})";
  co_await call.out->send(404, json_type, std::move(body));
}

/// Browsers ask again each time, and get nothing where they have it: after an upgrade no old file stands
/// beside new ones.
task<> static_pages::send(http_call& call, const page& what, bool by_accept) {
  header_list headers;
  headers.emplace_back("ETag", what.etag);
  headers.emplace_back("Cache-Control", "no-cache");
  headers.emplace_back("Content-Security-Policy", policy);
  headers.emplace_back("X-Content-Type-Options", "nosniff");
  headers.emplace_back("Referrer-Policy", "no-referrer");
  headers.emplace_back("Cross-Origin-Opener-Policy", "same-origin");
  headers.emplace_back("Cross-Origin-Resource-Policy", "same-origin");
  if (by_accept) headers.emplace_back("Vary", "Accept");
  if (call.if_none_match == "*" || call.if_none_match.find(what.etag) != std::string::npos) {
    std::string nothing;
    co_await call.out->send(304, std::string_view{}, std::move(nothing), std::move(headers));
    co_return;
  }
  std::string body(what.bytes);
  co_await call.out->send(200, what.type, std::move(body), std::move(headers));
}

}  // namespace pocketfleet
