// A simulated phone: a real HTTP server that behaves as Ollama or llama-server on a phone does.
//
// Every answer is " 1 2 3 ... N", one number a token, one token a chunk, so that a lost, repeated or
// reordered token is visible. N is the client's limit (finish "length"), or answer_tokens (finish "stop"). A
// conversation that ends in an assistant message, or a raw prompt, that ends in a number is continued behind
// that number; without a limit such a continuation ends at answer_tokens too, so that prefix and continuation
// make up the undisturbed answer.
//
// Three things are answered otherwise. A chat with tools, unless it ends in a tool's result: the first tool
// is called with {"n": 3}. A request for JSON: {"answer": "1 2 3"}. An embedding: eight numbers that depend
// on the text alone.
//
// Steering over HTTP, on the phone's own port, never hit by faults other than refuse and crash:
//   GET    /sim/state   what state() tells, as JSON
//   GET    /sim/last    the last request that generates: {"method","target","path","headers":{},"body"}
//   POST   /sim/fault   {"kind":"reset_after","after_tokens":3,"times":1,"factor":0.1,"duration_ms":500}; all
//   but kind
//                       optional; refuse and crash need duration_ms, for nobody could clear them
//   DELETE /sim/fault   clears it
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "pocketfleet/core/phone.hpp"
#include "pocketfleet/core/time.hpp"
#include "pocketfleet/sim/fault.hpp"

namespace pocketfleet::sim {

/// What a simulated phone is. Rates in tokens a second, each over 0.
struct phone_settings {
  engine_kind engine = engine_kind::ollama;  ///< not unknown
  std::string name;                          ///< for people; empty: "address:port"
  std::string model = "qwen2.5:1.5b";
  std::vector<std::string> other_models{};  ///< ollama: also in /api/tags; one model is in memory at a time
  std::string address = "127.0.0.1";        ///< IP literal
  std::uint16_t port = 0;                   ///< 0: any free one

  double prefill_rate = 200;
  double decode_rate = 10;  ///< of a request that runs alone
  milliseconds load_time{
      0};  ///< ollama: at the first request and after keep_alive; llama-server: after start()
  milliseconds keep_alive{std::chrono::minutes(5)};  ///< ollama: unless the request says otherwise
  unsigned slots = 1;                                ///< OLLAMA_NUM_PARALLEL, -np; more requests wait in line
  double gain_of_more = 1;      ///< what each further request at once adds to the speed of one alone; 1: they
                                ///< do not notice each other, 0: they share what one would have
  unsigned context = 4096;      ///< tokens a slot
  bool prompt_cache = true;     ///< each slot keeps its last prompt and answer; what a prompt begins alike is
                                ///< not read again, until the model is unloaded or the phone starts anew
  unsigned answer_tokens = 24;  ///< length of an answer when the client sets no limit

  double slowest = 0.3;      ///< share of both rates that is left when hot
  milliseconds heats_in{0};  ///< time under load from cold to hot; 0: never gets hot
  milliseconds cools_in{0};  ///< idle time from hot to cold; 0: as heats_in

  bool thinking = false;  ///< the model can think: reasoning comes before the answer unless switched off
  unsigned reasoning_tokens = 4;  ///< its length; counts towards limits as with the engines
  bool tools = true;              ///< ollama: otherwise 400 to a chat with tools
  bool messages = true;    ///< ollama: serves Anthropic's API; otherwise it is 0.13.5, which does not yet
  bool embedding = false;  ///< otherwise 501 to /api/embed and /v1/embeddings; llama-server: with it 501
                           ///< to all that generates
  bool continues = true;   ///< the chat template leaves a final assistant message open; otherwise begins anew
  bool echoes_prefill =
      false;  ///< llama-server: streams repeat a continued message unless continue_final_message
  milliseconds idle_close{5000};  ///< llama-server: idle connections are closed after this
  milliseconds sse_ping{30000};   ///< llama-server: a comment into a stream that has been silent for so long
};

/// What a phone has done since start. All counts are of requests that generate (chat, generate, completion,
/// messages and the count of their tokens, embed).
struct phone_state {
  std::uint64_t requests = 0;
  std::uint64_t completed = 0;      ///< answered to the end
  std::uint64_t cancelled = 0;      ///< the client left
  std::uint64_t failed = 0;         ///< ended by a fault or refused
  std::uint64_t tokens = 0;         ///< generated, reasoning included
  std::uint64_t loads = 0;          ///< times a model was read
  std::uint64_t prompt_tokens = 0;  ///< read
  std::uint64_t cached_tokens = 0;  ///< of prompts, that need not be read again
  unsigned active = 0;              ///< hold a slot
  unsigned waiting = 0;             ///< in line for one, or for the model
  unsigned max_active = 0;
  unsigned connections = 0;  ///< open now
  std::string loaded{};      ///< model in memory; empty: none
  fault_kind fault_now = fault_kind::none;
  double temperature_share = 0;  ///< 0 cold .. 1 hot
  double speed_share = 1;        ///< of the rates, now: 1 cold .. slowest
};

/// A request as the phone got it, for tests of what a gateway sends. Header names in lower case.
struct seen_request {
  std::string method;
  std::string target;
  std::map<std::string, std::string> headers;
  std::string body;  ///< at most 1 MiB of it
};

/// One simulated phone. The owner keeps the io_context alive longer, runs it on one thread, and calls
/// everything here on that thread or while it does not run; class fleet has calls for other threads.
class phone {
 public:
  phone(boost::asio::io_context& context, phone_settings settings);
  phone(phone&&) noexcept;
  phone& operator=(phone&&) noexcept;
  ~phone();  ///< stops

  /// Listens, and begins to accept as soon as the io_context runs. Throws boost::system::system_error when
  /// the address cannot be had, std::invalid_argument when the settings make no sense. A stopped phone may be
  /// started again: same port, empty memory.
  void start();

  /// Stops listening and resets every connection. Nothing is left in the io_context once it has run what is
  /// ready.
  void stop();

  std::uint16_t port() const;  ///< 0 before start()
  const phone_settings& settings() const;
  phone_config config() const;  ///< as phones.json would have it; max_concurrency is slots

  void set(const fault& what);  ///< replaces the one before
  void clear_fault();
  phone_state state() const;
  seen_request last_request() const;

  class server;  ///< private to the implementation

 private:
  std::shared_ptr<server> server_;
};

}  // namespace pocketfleet::sim
