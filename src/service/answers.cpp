#include "pocketfleet/service/answers.hpp"

namespace pocketfleet {

std::shared_ptr<const kept_answer> answers::hit(const cache_key& key) {
  const std::lock_guard lock(mutex_);
  auto kept = cache_.find(key, clock::now());
  hits_ += kept ? 1U : 0U;
  return kept;
}

std::shared_ptr<const kept_answer> answers::again(const cache_key& text) {
  const std::lock_guard lock(mutex_);
  const time_point now = clock::now();
  const auto key = texts_.find(text, now);
  auto kept = key ? cache_.find(*key, now) : nullptr;
  hits_ += kept ? 1U : 0U;
  return kept;
}

void answers::note(const cache_key& text, const cache_key& key) {
  const std::lock_guard lock(mutex_);
  texts_.put(text, std::make_shared<const cache_key>(key), sizeof(cache_key), clock::now());
}

answers::found answers::find(const cache_key& key, const std::shared_ptr<waker>& wake, bool each_piece,
                             const std::shared_ptr<generation>& make) {
  const std::lock_guard lock(mutex_);
  if (auto kept = cache_.find(key, clock::now())) {
    ++hits_;
    return {.hit = std::move(kept)};
  }
  auto& making = making_[key];
  if (const auto running = making.lock()) {
    if (auto joined = running->join(wake, each_piece)) {
      ++joined_;
      return {.joined = std::move(joined)};
    }
  }
  ++misses_;
  making = make;
  return {.mine = make};
}

void answers::store(const cache_key& key, const std::shared_ptr<generation>& made) {
  auto kept = std::make_shared<kept_answer>();
  made->look([&](const answer& a, const generation_state& s) {
    kept->what = a;
    kept->phone = s.phone;
  });
  const std::size_t size = kept->what.size() + kept->phone.size();
  const std::lock_guard lock(mutex_);
  cache_.put(key, std::move(kept), size, clock::now());
  if (const auto it = making_.find(key); it != making_.end() && it->second.lock() == made) making_.erase(it);
}

void answers::forget(const cache_key& key, const std::shared_ptr<generation>& made) {
  const std::lock_guard lock(mutex_);
  if (const auto it = making_.find(key); it != making_.end() && it->second.lock() == made) making_.erase(it);
}

std::size_t answers::clear() {
  const std::lock_guard lock(mutex_);
  const std::size_t kept = cache_.size();
  cache_.clear();
  texts_.clear();
  return kept;
}

cache_status answers::status() const {
  const std::lock_guard lock(mutex_);
  return {cache_.size(), cache_.bytes(), hits_, misses_, joined_, cache_.evictions()};
}

}  // namespace pocketfleet
