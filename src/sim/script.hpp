// What a simulated model says when a request leaves it no freedom to count: JSON, or the call of a tool.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "json.hpp"

namespace pocketfleet::sim {

/// An answer token by token. Without pieces the model counts.
struct script {
  std::vector<std::string> pieces{};
  std::string tool{};  ///< the function that is called, the pieces being its arguments; empty: they are text
  bool calls() const { return !tool.empty(); }
};

script json_script();                        ///< {"answer": "1 2 3"}
script call_script(const json& first_tool);  ///< the tool as OpenAI, Ollama or Anthropic have it; {"n": 3}

/// Of a request: the first tool is called, unless `answered`: the conversation ends in a tool's result.
script script_for(const json& tools, bool answered, bool wants_json);

/// One entry a token, as OpenAI has them; `top` alternatives in each. llama-server also tells the tokens' ids
/// and always has the list of alternatives.
ordered logprob_entries(const std::vector<std::string>& tokens, unsigned top, bool llama_server);

}  // namespace pocketfleet::sim
