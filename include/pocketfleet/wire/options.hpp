// The settings of sampling: their types, and what OpenAI's API and Ollama's call them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {

/// What the other one calls it; empty: it has none. Where OpenAI has none, it is llama-server's.
std::string_view openai_name(std::string_view ollama);
std::string_view ollama_name(std::string_view openai);

/// All that Ollama has.
std::vector<std::string_view> ollama_options();
bool is_ollama_option(std::string_view name);

/// Ollama unloads its model and loads it again when this changes.
bool reloads_model(std::string_view option);

/// The value, a single stop string made a list. errc::bad_request: "expected a whole number", without the
/// field's name.
result<json> read_option(std::string_view ollama_name, const json& value);

/// A keep_alive of 0: the model is to be out of memory after the answer.
bool unloads(const json& keep_alive);

}  // namespace pocketfleet
