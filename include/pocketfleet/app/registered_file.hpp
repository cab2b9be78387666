// Where the gateway keeps the phones that have said of themselves where they are.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "pocketfleet/core/error.hpp"
#include "pocketfleet/core/phone.hpp"

struct stat;

namespace pocketfleet {

/// Reads it. A file that is not there is an empty one; one that is damaged is an error, and is left as it is.
result<std::vector<phone_config>> read_registered(const std::string& file);

/// What stands in it.
std::string render_registered(const std::vector<phone_config>& phones);

/// Writes a file anew beside itself and puts it into its place, so that whoever reads sees the old or the new
/// one. It gets the rights of `like`, and its owner if this process may give files away; without it, nobody
/// else can read it. An error says why not.
result<void> write_atomically(const std::string& file, const std::string& text,
                              const struct ::stat* like = nullptr);

/// Writes on a thread of its own, since a disk may take its time; what comes meanwhile replaces what waits.
class registered_file {
 public:
  registered_file() = default;
  registered_file(const registered_file&) = delete;
  registered_file& operator=(const registered_file&) = delete;
  ~registered_file();  ///< writes what still waits

  void keep(std::string file, std::string text);

 private:
  struct work {
    std::string file;
    std::string text;
  };
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  // guarded by mutex_
  std::optional<work> next_;
  bool stop_ = false;
  std::thread thread_;  // begun with the first keep()
};

}  // namespace pocketfleet
