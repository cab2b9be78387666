// The fleet's models, as the clients of OpenAI's and Ollama's APIs ask for them.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/core/error.hpp"
#include "pocketfleet/core/phone.hpp"

namespace pocketfleet {

/// In the order in which their words count: of two that have a model, the first one's entry is given.
using catalog_phones = std::vector<std::shared_ptr<const phone_target>>;

/// Normalized names of the models that are shown; empty: all.
using model_filter = std::span<const std::string>;

/// GET /v1/models: one entry for each name, aliases too, by name.
std::string openai_models(const catalog_phones& phones, model_filter only = {});

/// GET /v1/models/ID; nothing if no phone has it.
std::optional<std::string> openai_model(const catalog_phones& phones, std::string_view id,
                                        model_filter only = {});

/// GET /api/tags. The entries are those of the phones; llama-server's are made of what it says.
std::string ollama_tags(const catalog_phones& phones, model_filter only = {});

/// GET /api/ps of phones that are up: what is in their memory, and in "pocketfleet" whose.
std::string ollama_ps(const catalog_phones& phones, model_filter only = {});

/// POST /api/show. The error names the field.
struct show_request {
  std::string model;
  bool verbose = false;
};
result<show_request> parse_show(std::string_view body);

/// What goes to an Ollama that knows the model by that name.
std::string render_show(std::string_view model, bool verbose);

/// The answer of a llama-server, made of what it has said of its model and of its /props.
/// errc::bad_response: these are not llama-server's.
result<std::string> ollama_show(const served_model& model, std::string_view props);

}  // namespace pocketfleet
