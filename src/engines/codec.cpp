#include "pocketfleet/engines/codec.hpp"

#include "engines.hpp"
#include "pocketfleet/wire/fast_json.hpp"

namespace pocketfleet {
namespace {

/// The text of an error body: {"error":"text"} (Ollama) or {"error":{"message":"text"}} (llama-server).
std::string error_text(std::string_view body) {
  const auto document = parse_fast(body);
  if (!document) return {};
  std::string_view text;
  if ((*document)["error"].get(text) == simdjson::SUCCESS) return std::string(text);
  if ((*document)["error"]["message"].get(text) == simdjson::SUCCESS) return std::string(text);
  return {};
}

}  // namespace

const engine& engine_of(engine_kind kind) {
  return kind == engine_kind::ollama ? ollama_engine() : llama_server_engine();
}

bool no_such_route(std::string_view body) {
  const std::string text = error_text(body);
  return text.empty() || text == "File Not Found";  // Ollama's router answers in plain text
}

error phone_failure(int status, std::string_view body) {
  const std::string text = error_text(body);
  const auto said = [&](std::string_view fallback) { return text.empty() ? std::string(fallback) : text; };
  if (status == 404) return {errc::model_missing, said("the phone does not have the model")};
  if (status == 401 || status == 403) return {errc::phone_error, "the phone refuses the gateway"};
  if (status == 408 || status == 425 || status == 429) return {errc::phone_busy, said("the phone is busy")};
  // A model of that name under another engine, or in another build, may.
  if (status == 400 && text.ends_with("does not support thinking"))
    return {errc::unsupported, "think: " + text};
  if (status >= 400 && status < 500) return {errc::rejected, said("the phone refuses the request"), status};
  if (status == 501) return {errc::rejected, said("the phone cannot do that"), status};
  if (status == 503) {
    return text == "Loading model" ? error(errc::phone_loading, "the phone is loading its model")
                                   : error(errc::phone_busy, said("the phone is busy"));
  }
  if (status >= 500) {
    // Ollama answers 500 to an option of the wrong type: the client's mistake, the same on every phone.
    if (text.starts_with("option \"") && text.find("must be of type") != std::string::npos) {
      return {errc::rejected, text, 400};
    }
    return {errc::phone_error, said("the phone failed")};
  }
  return {errc::bad_response, "the phone answered with status " + std::to_string(status)};
}

}  // namespace pocketfleet
