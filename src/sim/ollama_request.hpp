// What Ollama reads out of a request body, and its texts for what it does not like.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "gate.hpp"
#include "json.hpp"
#include "text.hpp"

namespace pocketfleet::sim {

/// A refusal: status 0 means none.
struct refusal {
  unsigned status = 0;
  std::string text{};
  explicit operator bool() const { return status != 0; }
};

/// The parts of /api/chat, /api/generate and /api/embed that matter here.
struct ollama_request {
  json body;
  std::string model;  ///< as the client wrote it
  std::optional<sim::keep_alive> keep{};
  std::vector<message> messages{};  ///< chat
  bool stream = true;
  bool raw = false;
  bool render_only = false;
  std::optional<bool> think{};
  std::optional<std::uint64_t> limit{};  ///< num_predict over 0
  std::vector<std::string> stops{};
  std::string load_options{};  ///< those that a loaded model cannot change
  bool wants_json = false;     ///< format
  bool logprobs = false;
  unsigned top_logprobs = 0;
};

/// Reads the body, or tells why Ollama would not.
refusal read_ollama(std::string_view text, ollama_request& into);

/// "qwen2.5" and "QWEN2.5:latest" name one model.
std::string model_key(std::string_view name);

/// Go's time.ParseDuration; absent with a message in `wrong`.
std::optional<nanoseconds> go_duration(std::string_view text, std::string& wrong);

}  // namespace pocketfleet::sim
