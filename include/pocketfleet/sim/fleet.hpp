// Several simulated phones on a thread of their own.
#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <cstddef>
#include <memory>
#include <thread>
#include <vector>

#include "pocketfleet/sim/phone.hpp"

namespace pocketfleet::sim {

/// Simulated phones with an io_context and a thread of their own. Owned by whoever wants them; one thread at
/// a time calls it, any thread. The calls run on the phones' thread and wait for it, so they are not for use
/// on it.
class fleet {
 public:
  explicit fleet(std::vector<phone_settings> phones);
  fleet(const fleet&) = delete;
  fleet& operator=(const fleet&) = delete;
  ~fleet();  ///< stops

  /// Every phone listens when this returns. Throws as phone::start() does; then none of them runs.
  void start();
  void stop();  ///< resets every connection, ends the thread; start() may follow

  std::size_t size() const { return phones_.size(); }
  std::uint16_t port(std::size_t phone) const;  ///< 0 before start()
  std::vector<phone_config> configs() const;    ///< for phones.json, in order
  void set(std::size_t phone, const fault& what);
  void clear_fault(std::size_t phone);
  phone_state state(std::size_t phone) const;
  seen_request last_request(std::size_t phone) const;
  void stop_phone(std::size_t phone);   ///< as if killed; its port stays refused
  void start_phone(std::size_t phone);  ///< the same port again

 private:
  template <class F>
  auto on_thread(F call) const;

  mutable boost::asio::io_context context_;
  std::vector<phone> phones_;
  std::unique_ptr<boost::asio::executor_work_guard<boost::asio::io_context::executor_type>> work_;
  std::thread thread_;
};

}  // namespace pocketfleet::sim
