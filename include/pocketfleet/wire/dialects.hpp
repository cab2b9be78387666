// The dialects that other tools speak, read: a body in, questions out. What is wrong with it is
// errc::bad_request with a text that begins with the field.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/core/error.hpp"
#include "pocketfleet/wire/question.hpp"

namespace pocketfleet {

struct generation_request {
  std::vector<question> choices{};  ///< one for each answer that is asked for
  std::size_t each = 1;             ///< so many of them, one behind the other, are of the same prompt
  bool stream = false;
  bool include_usage = false;  ///< OpenAI: a last chunk with the counts
  bool load = false;      ///< Ollama: nothing is asked; the model is to be read into memory, or out of it
  bool patient = false;   ///< OpenAI: "service_tier": "flex"
  std::string session{};  ///< OpenAI: "prompt_cache_key"
  std::vector<std::string> ignored{};  ///< Ollama: options left out, since they would make the phone reload
};

/// OpenAI: POST /v1/chat/completions. `n` choices become as many questions, which phones answer side by side;
/// a seed goes up by one from each to the next.
result<generation_request> parse_openai_chat(std::string_view body);

/// OpenAI: POST /v1/completions. Text goes to the model as it stands; each prompt of a list is a choice.
result<generation_request> parse_openai_completion(std::string_view body);

/// Ollama: POST /api/chat and /api/generate. Without `pass_load_options` options that would make a phone load
/// its model anew are left out: clients send them as a matter of course.
result<generation_request> parse_ollama_chat(std::string_view body, bool pass_load_options);
result<generation_request> parse_ollama_generate(std::string_view body, bool pass_load_options);

/// Anthropic: POST /v1/messages. Engines that serve it are sent it as it is; the neutral form is there to go
/// on with a begun answer.
result<generation_request> parse_anthropic(std::string_view body);

}  // namespace pocketfleet
