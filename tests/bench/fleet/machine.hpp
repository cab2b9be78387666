// One phone at work in virtual time: what it does for each request, how far it has come, when something
// changes next.
#pragma once

#include <string_view>

#include "phones.hpp"

namespace pocketfleet::fleet {

inline constexpr double at_once = 1e-6;  ///< seconds; closer together than that is the same moment

struct job {
  enum class phase : std::uint8_t {
    sending,
    loading,
    reading,
    writing,
    written,  ///< all is there, but nothing gets through
  };

  std::size_t request = 0;
  text prompt;
  std::uint32_t answer = 1;  ///< tokens to write
  double ease = 1;           ///< at most 1: what else the phone has to do meanwhile

  phase at = phase::sending;
  double left = 0;  ///< of the phase: seconds, or tokens
  std::size_t slot = 0;
  std::uint32_t cached = 0;
  double loaded_for = 0;     ///< seconds
  double began_reading = 0;  ///< when
  double began_writing = 0;
  double done = 0;
  bool shown = false;  ///< its first token has got through

  double tokens_read() const;
  double tokens_written() const;
};

class machine {
 public:
  explicit machine(const phone_spec& spec, bool loaded)
      : spec_(spec), heat_(spec.heat), cache_(spec.permits, spec.ram_tokens), loaded_(loaded) {}

  const phone_spec& spec() const { return spec_; }
  const skin& heat() const { return heat_; }
  const prompt_cache& cache() const { return cache_; }
  std::vector<job>& jobs() { return jobs_; }
  bool loaded() const { return loaded_; }

  void advance(double now);
  double next_change(double now) const;  ///< when; call after advance()

  /// What has come to an end now goes on to its next phase. Returns requests whose first token has come and
  /// those that are written; they stay among the jobs until take() has them.
  struct news {
    std::vector<std::size_t> first_token, written;
  };
  news turn(double now);

  void begin(job j, double sending);
  /// The job of that request, taken away; its slot keeps that: what was read and written, or nothing.
  job take(std::size_t request, text kept = {});
  job* find(std::size_t request);
  const job* find(std::size_t request) const { return const_cast<machine*>(this)->find(request); }
  const std::vector<job>& jobs() const { return jobs_; }
  void die();  ///< nothing is left of its jobs and its caches

  /// Seconds that such a request would take, alone, at the present speed, with or without what is cached now.
  double takes(const text& prompt, double answer, bool by_cache) const;

  /// Seconds until that job is done. `answer`: tokens that it is thought to write, or, if it has written more
  /// than that, half of it again; 0: as many as it will.
  double left(std::size_t request, double answer, double now) const;
  double written(std::size_t request, double now) const;  ///< tokens

 private:
  std::size_t working() const;
  double rate(const job& j, std::size_t together) const;  ///< of its phase, a second
  void enter(job& j, job::phase next, double now, news& what);

  const phone_spec& spec_;
  skin heat_;
  prompt_cache cache_;
  bool loaded_;
  std::vector<job> jobs_;
  double last_ = 0;
};

}  // namespace pocketfleet::fleet
