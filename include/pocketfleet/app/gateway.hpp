// The whole gateway, wired: from a configuration to something that listens.
#pragma once

#include <boost/asio/signal_set.hpp>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "pocketfleet/app/metrics.hpp"
#include "pocketfleet/app/registered_file.hpp"
#include "pocketfleet/app/service_manager.hpp"
#include "pocketfleet/app/settings.hpp"
#include "pocketfleet/service/admin_api.hpp"
#include "pocketfleet/service/ask_api.hpp"
#include "pocketfleet/service/catalog_api.hpp"
#include "pocketfleet/service/desk.hpp"
#include "pocketfleet/service/dialects_api.hpp"
#include "pocketfleet/service/dispatch.hpp"
#include "pocketfleet/service/embeddings_api.hpp"
#include "pocketfleet/service/events_api.hpp"
#include "pocketfleet/service/heartbeat_api.hpp"
#include "pocketfleet/service/key_ring.hpp"
#include "pocketfleet/service/prober.hpp"
#include "pocketfleet/service/ready_api.hpp"
#include "pocketfleet/service/registry.hpp"
#include "pocketfleet/service/roster.hpp"
#include "pocketfleet/service/static_pages.hpp"
#include "pocketfleet/service/tally.hpp"
#include "pocketfleet/transport/server.hpp"

namespace pocketfleet {

/// Created, run and destroyed by one thread; the workers beyond the first are threads of its own.
class gateway {
 public:
  explicit gateway(const configuration& c);
  gateway(const gateway&) = delete;
  gateway& operator=(const gateway&) = delete;
  ~gateway();

  /// Binds, or takes a socket that listens already. Errors: the address cannot be had.
  result<std::uint16_t> listen(std::optional<int> listening = {});

  /// From now on SIGTERM and SIGINT drain, a second one stops, and SIGHUP rereads `file` unless that is
  /// empty.
  void catch_signals(const std::string& file);

  /// Serves until stopped.
  void run();

  // From any thread.

  /// New phones and settings that can change while running; listener, workers and limits stay as they are.
  void reload(const configuration& c);
  void drain();  ///< run() returns when what is running has ended, or the grace is over
  void stop();   ///< run() returns now

  std::string metrics_text();
  std::vector<phone_status> phones() { return desk_.status(); }
  const std::vector<route>& all_routes() const { return face_.routes; }  ///< as long as the gateway lives

 private:
  /// Metrics, log lines, and what watchers see.
  class books final : public observer {
   public:
    books(metrics& m, tally& t) : metrics_(m), tally_(t) {}
    void on_request(const request_record& r) override;
    void on_attempt(const attempt_record& r) override;
    void on_pieces(std::string_view phone, std::size_t pieces) override {
      tally_.on_pieces(phone, pieces, clock::now());
    }
    void on_queue_wait(duration waited) override { metrics_.on_queue_wait(waited); }
    void on_retry(std::string_view reason) override { metrics_.on_retry(reason); }
    void on_rescue(std::string_view outcome) override { metrics_.on_rescue(outcome); }
    void on_hedge(std::string_view outcome) override { metrics_.on_hedge(outcome); }
    void on_probe(std::string_view phone, bool good) override { metrics_.on_probe(phone, good); }
    void on_phone_change(std::string_view phone, std::string_view state, std::string_view reason) override;
    void on_heartbeat(std::string_view outcome) override { metrics_.on_heartbeat(outcome); }

   private:
    metrics& metrics_;
    tally& tally_;
  };
  struct worker {
    // One thread runs it; other threads only post to it.
    worker() : context(BOOST_ASIO_CONCURRENCY_HINT_UNSAFE_IO) {}

    struct loop : asio::io_context {
      using io_context::io_context;
      void end() { shutdown(); }  // its coroutines go while others can still be posted to
    };
    loop context;
    std::shared_ptr<server> listener;
  };

  static std::vector<std::unique_ptr<worker>> make_workers(unsigned n);
  std::vector<asio::io_context*> loops();
  std::string state_in_words();
  std::vector<route> routes();
  void next_signal(const std::string& file);
  reread_file reread(const std::string& file);
  void run_worker(worker& w);
  void begin_drain();
  void end_everything();
  void restore_registered();
  void take(const configuration& c);
  void end_requests();
  void on_fleet_change(const registry::taken& what);
  void use_keys(const gateway_settings& now);
  void use_fleet(std::unique_ptr<policy> chosen = nullptr);
  void keep_registered();

  // By hand: gateway_by_hand.cpp.
  admin_means means();
  result<saved_file> save();

  // Declared in the order in which they must outlive each other: what coroutines refer to before the contexts
  // that own the coroutines.
  gateway_settings settings_;
  metrics metrics_;
  tally tally_;
  books books_;
  roster roster_;
  registry registry_;
  registered_file kept_;
  std::mutex fleet_mutex_;  // so that of two changes the later one's fleet is the one that stays
  desk desk_;
  dispatch dispatch_;
  ask_api api_;
  dialects_api dialects_;
  embeddings_api embeddings_;
  heartbeat_api heartbeats_;
  catalog_api catalog_;
  events_api events_;
  ready_api readiness_;
  static_pages pages_;
  admin_api admin_;
  key_ring keys_;
  gateway_face face_;
  std::vector<std::unique_ptr<worker>> workers_;
  std::shared_ptr<prober> prober_;
  asio::signal_set signals_;
  wait_timer grace_;
  service_reports reports_;
  std::vector<std::thread> threads_;
  std::size_t undrained_ = 0;
  bool draining_ = false;

  // Of the first worker.
  std::string file_;        // phones.json; empty: there is none
  std::string digest_;      // of its text as it was last taken
  std::string phones_key_;  // of phones that name none of their own
};

}  // namespace pocketfleet
