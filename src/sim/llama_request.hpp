// What llama-server reads out of a request body, and its texts for what it does not like.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "json.hpp"
#include "script.hpp"
#include "text.hpp"

namespace pocketfleet::sim {

/// The parts of the requests that matter here.
struct llama_request {
  std::string prompt{};
  std::vector<token_id> ids{};    ///< of the prompt
  std::uint64_t from = 0;         ///< the count goes on behind this number
  std::string prefill{};          ///< the assistant message that is continued
  bool told_to_continue = false;  ///< continue_final_message was there
  bool thinks = true;             ///< not switched off by the request
  std::int64_t limit = -1;
  std::vector<std::string> stops{};
  sim::script script{};
  std::optional<unsigned> logprobs{};  ///< alternatives of each token
  bool cache_prompt = true;
  bool stream = false;
  bool include_usage = false;
  bool return_tokens = false;
  bool return_progress = false;
  bool timings_per_token = false;
};

/// Why not; status 0 means that nothing is wrong.
struct llama_refusal {
  unsigned status = 0;
  std::string text{};
  explicit operator bool() const { return status != 0; }
};

/// /completion, or with `openai` /v1/completions.
llama_refusal read_completion(std::string_view body, bool openai, llama_request& into);
/// `continues`: the template leaves a final assistant message open.
llama_refusal read_chat(std::string_view body, bool continues, llama_request& into);
/// /v1/messages: Anthropic's request, which is made OpenAI's first.
llama_refusal read_anthropic(std::string_view body, bool continues, llama_request& into);

/// /v1/embeddings.
struct llama_texts {
  std::vector<std::string> list{};
  bool base64 = false;
};
llama_refusal read_texts(std::string_view body, llama_texts& into);

}  // namespace pocketfleet::sim
