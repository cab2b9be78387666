// Where the files are that phones.json names, by hand or as a service.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>

namespace pocketfleet {

/// A path in phones.json counts from the file's folder. "credential:NAME" is what systemd has passed to the
/// service: $CREDENTIALS_DIRECTORY/NAME, or pocketfleet_NAME where it has passed the whole folder. Without
/// systemd it is credentials/NAME in the file's folder, so that the file means the same to a person at a
/// shell.
std::string resolve_path(const std::filesystem::path& folder, const std::string& path);

/// Nobody but its owner can read a file with this mode; or it is a credential, which systemd guards: there
/// the bits of the group are the mask of an access list.
bool is_private(const std::string& file, mode_t mode);

/// Where the gateway keeps what belongs to phones.json: beside it, or in the service's $STATE_DIRECTORY.
std::string state_file(const std::string& phones, const std::string& ending);

}  // namespace pocketfleet
