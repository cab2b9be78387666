#include "pocketfleet/service/tally.hpp"

#include <algorithm>
#include <array>

namespace pocketfleet {
namespace {

/// Routes on which a model is asked something. The others are for people and for the machinery.
constexpr std::array<std::string_view, 11> asking{
    "/ask",      "/ask_stream",   "/ask_batch",     "/v1/chat/completions", "/v1/completions", "/v1/messages",
    "/api/chat", "/api/generate", "/v1/embeddings", "/api/embed",           "/api/embeddings"};

}  // namespace

tally::known& tally::of(std::string_view name) {
  const auto found = phones_.find(name);
  return found != phones_.end() ? found->second : phones_[std::string(name)];
}

void tally::on_pieces(std::string_view phone, std::size_t pieces, time_point now) {
  const std::lock_guard lock(mutex_);
  of(phone).tokens.add(now, static_cast<std::uint32_t>(pieces));
}

void tally::on_attempt(const attempt_record& r) {
  const bool good = r.outcome == "ok";
  const std::lock_guard lock(mutex_);
  speed& its = of(r.phone).rest;
  if (good)
    ++its.answers;
  else if (r.outcome != to_string(errc::aborted))
    ++its.failures;  // aborted: nobody wanted it any more
  if (r.first_token > duration{0}) its.first_token = std::chrono::duration_cast<milliseconds>(r.first_token);
  if (!good) return;
  its.answer_tokens += r.answer_tokens;
  if (r.answer_time > nanoseconds{0} && r.answer_tokens > 0)
    its.answer_speed =
        static_cast<double>(r.answer_tokens) / std::chrono::duration<double>(r.answer_time).count();
}

void tally::on_request(const request_record& r) {
  if (std::find(asking.begin(), asking.end(), r.route) == asking.end()) return;
  const std::lock_guard lock(mutex_);
  ++totals_.requests;
  if (r.status >= 500 || (r.status < 400 && r.outcome != "ok")) ++totals_.failed;
}

tally::speeds tally::phones(time_point now) const {
  const std::lock_guard lock(mutex_);
  speeds out;
  for (const auto& [name, p] : phones_) {
    speed its = p.rest;
    its.tokens_per_s = p.tokens.rate(now);
    out.emplace_hint(out.end(), name, its);
  }
  return out;
}

token_history tally::histories(time_point now) const {
  const std::lock_guard lock(mutex_);
  token_history out;
  for (const auto& [name, p] : phones_) out.emplace_hint(out.end(), name, p.tokens.history(now));
  return out;
}

tally::totals tally::requests() const {
  const std::lock_guard lock(mutex_);
  return totals_;
}

}  // namespace pocketfleet
