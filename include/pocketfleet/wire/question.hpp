// What a client asks, whichever dialect it asked in.
#pragma once

#include <string>

#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {

/// Checked by the dialect that made it: `messages` is a non-empty array of {"role","content"[,"images"]} with
/// string roles and contents, `options` an object whose known keys have their types, the others null or of
/// the right type.
struct question {
  std::string model;              ///< as the client wrote it; empty: the phone's own
  json messages;                  ///< system first, if there is one
  json options = json::object();  ///< Ollama's names: num_predict, temperature, stop, ...
  json format;                    ///< null, "json" or a JSON Schema
  json think;                     ///< null, true, false, or a level
  json keep_alive;                ///< null, or seconds, or a duration with a unit
  bool has_images = false;
};

}  // namespace pocketfleet
