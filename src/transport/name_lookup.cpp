#include "name_lookup.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <thread>

namespace pocketfleet {
namespace {

std::vector<asio::ip::address> resolve(const std::string& host) {
  addrinfo how{};
  how.ai_socktype = SOCK_STREAM;
  how.ai_flags = AI_ADDRCONFIG;
  addrinfo* all = nullptr;
  std::vector<asio::ip::address> out;
  if (::getaddrinfo(host.c_str(), nullptr, &how, &all) != 0) return out;
  for (const addrinfo* one = all; one != nullptr; one = one->ai_next) {
    if (one->ai_family == AF_INET) {
      sockaddr_in there{};
      std::memcpy(&there, one->ai_addr, sizeof there);
      out.emplace_back(asio::ip::address_v4(ntohl(there.sin_addr.s_addr)));
    } else if (one->ai_family == AF_INET6) {
      sockaddr_in6 there{};
      std::memcpy(&there, one->ai_addr, sizeof there);
      asio::ip::address_v6::bytes_type bytes{};
      std::memcpy(bytes.data(), &there.sin6_addr, bytes.size());
      out.emplace_back(asio::ip::address_v6(bytes, there.sin6_scope_id));
    }
  }
  ::freeaddrinfo(all);
  return out;
}

}  // namespace

std::shared_ptr<name_lookup> name_lookup::start(const std::string& host) {
  auto made = std::make_shared<name_lookup>();
  // Signals are for the threads that look for them.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    std::thread([made, host] { made->finish(resolve(host)); }).detach();
  } catch (const std::system_error&) {  // no more threads: as if the name were not known
    made->finish({});
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return made;
}

bool name_lookup::done() const {
  const std::lock_guard lock(mutex_);
  return done_;
}

std::vector<asio::ip::address> name_lookup::addresses() const {
  const std::lock_guard lock(mutex_);
  return found_;
}

void name_lookup::add(std::shared_ptr<waker> who) {
  const std::lock_guard lock(mutex_);
  waiting_.push_back(std::move(who));
}

void name_lookup::remove(const std::shared_ptr<waker>& who) {
  const std::lock_guard lock(mutex_);
  std::erase(waiting_, who);
}

void name_lookup::finish(std::vector<asio::ip::address> found) {
  // Woken under the lock: who has taken itself back is not woken any more.
  const std::lock_guard lock(mutex_);
  found_ = std::move(found);
  done_ = true;
  for (const auto& who : waiting_) who->wake();
}

}  // namespace pocketfleet
