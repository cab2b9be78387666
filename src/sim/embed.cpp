#include "embed.hpp"

#include <bit>
#include <cmath>
#include <cstdint>

namespace pocketfleet::sim {

namespace asio = boost::asio;

std::vector<double> vector_of(std::string_view text) {
  std::vector<double> values(8, 0.0);
  std::uint64_t before = 0;  // the order of the tokens counts
  for (const token_id id : tokenize(text)) {
    std::uint64_t bits = before = (before + static_cast<std::uint64_t>(id) + 1) * 0x9E3779B97F4A7C15ULL;
    for (double& each : values) {
      bits ^= bits >> 29;
      bits *= 0xBF58476D1CE4E5B9ULL;
      each += static_cast<double>(bits >> 40) / static_cast<double>(1U << 24) - 0.5;
    }
  }
  double length = 0;
  for (const double each : values) length += each * each;
  for (double& each : values) each = length > 0 ? each / std::sqrt(length) : 0.35355339059327373;
  return values;
}

std::string base64_of(const std::vector<double>& values) {
  std::string bytes;
  for (const double each : values) {
    const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(each));
    for (unsigned shift = 0; shift < 32; shift += 8)
      bytes.push_back(static_cast<char>(bits >> shift & 0xFFU));
  }
  constexpr std::string_view letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    std::uint32_t three = 0;
    for (std::size_t i = 0; i < 3; ++i)
      three = three << 8U | (at + i < bytes.size() ? static_cast<unsigned char>(bytes[at + i]) : 0U);
    for (unsigned i = 0; i < 4; ++i)
      text.push_back(at + i > bytes.size() ? '=' : letters[three >> (18 - 6 * i) & 0x3FU]);
  }
  return text;
}

asio::awaitable<embedded> embed(connection& client, const job& what, const std::vector<std::string>& texts) {
  phone::server& server = client.server();
  embedded result;
  const fault shown = server.take_fault();
  ++server.counters.requests;
  if (co_await fault_answers(client, shown)) {
    ++(shown.kind == fault_kind::none ? server.counters.cancelled : server.counters.failed);
    co_return result;
  }
  const time_point begun = clock::now();
  const ticket slot = co_await server.slots.enter(client.waits(), what.model, what.options, what.keep);
  if (!slot) {
    ++server.counters.cancelled;
    co_return result;
  }
  for (const std::string& each : texts) result.tokens += tokenize(each).size();
  const bool reads = server.settings.embedding;  // otherwise noticed only now, with the model loaded
  const std::chrono::duration<double> time(
      reads ? static_cast<double>(result.tokens) / server.prefill_rate(begun) : 0.0);
  const time_point end = clock::now() + std::chrono::duration_cast<duration>(time);
  if (!co_await client.waits().sleep(end)) {
    ++server.counters.cancelled;
    co_return result;
  }
  result.load = slot.load_time();
  result.total = clock::now() - begun;
  result.done = true;
  co_return result;
}

}  // namespace pocketfleet::sim
