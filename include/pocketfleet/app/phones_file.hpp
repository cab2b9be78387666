// phones.json with what was changed by hand written into it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/core/error.hpp"
#include "pocketfleet/service/roster.hpp"

namespace pocketfleet {

/// The file's text with the roster in it; the same text if nothing is to be changed. `text`: the one that the
/// roster was last given. Settings, all that is not changed, and the order of keys stay as they are; the
/// layout becomes ours. Errors: errc::conflict if the result would not be a good file.
result<std::string> with_changes(std::string_view text, const std::vector<roster::entry>& phones);

/// Writes it atomically, through a symbolic link, with the file's present rights and owner. An error says why
/// not.
result<void> replace_file(const std::string& file, const std::string& text);

}  // namespace pocketfleet
