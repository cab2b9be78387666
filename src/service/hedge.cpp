// A second phone for a request whose first one is late.
#include "attempt.hpp"
#include "pocketfleet/service/dispatch.hpp"
#include "pocketfleet/service/together.hpp"
#include "race.hpp"
#include "runner.hpp"

namespace pocketfleet {

void race::enter(attempt& who) {
  (first_ == nullptr ? first_ : second_) = &who;
  who.runs_in(*this);
}

bool race::claim(attempt& who) {
  if (leader_ == nullptr) {
    leader_ = &who;
    attempt* other = &who == first_ ? second_ : first_;
    if (other != nullptr) other->drop();
    news_->wake();
  }
  return leader_ == &who;
}

namespace {

/// What one of the two waits for, and the other.
class pair_of_phones {
 public:
  using starter = std::function<std::unique_ptr<runner>()>;

  pair_of_phones(executor where, runner& first, starter start)
      : news_(std::make_shared<waker>(where)), race_(news_), first_(first), start_second_(std::move(start)) {
    race_.enter(first_.one);
  }

  task<> run(std::size_t which) { return which == 0 ? run_first() : run_second(); }

  const attempt* leader() const { return race_.leader(); }
  std::unique_ptr<runner> second{};

 private:
  task<> run_first() {
    first_.result = co_await first_.one.run();
    over_ = true;
    news_->wake();
  }

  task<> run_second() {
    const time_point late = clock::now() + first_.held.late_after();
    bool news = true;
    while (news && !over_ && leader() == nullptr) news = co_await news_->wait(late);
    if (over_ || leader() != nullptr) co_return;
    second = start_second_();
    if (!second) co_return;
    race_.enter(second->one);
    second->result = co_await second->one.run();
  }

  std::shared_ptr<waker> news_;
  race race_;
  runner& first_;
  starter start_second_;
  bool over_ = false;
};

}  // namespace

/// Runs the try, and a second one if it is late and a phone is to spare. What came of them: the one that
/// answers, or else the first.
task<std::unique_ptr<runner>> dispatch::run_hedged(std::unique_ptr<runner> first, const want& wanted,
                                                   const runner_maker& make) {
  if (first->held.late_after() == duration{0} || first->one.goes_on()) {
    first->result = co_await first->one.run();
    co_return first;
  }
  pair_of_phones both(first->where, *first, [&]() -> std::unique_ptr<runner> {
    want other = wanted;
    other.avoid.push_back(first->held.phone()->id);
    auto spare = desk_.spare(other);
    return spare ? make(std::move(*spare)) : nullptr;
  });
  auto run = [&both](std::size_t which) { return both.run(which); };
  co_await together(first->where, 2, run);
  if (!both.second) co_return first;
  const bool won = both.leader() == &both.second->one || (both.second->result.how && !first->result.how);
  observer_.on_hedge(won ? "won" : "lost");
  std::unique_ptr<runner> loser = won ? std::move(first) : std::move(both.second);
  const errc code = loser->result.how ? errc::aborted : loser->result.how.error().code;
  loser->held.settle(verdict_of(code));
  observer_.on_attempt({loser->held.phone()->name, to_string(code), loser->result.first_token,
                        clock::now() - loser->began, 0, 0, nanoseconds{0}});
  co_return won ? std::move(both.second) : std::move(first);
}

}  // namespace pocketfleet
