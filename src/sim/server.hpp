// The inside of a simulated phone: its port, its connections, the fault it shows.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <set>
#include <string>

#include "gate.hpp"
#include "heat.hpp"
#include "pocketfleet/sim/phone.hpp"

namespace pocketfleet::sim {

class connection;
class engine;

/// Everything the connections of one phone share. Held by the phone and by each connection's coroutine, on
/// the phone's thread; ends when the phone is gone and the last connection has noticed.
class phone::server : public std::enable_shared_from_this<phone::server> {
 public:
  server(boost::asio::io_context& context, phone_settings settings);
  ~server();

  void start();
  void stop();
  std::uint16_t port() const { return port_; }

  void set(const fault& what);
  const fault& current() const { return fault_; }
  fault take_fault();  ///< the fault that the next request shows; uses one of its `times`
  bool hanging() const { return fault_.kind == fault_kind::hang && fault_.times == 0; }
  bool leaving() const { return down_; }  ///< connections close after the answer they are at
  /// Changes whenever a fault is set or cleared, and when it clears itself.
  std::uint64_t fault_epoch() const { return fault_epoch_; }

  // Of a request that runs now: heat, a standing fault and the others beside it counted in.
  double decode_rate(time_point now) const { return settings.decode_rate * speed(now); }
  double prefill_rate(time_point now) const { return settings.prefill_rate * speed(now); }
  bool ready(time_point now) const { return now >= ready_at_; }  ///< llama-server: the model has been read

  phone_state state();
  void add(connection* one) { connections_.insert(one); }
  void remove(connection* one) { connections_.erase(one); }

  boost::asio::io_context& context;
  phone_settings settings;
  phone_state counters;  // what the gate and the answers count; state() fills in the rest
  heat warmth;
  gate slots;
  seen_request last;
  std::unique_ptr<engine> speaks;
  std::uint64_t answers = 0;                   // number for ids
  std::chrono::duration<double> prefilled{0};  // time spent, for /metrics
  std::chrono::duration<double> decoded{0};

 private:
  boost::asio::awaitable<void> accept(std::uint64_t run);
  void listen();
  void stop_listening(bool keep_port);
  double speed(time_point now) const;

  boost::asio::ip::tcp::acceptor acceptor_;
  boost::asio::steady_timer accept_pause_;
  boost::asio::steady_timer fault_timer_;
  std::set<connection*> connections_;
  fault fault_;
  std::uint64_t fault_epoch_ = 0;
  std::uint64_t run_ = 0;  // of the accept loop; an older loop ends when it sees a newer number
  std::uint16_t port_ = 0;
  bool down_ = false;  // refuse or crash
  bool started_ = false;
  time_point ready_at_{};
};

}  // namespace pocketfleet::sim
