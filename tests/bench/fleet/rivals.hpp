// The dispatcher's rivals.
#pragma once

#include <array>
#include <deque>
#include <limits>

#include "world.hpp"

namespace pocketfleet::fleet {

/// A request is given to a phone when it arrives and waits in that phone's queue.
class bound : public balancer {
 public:
  bound(const std::vector<phone_spec>& phones, const truth& world, std::uint64_t seed);

  bool arrive(std::size_t request, const want& wanted, double now, starts& out) override;
  void ended(std::size_t request, std::size_t phone, verdict how, const measured& m, double now,
             starts& out) override;
  void found(std::size_t phone, const phone_report& what, double now, starts& out) override;

 protected:
  struct waiting {
    std::size_t request = 0;
    want what;
  };
  struct phone_line {
    double weight = 1;
    std::uint32_t permits = 1;
    std::uint32_t running = 0;
    bool up = false;
    double credit = 0;
    std::uint64_t chosen = 0;  // when last
    std::deque<waiting> queue;
    std::size_t outstanding() const { return running + queue.size(); }
  };
  static constexpr std::size_t nowhere = std::numeric_limits<std::size_t>::max();

  /// One of `from`, which is not empty; nowhere: it waits for any.
  virtual std::size_t choose(const waiting& w, const std::vector<std::size_t>& from) = 0;
  phone_line& line(std::size_t phone) { return lines_[phone]; }

  const truth& world_;
  random_source luck_;

 private:
  void place(waiting w, starts& out);
  void serve(std::size_t phone, starts& out);
  void serve_common(starts& out);

  std::vector<phone_line> lines_;
  std::deque<waiting> common_;
};

/// Null if there is none of that name.
std::unique_ptr<balancer> make_rival(std::string_view name, const std::vector<phone_spec>& phones,
                                     const truth& world, std::uint64_t seed);
std::vector<std::string> rival_names();
std::vector<std::string> proposal_names();
std::unique_ptr<balancer> make_proposal(std::string_view name, const std::vector<phone_spec>& phones,
                                        const truth& world);

}  // namespace pocketfleet::fleet
