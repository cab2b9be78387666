// Stop strings where an answer goes on from another phone: each engine sees its own part only, and one that
// begins in the first part and ends in the second is seen by neither.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {

/// Holds back the first few bytes behind the seam until no stop string can span it any more.
class stop_seam {
 public:
  /// `stops`: the question's option, an array of strings or null. `before`: the text in front of the seam.
  stop_seam(const json& stops, std::string_view before);

  /// What may be shown now, in front of what comes next. After hit() nothing more is.
  std::string take(std::string_view more);

  /// What is still held back, when no more comes.
  std::string rest();

  /// A stop string spans the seam: the answer has ended.
  bool hit() const { return hit_; }

 private:
  std::vector<std::string> stops_;
  std::size_t longest_ = 0;
  std::string before_;  // its end, as far as a stop string may begin there
  std::string held_;
  bool open_ = false;  // a stop string may still span the seam
  bool hit_ = false;
};

}  // namespace pocketfleet
