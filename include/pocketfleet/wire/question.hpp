// What a client asks, whichever dialect it asked in.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {

/// The JSON in which a question came, a form each: what an engine that speaks it is sent, too.
enum class dialect : std::uint8_t {
  ask,  ///< ours
  openai_chat,
  openai_completion,
  ollama_chat,
  ollama_generate,
  anthropic,
};

/// Checked by the dialect that made it. All dialects meet in the neutral fields; an engine that speaks the
/// client's own dialect is sent `native` instead, with what the client wrote in it and the gateway does not
/// know.
struct question {
  std::string model;  ///< as the client wrote it; empty: the phone's own

  /// A non-empty array in Ollama's form, system first if there is one: {"role","content"} and, if `rich`,
  /// some of images (base64), thinking, tool_calls (arguments are objects), tool_name, tool_call_id. Null if
  /// `raw`.
  json messages;
  bool rich = false;
  bool has_images = false;

  bool raw = false;    ///< `prompt` goes to the model as it stands, without the template of a chat
  std::string prompt;  ///< only if `raw`

  json options =
      json::object();  ///< Ollama's names: num_predict, temperature, stop, ...; known keys, sound types
  json format;         ///< null, "json" or a JSON Schema
  json think;          ///< null, true, false, or a level
  json keep_alive;     ///< null, or seconds, or a duration with a unit
  json tools;          ///< null, or a non-empty array as both APIs have it

  dialect spoken = dialect::ask;
  json native;              ///< the client's body without model, stream and the like; null: there is none
  std::string native_only;  ///< a field of it that has no neutral form; empty: none, any engine can be asked
  json apart;               ///< what else keeps it apart from questions of the same neutral form
  bool resumable = true;    ///< the neutral form says enough to go on with a begun answer
};

}  // namespace pocketfleet
