// Anthropic's Messages API as Ollama serves it since 0.14: a layer that makes the request one for /api/chat,
// and each line of that answer events.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "generate.hpp"
#include "json.hpp"
#include "ollama_request.hpp"

namespace pocketfleet::sim {

/// Reads the body of /v1/messages, or tells why Ollama would not. `thinks`: the model can; asked to
/// nevertheless it just does not, on this route.
refusal read_ollama_messages(std::string_view text, bool thinks, ollama_request& into);

/// An error in the layer's envelope.
std::string ollama_messages_error(unsigned status, std::string_view text, std::uint64_t id);

/// Lives as long as its request.
class ollama_messages_voice final : public voice {
 public:
  ollama_messages_voice(std::string model, std::uint64_t number);
  void call(std::string tool) { tool_ = std::move(tool); }

  std::string stream_type() const override { return "text/event-stream"; }
  std::string stream_headers() const override { return "Cache-Control: no-cache\r\n"; }
  std::string whole_type() const override { return "application/json"; }
  std::string say(const piece& what, const tally& so_far) override;
  std::vector<std::string> finish(const tally& all) override;
  std::string whole(const tally& all) override;
  std::string error_event() const override { return {}; }  // lost by the layer: the stream just ends
  std::string line(std::string_view text) const override { return "data: " + std::string(text) + "\n\n"; }

 private:
  void start(std::string& bytes, const tally& so_far);
  void open(std::string& bytes, part which);
  void close(std::string& bytes);
  ordered tool_use() const;

  std::string model_;
  std::string id_;
  std::string tool_;
  bool started_ = false;
  bool open_ = false;  // a block is
  part block_ = part::answer;
  std::size_t index_ = 0;
};

}  // namespace pocketfleet::sim
