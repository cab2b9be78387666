// What a client is told that gets no answer, in the form that its dialect has for it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace pocketfleet {

enum class envelope : std::uint8_t {
  plain,      ///< {"error":"text"}: ours and Ollama's
  openai,     ///< {"error":{"message","type","param","code"}}
  anthropic,  ///< {"type":"error","error":{"type","message"},"request_id"}
};

/// By the path of the request: /v1/messages is Anthropic's, the rest of /v1 OpenAI's.
envelope envelope_of(std::string_view path);

struct refusal_text {
  int status = 0;            ///< HTTP
  std::string_view code;     ///< errc's name, or what the transport calls it
  std::string_view message;  ///< "field: what is wrong with it" names the field
  std::string_view request_id;
};

/// One JSON object, without a line end.
std::string render_refusal(envelope form, const refusal_text& why);

}  // namespace pocketfleet
