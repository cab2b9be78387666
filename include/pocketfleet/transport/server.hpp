// The listener and what all sessions share.
#pragma once

#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>
#include <vector>

#include "pocketfleet/service/ports.hpp"
#include "pocketfleet/transport/phone_pool.hpp"
#include "pocketfleet/transport/settings.hpp"
#include "pocketfleet/transport/tls.hpp"
#include "pocketfleet/transport/watchdog.hpp"

namespace pocketfleet {

class session;

/// What may be counted about the listener; read by metrics.
struct listener_counters {
  std::atomic<std::uint64_t> accepted{0};
  std::atomic<std::uint64_t> accept_errors{0};
  std::atomic<std::uint64_t> turned_away{0};   ///< over the limit of connections
  std::atomic<std::uint64_t> bad_requests{0};  ///< refused before a route was found
  std::atomic<std::uint64_t> tls_failures{0};  ///< clients with whom no TLS came about
  std::atomic<std::int64_t> open{0};
};

/// Bytes of request bodies over all workers.
class body_budget {
 public:
  explicit body_budget(std::size_t most) : most_(most) {}
  bool take(std::size_t bytes) {
    if (used_.fetch_add(bytes) + bytes <= most_) return true;
    used_.fetch_sub(bytes);
    return false;
  }
  void give_back(std::size_t bytes) { used_.fetch_sub(bytes); }
  std::size_t used() const { return used_; }

 private:
  std::size_t most_;
  std::atomic<std::size_t> used_{0};
};

/// Shared by the servers of all workers; owned by the application, outlives them.
struct gateway_face {
  listener_settings settings;
  std::vector<route> routes;
  observer* books = nullptr;
  doorkeeper* door = nullptr;  ///< null: everybody may do everything
  body_budget bodies;
  listener_counters counters{};
  std::function<void(std::string_view what, std::string_view why)>
      complain;  ///< for the log; from any worker

  /// For connections that begin from now on; null: plain.
  void use_tls(std::shared_ptr<const tls_context> now) {
    const std::lock_guard lock(tls_mutex_);
    tls_ = std::move(now);
  }
  std::shared_ptr<const tls_context> tls() const {
    const std::lock_guard lock(tls_mutex_);
    return tls_;
  }

  gateway_face(listener_settings s, std::vector<route> r, observer& o)
      : settings(std::move(s)), routes(std::move(r)), books(&o), bodies(settings.all_bodies_bytes) {}

 private:
  mutable std::mutex tls_mutex_;
  std::shared_ptr<const tls_context> tls_{};  // guarded by tls_mutex_
};

/// One listener on one worker. Several workers share one listening socket, and the kernel spreads the
/// connections. Created, used and destroyed on its worker's thread, or while that does not run.
class server : public std::enable_shared_from_this<server> {
 public:
  using acceptor = asio::basic_socket_acceptor<asio::ip::tcp, executor>;

  server(executor where, gateway_face& face, const phone_link_settings& links);

  /// Binds; an error says why not. Port 0 is replaced by the one that the kernel chose.
  result<std::uint16_t> listen(std::uint16_t port);

  /// Takes connections from a socket that listens already, and owns it from now on.
  result<std::uint16_t> take_over(int listening);

  /// Takes connections from the same socket as a server of another worker.
  void share(server& other);

  void start();

  /// No new connections; idle ones are closed, the others when their request is over. A connection without a
  /// request yet may still bring one, within half a second. `drained` is called then.
  void drain(std::function<void()> drained);

  /// No new connections, and the present ones are closed at once.
  void drop();

  // for the sessions
  gateway_face& face() { return face_; }
  phone_pool& phones() { return *phones_; }
  const std::shared_ptr<phone_pool>& shared_phones() const { return phones_; }
  const std::shared_ptr<watchdog>& dog() const { return dog_; }
  bool draining() const { return draining_; }
  /// From a few milliseconds on its client's leaving is watched for, if it still serves then: what is
  /// answered from memory is over before, and is spared a system call.
  void watch_later(session* s);
  void remove(session* s);
  std::string_view date();  ///< for the Date field; made once a second

 private:
  task<> accept();
  void look_whether_drained();

  executor executor_;
  gateway_face& face_;
  acceptor acceptor_;
  std::shared_ptr<watchdog> dog_;
  std::shared_ptr<phone_pool> phones_;
  std::unordered_set<session*> sessions_;
  std::vector<session*> to_watch_;
  wait_timer watch_time_;
  std::function<void()> drained_;
  bool draining_ = false;
  bool accepting_ = false;
  std::string date_;
  std::int64_t date_second_ = 0;
};

}  // namespace pocketfleet
