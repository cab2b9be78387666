// One answer of a simulated phone, token by token on its clock, with the fault it shows.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "connection.hpp"
#include "gate.hpp"
#include "script.hpp"
#include "text.hpp"

namespace pocketfleet::sim {

/// What is to be generated.
struct job {
  std::string model;
  std::string options{};                  ///< load-time options as text, see gate
  std::optional<sim::keep_alive> keep{};  ///< what the request says
  std::size_t prompt_tokens = 0;
  std::vector<token_id> prompt{};  ///< empty: nothing of it can be in a cache
  std::uint64_t from = 0;          ///< the count goes on behind this number
  std::optional<std::uint64_t>
      limit{};             ///< tokens, reasoning included; absent: until the count is at its end
  std::uint64_t room = 0;  ///< tokens that the context, or the engine, allows at most
  std::vector<std::string> stops{};
  unsigned reasoning = 0;  ///< tokens of it before the answer
  sim::script script{};    ///< what is said instead of numbers
  bool logprobs = false;   ///< the voice wants to know every token
  std::string echo{};      ///< said again before anything new
  bool stream = true;
};

/// What has come of it, so far or in the end.
struct tally {
  std::size_t prompt_tokens = 0;
  std::size_t cached = 0;    ///< of these
  std::uint64_t tokens = 0;  ///< reasoning included
  std::string text{};        ///< without the echo
  std::string reasoning{};
  std::vector<token_id> ids{};      ///< of the answer, without the reasoning
  std::string arguments{};          ///< of a tool call
  bool called = false;              ///< the tool call is whole
  std::vector<std::string> said{};  ///< every token, if logprobs are wanted
  bool limited = false;             ///< ended by the limit or for want of room
  bool out_of_room = false;
  bool done = true;    ///< false: a fault has ended it without the engine's end
  std::string word{};  ///< the stop string that ended it
  unsigned slot = 0;
  nanoseconds load{0}, prefill{0}, decode{0}, total{0};
};

enum class part : std::uint8_t { reasoning, answer, call };

/// One token on its way out.
struct piece {
  std::string text{};  ///< may be empty, when a stop string may be beginning
  token_id id = -1;
  sim::part part = part::answer;
  bool first = false;                 ///< of all
  std::vector<std::string> tokens{};  ///< that the text stands for, if logprobs are wanted
};

/// An engine's way to say things on one route. Owned by the handler of the request. Streamed parts are one
/// HTTP chunk each; an empty one is not sent.
class voice {
 public:
  virtual ~voice() = default;
  virtual std::string stream_type() const = 0;
  virtual std::string stream_headers() const { return {}; }
  virtual std::string progress(const tally&, std::size_t /*processed*/, nanoseconds /*passed*/) { return {}; }
  virtual std::string ping() const { return {}; }
  virtual std::string say(const piece& what, const tally& so_far) = 0;
  virtual std::vector<std::string> finish(const tally& all) = 0;
  virtual std::string whole_type() const = 0;
  virtual std::string whole(const tally& all) = 0;
  virtual std::string error_event() const = 0;                ///< in mid-stream
  virtual std::string line(std::string_view text) const = 0;  ///< any text in the stream's framing
};

/// Waits for a slot, generates, writes the whole response and counts the request. Faults of the current
/// request are shown here; also the answers that need no tokens (HTTP errors).
boost::asio::awaitable<void> generate(connection& client, job what, voice& speaker);

/// For requests that generate without an answer in tokens (loading, embedding): shows the faults that hit
/// before a header. True: the fault has answered, or the client has left.
boost::asio::awaitable<bool> fault_answers(connection& client, const fault& shown);

}  // namespace pocketfleet::sim
