// How llama-server says an answer: events of its own on /completion, OpenAI's on /v1/completions and
// /v1/chat/completions, Anthropic's on /v1/messages.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "generate.hpp"
#include "json.hpp"

namespace pocketfleet::sim {

/// What both routes share. Lives as long as its request.
class llama_voice : public voice {
 public:
  std::string stream_type() const override { return "text/event-stream"; }
  std::string stream_headers() const override { return "X-Accel-Buffering: no\r\n"; }
  std::string whole_type() const override { return "application/json; charset=utf-8"; }
  std::string ping() const override { return ":\n\n"; }
  std::string line(std::string_view text) const override { return "data: " + std::string(text) + "\n\n"; }
  std::string error_event() const override;

 protected:
  static ordered usage(const tally& all);
  static std::string event(const ordered& data) { return "data: " + write_json(data) + "\n\n"; }
  static ordered timings(const tally& all);
};

/// The `error` object of llama-server, in its envelope.
std::string llama_error(unsigned status, std::string_view text, std::string_view type);

/// The tool that an answer calls, if it calls one.
struct called_tool {
  std::string name;
  std::string id;
};

class completion_voice final : public llama_voice {
 public:
  struct wishes {
    std::string model;
    std::string prompt;
    std::int64_t limit = -1;
    std::vector<std::string> stops;
    bool return_tokens = false;
    bool return_progress = false;
    bool timings_per_token = false;
  };
  explicit completion_voice(wishes what) : wishes_(std::move(what)) {}

  std::string progress(const tally& so_far, std::size_t processed, nanoseconds passed) override;
  std::string say(const piece& what, const tally& so_far) override;
  std::vector<std::string> finish(const tally& all) override;
  std::string whole(const tally& all) override;

 private:
  ordered last(const tally& all, bool streamed) const;
  wishes wishes_;
};

class chat_voice final : public llama_voice {
 public:
  struct wishes {
    std::string model;
    std::string id;
    std::string prefill;  ///< repeated in front of an answer that is not streamed
    called_tool tool{};
    std::optional<unsigned> logprobs{};
    bool include_usage = false;
    bool return_progress = false;
    bool timings_per_token = false;
  };
  explicit chat_voice(wishes what);

  std::string progress(const tally& so_far, std::size_t processed, nanoseconds passed) override;
  std::string say(const piece& what, const tally& so_far) override;
  std::vector<std::string> finish(const tally& all) override;
  std::string whole(const tally& all) override;

 private:
  ordered chunk(ordered choices) const;
  static ordered choice(ordered delta, const char* finish_reason);
  ordered call(std::string_view arguments, bool whole) const;

  wishes wishes_;
  std::int64_t created_;
  bool called_ = false;  // the call's name has been said
};

/// /v1/completions: text alone, from a raw prompt.
class text_voice final : public llama_voice {
 public:
  struct wishes {
    std::string model;
    std::string id;
    std::optional<unsigned> logprobs{};
    bool return_progress = false;
    bool timings_per_token = false;
  };
  explicit text_voice(wishes what);

  std::string progress(const tally& so_far, std::size_t processed, nanoseconds passed) override;
  std::string say(const piece& what, const tally& so_far) override;
  std::vector<std::string> finish(const tally& all) override;
  std::string whole(const tally& all) override;

 private:
  ordered object(std::string_view text, const std::vector<std::string>& tokens, const char* finish) const;

  wishes wishes_;
  std::int64_t created_;
};

/// /v1/messages. Blocks are begun as they come and all ended at the end.
class messages_voice final : public llama_voice {
 public:
  struct wishes {
    std::string model;
    std::string id;
    std::string prefill;  ///< repeated in front of an answer that is not streamed
    called_tool tool{};
  };
  explicit messages_voice(wishes what) : wishes_(std::move(what)) {}

  std::string say(const piece& what, const tally& so_far) override;
  std::vector<std::string> finish(const tally& all) override;
  std::string whole(const tally& all) override;
  std::string error_event() const override;

 private:
  std::string start(const tally& so_far) const;
  std::size_t block(part which, std::string& bytes);
  ordered reason(const tally& all) const;

  wishes wishes_;
  std::vector<part> blocks_;
  bool started_ = false;
};

}  // namespace pocketfleet::sim
