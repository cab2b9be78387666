// Files that only their owner may be able to read: tokens and keys.
#pragma once

#include <string>

namespace pocketfleet {

/// What stands in it, or what is wrong with it in the words of a mistake.
struct private_file {
  std::string bytes{};
  std::string found{};  ///< empty: it was read
  std::string expected{};
  explicit operator bool() const { return found.empty(); }
};

/// At most `most` bytes; a file that is longer is refused. `expected`: said of one that is not there.
private_file read_private_file(const std::string& file, std::size_t most,
                               const std::string& expected = "a file that can be read");

}  // namespace pocketfleet
