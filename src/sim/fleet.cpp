#include "pocketfleet/sim/fleet.hpp"

#include <boost/asio/post.hpp>
#include <exception>
#include <future>
#include <utility>

namespace pocketfleet::sim {

fleet::fleet(std::vector<phone_settings> phones) : context_(1) {
  phones_.reserve(phones.size());
  for (phone_settings& each : phones) phones_.emplace_back(context_, std::move(each));
}

fleet::~fleet() {
  stop();
}

void fleet::start() {
  if (thread_.joinable()) return;
  try {
    for (phone& each : phones_) each.start();
  } catch (...) {
    for (phone& each : phones_) each.stop();
    throw;
  }
  context_.restart();
  using guard = boost::asio::executor_work_guard<boost::asio::io_context::executor_type>;
  work_ = std::make_unique<guard>(context_.get_executor());
  thread_ = std::thread([this] {
    for (;;) {
      try {
        context_.run();
        return;
      } catch (...) {
        continue;  // one connection's trouble: it is gone, the others go on; Beast 1.81 can throw out of
                   // run()
      }
    }
  });
}

void fleet::stop() {
  if (!thread_.joinable()) return;
  boost::asio::post(context_, [this] {
    for (phone& each : phones_) each.stop();
    work_.reset();  // run() returns when every coroutine has ended
  });
  thread_.join();
}

template <class F>
auto fleet::on_thread(F call) const {
  if (!thread_.joinable()) return call();
  std::packaged_task<decltype(call())()> task(std::move(call));
  auto result = task.get_future();
  boost::asio::post(context_, [&task] { task(); });  // Asio has a meaning of its own for a bare packaged_task
  return result.get();
}

std::uint16_t fleet::port(std::size_t phone) const {
  return on_thread([&] { return phones_.at(phone).port(); });
}

std::vector<phone_config> fleet::configs() const {
  return on_thread([&] {
    std::vector<phone_config> result;
    result.reserve(phones_.size());
    for (const auto& each : phones_) result.push_back(each.config());
    return result;
  });
}

void fleet::set(std::size_t phone, const fault& what) {
  on_thread([&] { phones_.at(phone).set(what); });
}

void fleet::clear_fault(std::size_t phone) {
  on_thread([&] { phones_.at(phone).clear_fault(); });
}

phone_state fleet::state(std::size_t phone) const {
  return on_thread([&] { return phones_.at(phone).state(); });
}

seen_request fleet::last_request(std::size_t phone) const {
  return on_thread([&] { return phones_.at(phone).last_request(); });
}

void fleet::stop_phone(std::size_t phone) {
  on_thread([&] { phones_.at(phone).stop(); });
}

void fleet::start_phone(std::size_t phone) {
  on_thread([&] { phones_.at(phone).start(); });
}

}  // namespace pocketfleet::sim
