// Names of models, compared as Ollama does: without regard to case, and `name` is `name:latest`.
#pragma once

#include <string>
#include <string_view>

namespace pocketfleet {

/// The form that is compared: lower case, with a tag. "Qwen2.5" -> "qwen2.5:latest". A name that is a path
/// (llama-server without --alias) keeps its letters and gets no tag.
std::string normalized_model(std::string_view name);

}  // namespace pocketfleet
