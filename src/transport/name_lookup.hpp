// A name's addresses, asked for in a thread of its own: a name server that does not answer delays nobody who
// asks for another name (Asio's resolver asks for one after the other), and the process does not wait for it
// at its end. Private to this layer.
#pragma once

#include <boost/asio/ip/address.hpp>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "pocketfleet/service/async.hpp"

namespace pocketfleet {

/// One question that is under way or has been answered. Shared by those who wait and by its thread.
class name_lookup : public std::enable_shared_from_this<name_lookup> {
 public:
  static std::shared_ptr<name_lookup> start(const std::string& host);

  bool done() const;

  /// Empty: the name is not known. Only when done().
  std::vector<asio::ip::address> addresses() const;

  /// Is woken when done() has become true; taken back before its executor goes away.
  void add(std::shared_ptr<waker> who);
  void remove(const std::shared_ptr<waker>& who);

 private:
  void finish(std::vector<asio::ip::address> found);

  mutable std::mutex mutex_;
  // guarded by mutex_
  bool done_ = false;
  std::vector<asio::ip::address> found_;
  std::vector<std::shared_ptr<waker>> waiting_;
};

}  // namespace pocketfleet
