#include "pocketfleet/wire/refusal.hpp"

#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {
namespace {

/// As both of these APIs name them.
std::string_view type_of(int status) {
  switch (status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 413: return "request_too_large";
    case 429: return "rate_limit_error";
    case 501: return "not_supported_error";
    case 503: return "overloaded_error";
    default: return status < 500 ? "invalid_request_error" : "api_error";
  }
}

/// "options.seed" of "options.seed: expected a whole number"; empty if the text names no field.
std::string_view field_of(std::string_view message) {
  const auto colon = message.find(": ");
  if (colon == std::string_view::npos || colon > 80) return {};
  const std::string_view field = message.substr(0, colon);
  const bool name =
      field.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_.[]") == std::string_view::npos;
  return name ? field : std::string_view{};
}

}  // namespace

envelope envelope_of(std::string_view path) {
  if (path.starts_with("/v1/messages")) return envelope::anthropic;
  return path.starts_with("/v1/") || path == "/v1" ? envelope::openai : envelope::plain;
}

std::string render_refusal(envelope form, const refusal_text& why) {
  std::string out;
  const auto text = [&](std::string_view before, std::string_view value) {
    out += before;
    append_json_string(out, value);
  };
  switch (form) {
    case envelope::plain: text(R"({"error":)", why.message); break;
    case envelope::openai: {
      text(R"({"error":{"message":)", why.message);
      text(R"(,"type":)", type_of(why.status));
      if (const auto field = field_of(why.message); !field.empty()) {
        text(R"(,"param":)", field);
      } else {
        out += R"(,"param":null)";
      }
      text(R"(,"code":)", why.code);
      out += '}';
      break;
    }
    case envelope::anthropic:
      text(R"({"type":"error","error":{"type":)", type_of(why.status));
      text(R"(,"message":)", why.message);
      text("},\"request_id\":", why.request_id);
      break;
  }
  return out + '}';
}

}  // namespace pocketfleet
