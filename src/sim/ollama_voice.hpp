// How Ollama says an answer: lines of JSON, or one object.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "generate.hpp"
#include "json.hpp"

namespace pocketfleet::sim {

/// /api/chat or /api/generate. Lives as long as its request.
class ollama_voice final : public voice {
 public:
  ollama_voice(std::string model, bool chat) : model_(std::move(model)), chat_(chat) {}
  void tell_logprobs(unsigned top) { top_ = top; }
  void call(std::string tool, std::uint64_t number) {
    tool_ = std::move(tool);
    call_ = number;
  }
  void give_context(std::vector<token_id> prompt) {
    context_ = std::move(prompt);
  }  ///< the old `context` field

  std::string stream_type() const override { return "application/x-ndjson"; }
  std::string whole_type() const override { return "application/json; charset=utf-8"; }
  std::string say(const piece& what, const tally& so_far) override;
  std::vector<std::string> finish(const tally& all) override;
  std::string whole(const tally& all) override;
  std::string error_event() const override;
  std::string line(std::string_view text) const override { return std::string(text) + '\n'; }

 private:
  ordered object(std::string_view text, std::string_view thinking) const;
  void close(ordered& last, const tally& all) const;
  void add_call(ordered& into, const tally& all) const;

  std::string model_;
  bool chat_;
  std::vector<token_id> context_;
  std::optional<unsigned> top_;  // alternatives of each token; absent: no logprobs
  std::string tool_;
  std::uint64_t call_ = 0;
};

}  // namespace pocketfleet::sim
