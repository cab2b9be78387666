#include "plan_probe.hpp"

#include <boost/asio.hpp>

namespace pocketfleet {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

struct attempt {
  tcp::socket socket;
  std::chrono::steady_clock::time_point began{};
  probed got{};
};

void finish(attempt& a, const boost::system::error_code& ec) {
  const auto took = std::chrono::steady_clock::now() - a.began;
  a.got.rtt_ms = std::chrono::duration<double, std::milli>(took).count();
  a.got.words = ec ? ec.message() : "open";
  if (!ec) {
    a.got.what = probed::outcome::open;
  } else if (ec == asio::error::connection_refused) {
    a.got.what = probed::outcome::refused;
  } else {
    a.got.rtt_ms = 0;
  }
  boost::system::error_code ignored;
  a.socket.close(ignored);
}

}  // namespace

std::vector<probed> probe_ports(const std::vector<probe_target>& targets, milliseconds patience) {
  asio::io_context context(1);
  std::vector<attempt> attempts;
  attempts.reserve(targets.size());
  for (const auto& t : targets) {
    attempts.push_back({tcp::socket(context), {}, {probed::outcome::silent, 0, "no answer in time"}});
    attempt& a = attempts.back();
    boost::system::error_code wrong;
    const auto address = asio::ip::make_address(t.host, wrong);
    if (wrong) continue;
    a.began = std::chrono::steady_clock::now();
    a.socket.async_connect({address, t.port}, [&a](const boost::system::error_code& ec) { finish(a, ec); });
  }
  context.run_for(patience);
  std::vector<probed> out;
  for (auto& a : attempts) out.push_back(std::move(a.got));
  return out;
}

}  // namespace pocketfleet
