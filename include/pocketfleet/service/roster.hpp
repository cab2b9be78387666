// Which phones there are by the file and by hand: what an operator has changed lies over what the file says.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/core/error.hpp"
#include "pocketfleet/core/phone.hpp"

namespace pocketfleet {

/// What can be changed of a phone while it serves. Absent: stays as it is.
struct phone_change {
  std::optional<std::uint32_t> weight{};
  std::optional<std::uint32_t> max_concurrency{};
};

/// A phone to be added: checked, and as it was given.
struct new_phone {
  phone_config config{};
  std::string text{};  ///< one JSON object, for the file
};

/// Owned by the application, used from any thread; one lock, never held across I/O.
///
/// The rule for a file that is read again: what was changed by hand stays as long as the file says of it what
/// it said before. A weight or a number of permits stays while the file's own is the same; a removed phone
/// stays away while its entry is the same; an added phone stays until the file has one with its id, address
/// or name, or has it as a member of a group. In everything else the file is right.
class roster {
 public:
  struct entry {
    phone_config now{};                  ///< as it is used
    std::optional<phone_config> said{};  ///< the file's; nothing: added by hand
    std::string text{};                  ///< of an added one: new_phone::text
    bool removed = false;                ///< by hand
  };

  /// The file has been read, or written.
  void take_file(std::vector<phone_config> phones);

  /// Those that are not removed.
  std::vector<phone_config> phones() const;

  /// Errors: errc::conflict if its name, address or id is taken, by one of these or of `others`, or what is a
  /// member of a group would be a second time in the fleet.
  result<void> add(new_phone phone, const std::vector<phone_config>& others);
  bool change(std::string_view name, const phone_change& what);  ///< false: not one of these
  bool remove(std::string_view name);                            ///< false: not one of these

  /// Those of the file first, in its order, removed ones among them; then added ones.
  std::vector<entry> entries() const;

 private:
  std::vector<phone_config> present() const;

  mutable std::mutex mutex_;
  std::vector<entry> entries_;  // guarded by mutex_
};

}  // namespace pocketfleet
