#include "server.hpp"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "connection.hpp"
#include "engine.hpp"

namespace pocketfleet::sim {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

constexpr duration accept_pause = milliseconds(100);

void check(const phone_settings& settings) {
  const auto need = [](bool fine, const char* what) {
    if (!fine) throw std::invalid_argument(what);
  };
  const auto rate = [](double value) { return std::isfinite(value) && value > 0; };
  need(settings.engine != engine_kind::unknown, "a simulated phone needs an engine");
  need(rate(settings.prefill_rate) && rate(settings.decode_rate), "rates of a simulated phone are over 0");
  need(settings.slots >= 1 && settings.slots <= 1024, "a simulated phone has 1 to 1024 slots");
  need(settings.gain_of_more >= 0 && settings.gain_of_more <= 1, "gain_of_more is a share from 0 to 1");
  need(settings.slowest > 0 && settings.slowest <= 1, "slowest is a share over 0, at most 1");
  need(settings.context >= 16, "a simulated phone has a context of at least 16 tokens");
  need(settings.load_time >= milliseconds(0) && settings.heats_in >= milliseconds(0) &&
           settings.cools_in >= milliseconds(0) && settings.idle_close > milliseconds(0) &&
           settings.sse_ping > milliseconds(0),
       "times of a simulated phone are not negative");
}

}  // namespace

phone::server::server(asio::io_context& loop, phone_settings what)
    : context(loop),
      settings(std::move(what)),
      warmth(settings, clock::now()),
      slots(settings, warmth, counters),
      acceptor_(loop),
      accept_pause_(loop),
      fault_timer_(loop) {}

phone::server::~server() = default;

void phone::server::start() {
  if (started_) return;
  check(settings);
  if (!speaks) speaks = settings.engine == engine_kind::ollama ? make_ollama() : make_llama_server();
  slots.forget();
  down_ = false;
  fault_ = fault{};
  stop_listening(true);
  listen();
  started_ = true;
  if (settings.name.empty()) settings.name = settings.address + ':' + std::to_string(port_);
  if (settings.engine == engine_kind::llama_server) {
    ready_at_ = clock::now() + settings.load_time;
    slots.preload(settings.model);
    ++counters.loads;
  }
}

void phone::server::stop() {
  if (!started_) return;
  started_ = false;
  stop_listening(false);
  fault_timer_.cancel();
  fault_ = fault{};
  ++fault_epoch_;
  const auto all = connections_;
  for (connection* each : all) each->reset();
  slots.forget();
}

// Binds without listening when the port is to be kept: connecting is refused, and nobody else can have it.
void phone::server::stop_listening(bool keep_port) {
  ++run_;
  error_code ignored;
  accept_pause_.cancel();
  acceptor_.close(ignored);
  if (!keep_port) return;
  const asio::ip::tcp::endpoint here(asio::ip::make_address(settings.address),
                                     port_ != 0 ? port_ : settings.port);
  acceptor_ = asio::ip::tcp::acceptor(context);
  acceptor_.open(here.protocol());
  acceptor_.set_option(asio::socket_base::reuse_address(true));
  acceptor_.bind(here);
  port_ = acceptor_.local_endpoint().port();
}

void phone::server::listen() {
  acceptor_.listen();
  asio::co_spawn(context, accept(run_), [self = shared_from_this()](const std::exception_ptr&) {});
}

asio::awaitable<void> phone::server::accept(std::uint64_t run) {
  const auto self = shared_from_this();
  while (run == run_) {
    asio::ip::tcp::socket socket(context);
    error_code failed;
    co_await acceptor_.async_accept(socket, asio::redirect_error(asio::use_awaitable, failed));
    if (run != run_) co_return;
    if (failed) {  // out of descriptors, most likely
      accept_pause_.expires_after(accept_pause);
      co_await accept_pause_.async_wait(asio::redirect_error(asio::use_awaitable, failed));
      continue;
    }
    const auto client = std::make_shared<connection>(self, std::move(socket));
    asio::co_spawn(context, client->run(), [client](const std::exception_ptr&) { client->close(); });
  }
}

void phone::server::set(const fault& what) {
  ++fault_epoch_;
  fault_timer_.cancel();
  const bool was_down =
      std::exchange(down_, what.kind == fault_kind::refuse || what.kind == fault_kind::crash);
  fault_ = what;
  if (!(fault_.factor > 0)) fault_.factor = fault{}.factor;
  if (!started_) return;
  if (down_) {
    if (what.kind == fault_kind::crash) slots.forget_prompts();
    if (!was_down) stop_listening(true);
    const auto all = connections_;
    for (connection* each : all) {
      if (what.kind == fault_kind::crash) {
        each->reset();
      } else if (!each->busy()) {
        each->close();
      }
    }
  } else if (was_down) {
    listen();
  }
  for (connection* each : connections_) each->waits().wake();  // those that hang look again
  if (what.kind != fault_kind::none && what.clears_after > milliseconds(0)) {
    fault_timer_.expires_after(what.clears_after);
    fault_timer_.async_wait([weak = weak_from_this(), epoch = fault_epoch_](error_code failed) {
      const auto self = weak.lock();
      if (!failed && self && self->fault_epoch_ == epoch) self->set(fault{});
    });
  }
}

fault phone::server::take_fault() {
  const fault shown = fault_;
  if (fault_.times == 1) {
    fault_ = fault{};
  } else if (fault_.times > 1) {
    --fault_.times;
  }
  return shown;
}

double phone::server::speed(time_point now) const {
  const bool slow = fault_.kind == fault_kind::slow && fault_.times == 0;
  const auto together = static_cast<double>(std::max(1U, slots.active()));
  const double each = (1 + settings.gain_of_more * (together - 1)) / together;
  return warmth.speed(now) * each * (slow ? fault_.factor : 1);
}

phone_state phone::server::state() {
  const time_point now = clock::now();
  phone_state result = counters;
  result.active = slots.active();
  result.connections = static_cast<unsigned>(connections_.size());
  result.loaded = slots.loading() || (settings.engine == engine_kind::llama_server && !ready(now))
                      ? std::string()
                      : slots.loaded(now);
  result.fault_now = fault_.kind;
  result.temperature_share = warmth.temperature(now);
  result.speed_share = warmth.speed(now);
  return result;
}

}  // namespace pocketfleet::sim
