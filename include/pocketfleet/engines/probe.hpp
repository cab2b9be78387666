// What a phone's own pages say about it: which engine, which models, how many at once. No I/O.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/core/error.hpp"
#include "pocketfleet/core/phone.hpp"

namespace pocketfleet {

/// From GET /: llama-server names itself in the Server field of every response, Ollama says so in the text.
engine_kind identify(std::string_view server_field, std::string_view body);

/// The most of a phone's own words about one model that is kept.
inline constexpr std::size_t most_about = std::size_t{4} << 10U;

/// Ollama: GET /api/tags or GET /api/ps; the identity is the digest.
result<std::vector<served_model>> read_ollama_models(std::string_view body);

/// Ollama: GET /api/version. Whether that release serves Anthropic's Messages API, as those from 0.14 on do;
/// absent if it does not say (a build of one's own calls itself 0.0.0).
std::optional<bool> serves_messages(std::string_view version_body);

/// llama-server: ids and aliases in GET /v1/models. Its API shows no digest of the file; what stands for one
/// is all that it says of it: size in bytes, numbers of parameters and of tokens in the vocabulary,
/// quantization, and with name_file() the file's name.
result<std::vector<served_model>> read_llama_models(std::string_view body);

/// llama-server: GET /props.
struct llama_props {
  std::optional<std::uint32_t> slots{};
  std::optional<bool> vision{};
  std::string file{};  ///< the model's, without its folder
};

/// Two models of one make have the same size: their files' names tell them apart.
void name_file(std::vector<served_model>& models, std::string_view file);

/// What the supervisor of a group says (docs/groups.md); words from elsewhere are cut and made plain.
result<group_report> read_group_status(std::string_view body);

result<llama_props> read_llama_props(std::string_view body);

}  // namespace pocketfleet
