// Embeddings: /v1/embeddings as OpenAI has it, /api/embed and the older /api/embeddings as Ollama has them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/core/error.hpp"
#include "pocketfleet/core/phone.hpp"
#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {

enum class embeddings_dialect : std::uint8_t {
  openai,
  ollama,
  ollama_prompt,  ///< the older one: one text, "prompt", and one vector, "embedding"
};

/// Splitting it needs no more than `inputs`; the rest goes to each phone alike.
struct embeddings_request {
  embeddings_dialect dialect{};
  std::string model;                 ///< as the client calls it
  std::vector<json> inputs;          ///< each a text, or an array of token numbers
  bool base64 = false;               ///< the client wants vectors so
  json rest = json::object();        ///< what else the body said
  engine_mask engines = any_engine;  ///< those that can do all that it says
  std::string why;                   ///< why the others cannot; names the field
  std::vector<std::string>
      ignored;  ///< options left out, since they would make the phone load its model anew
};

struct embeddings_rules {
  std::size_t most_inputs = 2048;  ///< OpenAI's
  bool pass_load_options = false;  ///< options that make Ollama reload its model are left out unless true
};

/// A mistake is errc::bad_request with a text that names the field. The model must be named: vectors of two
/// models do not go together.
result<embeddings_request> parse_embeddings(embeddings_dialect dialect, std::string_view body,
                                            const embeddings_rules& rules);

struct embeddings_query {
  std::string_view target;  ///< a literal; the method is POST
  std::string body;
};

/// Asks an engine for the vectors of `count` inputs from `first` on. `model` as the phone calls it.
embeddings_query encode_embeddings(const embeddings_request& r, engine_kind engine, std::string_view model,
                                   std::size_t first, std::size_t count);

/// What a phone has answered to that.
struct embeddings_part {
  std::vector<std::string> vectors{};  ///< as the client gets them, in the order of the inputs
  std::size_t dimensions = 0;          ///< of each
  std::uint64_t prompt_tokens = 0;
  nanoseconds load_time{0};
};

/// errc::bad_response: not `count` vectors of one length in the engine's form.
result<embeddings_part> decode_embeddings(const embeddings_request& r, engine_kind engine, std::size_t count,
                                          std::string_view body);

struct embeddings_counts {
  std::uint64_t prompt_tokens = 0;
  nanoseconds load_time{0};
  nanoseconds total_time{0};
};

/// The answer in the client's dialect.
std::string render_embeddings(const embeddings_request& r, const std::vector<std::string>& vectors,
                              const embeddings_counts& counts);

}  // namespace pocketfleet
