// How a phone of the fleet is, by what it says and, if it is a group, by what its members say: the one that
// is worst off decides for all of them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/core/phone_group.hpp"
#include "pocketfleet/core/telemetry.hpp"

namespace pocketfleet {

/// What one device has said of itself.
struct vitals {
  explicit vitals(const rest_settings& settings) : resting(settings) {}

  void hear(const telemetry& now_reads, seconds interval, time_point now);
  bool quiet(time_point now) const;  ///< its heartbeats have stopped; false if there was never one
  time_point same_until(time_point now) const;
  std::optional<seconds> heard_ago(time_point now) const;

  rest resting;
  std::optional<telemetry> reads{};  ///< of the last heartbeat
  time_point heard{};
  seconds beat{0};  ///< between two heartbeats
};

/// A member, for people.
struct member_status {
  std::string name{};
  std::optional<telemetry> reads{};
  std::optional<seconds> heard_ago{};
};

/// A phone's readings, but for the highest temperature and the lowest battery among it and its members.
telemetry worst_of(const std::optional<telemetry>& own, const std::vector<member_status>& members);

/// Of one phone; owned by the dispatcher.
class condition {
 public:
  explicit condition(const rest_settings& settings) : settings_(&settings), own_(settings) {}

  /// The members of its group. What is known of those that it had before stays.
  void depend_on(const std::vector<group_member>& members);

  void hear(const telemetry& reads, seconds interval, time_point now) { own_.hear(reads, interval, now); }
  /// False: no member has that id.
  bool hear_member(std::string_view id, const telemetry& reads, seconds interval, time_point now);
  bool has_member(std::string_view id) const;
  void learn(const measured& m, time_point now) { own_.resting.learn(m, now); }  ///< as rest::learn()

  // Of all of them together, as rest and vitals have it of one.
  rest_kind kind(time_point now) const;
  double share(time_point now) const;
  std::string reason(time_point now) const;
  bool quiet(time_point now) const;
  time_point same_until(
      time_point now) const;  ///< until then kind and quiet change only by what is heard or learned

  const vitals& own() const { return own_; }
  std::vector<member_status> members(time_point now) const;

 private:
  struct member {
    group_member who;
    vitals is;
  };

  const rest_settings* settings_;
  vitals own_;
  std::vector<member> members_{};
};

}  // namespace pocketfleet
