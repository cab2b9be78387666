#include "pocketfleet/core/wait_line.hpp"

#include <algorithm>

namespace pocketfleet {
namespace {

constexpr seconds batch_patience{60};
constexpr std::size_t most_owners = 1024;

}  // namespace

double wait_line::tag_of(const want& wanted) const {
  const auto last = last_.find(wanted.owner);
  return last == last_.end() ? turn_ : std::max(turn_, last->second + 1);
}

wait_line::iterator wait_line::place_of(const want& wanted, time_point now) {
  if (wanted.which != turn::first)
    return std::find_if(line_.begin(), line_.end(),
                        [](const waiter& w) { return w.what.which == turn::first; });
  const double tag = tag_of(wanted);
  // From the back: whoever must not be overtaken is looked for.
  auto place = line_.end();
  while (place != line_.begin()) {
    const waiter& before = *std::prev(place);
    if (before.what.which != turn::first || now - before.since >= batch_patience) break;
    if (before.what.how_soon == wanted.how_soon ? before.tag <= tag : before.what.how_soon < wanted.how_soon)
      break;
    --place;
  }
  return place;
}

void wait_line::join(ticket who, const want& wanted, time_point now) {
  const auto place = place_of(wanted, now);
  const double tag = tag_of(wanted);
  if (wanted.which == turn::first) last_[wanted.owner] = tag;
  line_.insert(place, {who, wanted, now, tag});
}

wait_line::iterator wait_line::served(iterator who) {
  if (who->what.which == turn::first) turn_ = std::max(turn_, who->tag);
  const auto next = line_.erase(who);
  forget_owners();
  return next;
}

bool wait_line::leave(ticket who) {
  const auto found = std::find_if(line_.begin(), line_.end(), [&](const waiter& w) { return w.who == who; });
  if (found == line_.end()) return false;
  line_.erase(found);
  forget_owners();
  return true;
}

/// Those whose turn is over have no memory to keep; with nobody waiting that is everybody.
void wait_line::forget_owners() {
  if (line_.empty()) {
    last_.clear();
    turn_ = 0;
  } else if (last_.size() > most_owners) {
    std::erase_if(last_, [this](const auto& each) { return each.second < turn_; });
  }
}

}  // namespace pocketfleet
