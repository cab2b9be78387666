// What the service asks of the layers around it: a way to phones, a way to answer a client, and someone to
// tell.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pocketfleet/core/api_key.hpp"
#include "pocketfleet/core/error.hpp"
#include "pocketfleet/core/phone.hpp"
#include "pocketfleet/service/async.hpp"

namespace pocketfleet {

// ---- towards phones

struct phone_response_head {
  int status = 0;
  std::string server;  ///< the Server field, by which llama.cpp is known
  std::string content_type;
};

/// One request to one phone, over a pooled connection or a new one. Used by one coroutine, on the worker that
/// opened it. Destroyed before the body has ended, it closes the connection, which is how a phone is told to
/// stop.
class phone_exchange {
 public:
  phone_exchange() = default;
  phone_exchange(const phone_exchange&) = delete;
  phone_exchange& operator=(const phone_exchange&) = delete;
  virtual ~phone_exchange() = default;

  /// Takes a pooled connection or makes one. Errors: connect_failed, aborted.
  virtual task<result<void>> connect(time_point deadline) = 0;

  /// After connect(): sends, and reads the head of the response. A pooled connection that turns out to have
  /// been closed is replaced once. Errors: connect_failed, connection_lost, bad_response, aborted; at the
  /// deadline first_token_timeout.
  virtual task<result<phone_response_head>> send(std::string_view method, std::string_view target,
                                                 std::string_view body, time_point deadline) = 0;

  /// The next bytes of the body, valid until the caller waits for anything; empty: it has ended. At the
  /// deadline: stalled.
  virtual task<result<std::string_view>> read(time_point deadline) = 0;

  /// Ends whatever is waited for with errc::aborted. From the exchange's own worker.
  virtual void abort() = 0;
};

/// Of one worker; opens exchanges.
class phone_client {
 public:
  phone_client() = default;
  phone_client(const phone_client&) = delete;
  phone_client& operator=(const phone_client&) = delete;
  virtual ~phone_client() = default;

  /// `traceparent`: sent along, so that a phone's part can be found under the client's trace; empty: none.
  virtual std::unique_ptr<phone_exchange> open(std::shared_ptr<const phone_target> phone,
                                               std::string traceparent = {}) = 0;
};

// ---- towards clients

using header_list = std::vector<std::pair<std::string_view, std::string>>;

/// The answer to one request. Either send(), or begin(), any number of write() and end(). Used by the handler
/// only.
class reply {
 public:
  reply() = default;
  reply(const reply&) = delete;
  reply& operator=(const reply&) = delete;
  virtual ~reply() = default;

  virtual task<> send(int status, std::string_view content_type, std::string body,
                      header_list headers = {}) = 0;

  /// Says what went wrong: status, Retry-After and the body's form follow from the error and the path.
  virtual task<> fail(const error& why, header_list headers = {}) = 0;

  /// Begins a body of unknown length; goes out with the first write().
  virtual void begin(int status, std::string_view content_type, header_list headers = {}) = 0;

  /// Returns when the bytes are on their way. False: the client is gone or takes nothing; writing is over.
  virtual task<bool> write(std::string_view bytes) = 0;

  /// The last bytes and the body's end.
  virtual task<> end(std::string_view last) = 0;

  /// The stream is broken: the connection is closed without the body's proper end, so that nobody takes it
  /// for whole.
  virtual void cut() = 0;

  /// The status that was sent or begun; 0 before.
  virtual int status() const = 0;

  /// Address of who asked, without port; empty if the connection was gone before it was first asked for.
  virtual std::string peer() const = 0;
};

/// How far a request had come.
enum class phase : std::uint8_t { reading, queued, connecting, waiting, streaming, done };
std::string_view to_string(phase p);

/// One request, for the books. The handler fills in what it knows; whoever called it adds the rest and hands
/// it to the observer when the request is over, so that each request is in the books exactly once.
struct request_record {
  std::string_view request_id;
  std::string_view route;       ///< the route's own path; "other" where there is none
  std::string_view key{};       ///< the name of the client's; empty: none
  std::string_view trace_id{};  ///< of the client's trace; empty: none
  std::string_view outcome{};   ///< "ok", or the name of an errc; left empty, it follows from the reply
  int status = 0;               ///< as sent; 499 if the client had left
  phase at = phase::done;       ///< where it was when it ended
  std::string phone{};          ///< empty: none was reached
  bool cached = false;
  bool joined = false;  ///< answered by a generation that another request had begun
  unsigned attempts = 0;
  unsigned rescues = 0;
  milliseconds queued{0};
  milliseconds first_token{0};  ///< from the beginning of the request; 0: none came
  milliseconds total{0};
  std::uint64_t prompt_tokens = 0;
  std::uint64_t answer_tokens = 0;
};

// ---- who is let in

/// Who may call a route.
enum class access_level : std::uint8_t {
  open,    ///< anybody
  client,  ///< whoever has a key; anybody if there are no keys
  admin,   ///< whoever has an admin key
};

/// The right to have one request served. Given back when it is destroyed.
struct visit {
  std::shared_ptr<const client_terms> terms{};  ///< null: no key was needed
  std::shared_ptr<const void> place{};
};

/// Asked for each request, from any worker, before its body is read.
class doorkeeper {
 public:
  doorkeeper() = default;
  doorkeeper(const doorkeeper&) = delete;
  doorkeeper& operator=(const doorkeeper&) = delete;
  virtual ~doorkeeper() = default;

  /// `key`: as the client shows it; empty: it shows none. `takes_place`: one of those that the key has at
  /// once. Errors: unauthorized, forbidden, rate_limited.
  virtual result<visit> admit(std::string_view key, access_level needed, bool takes_place,
                              const reply& client, time_point now) = 0;
};

/// One request of a client, as a handler sees it. Lives as long as the handler runs.
struct http_call {
  http_call(std::string_view path, executor worker) : route(path), where(worker) {}

  std::string_view route;  ///< the route's own path, for logs and metrics
  std::string below;       ///< what stands for a route's "/*" or "{...}", percent-decoded
  std::string_view method;
  std::string body;
  std::string request_id;
  std::string accept;
  std::string if_none_match;
  std::string authorization;
  std::string traceparent;  ///< as W3C's Trace Context has it; empty: the client has sent none, or a bad one
  std::string session;   ///< which conversation it belongs to, in the client's words; empty: it has not said
  bool patient = false;  ///< the client lets others go first
  time_point began{};
  time_point deadline = time_point::max();      ///< the client waits no longer
  executor where;                               ///< the worker
  phone_client* phones = nullptr;               ///< the worker's
  std::stop_token gone;                         ///< the client has left
  std::shared_ptr<const client_terms> terms{};  ///< of the client's key; null: it needs none
  reply* out = nullptr;
  request_record record{};
};

using handler = std::function<task<void>(http_call&)>;

struct route {
  /// One that ends in "/*" takes everything below, "{...}" stands for one part of the path: http_call::below.
  std::string_view path;
  std::string_view method;  ///< "GET" (HEAD is answered too), "POST", ...
  handler run;
  access_level access = access_level::client;
  bool takes_place =
      true;  ///< of its key's requests at once; false: it costs no phone, and has a bound of its own
};

// ---- to whoever keeps count

/// One attempt that is over.
struct attempt_record {
  std::string_view phone;
  std::string_view outcome;  ///< "ok", or the name of an errc
  duration first_token{0};   ///< from sending; 0: none came
  duration total{0};
  std::uint64_t prompt_tokens = 0;
  std::uint64_t answer_tokens = 0;
  nanoseconds answer_time{0};  ///< the engine's own, 0 if unknown
  // Of the prompt:
  std::uint64_t cached_tokens = 0;   ///< those that the phone had read before, as far as its engine says
  std::uint64_t thought_cached = 0;  ///< those that it was thought to have; 0 for a policy that does not ask
};

/// Called on any worker, outside every lock.
class observer {
 public:
  observer() = default;
  observer(const observer&) = delete;
  observer& operator=(const observer&) = delete;
  virtual ~observer() = default;

  virtual void on_request(const request_record& r) = 0;  ///< once for each request, when it is over
  virtual void on_attempt(const attempt_record& r) = 0;
  virtual void on_pieces(std::string_view phone, std::size_t pieces) = 0;  ///< of an answer, as they come
  virtual void on_queue_wait(duration waited) = 0;
  virtual void on_retry(std::string_view reason) = 0;
  virtual void on_rescue(std::string_view outcome) = 0;  ///< ok, failed, impossible, no_phone
  virtual void on_hedge(std::string_view outcome) = 0;   ///< a second phone was asked: won, lost
  virtual void on_probe(std::string_view phone, bool good) = 0;
  virtual void on_heartbeat(std::string_view outcome) = 0;  ///< ok, stranger, or the name of an errc
  virtual void on_phone_change(std::string_view phone, std::string_view state, std::string_view reason) = 0;
};

}  // namespace pocketfleet
