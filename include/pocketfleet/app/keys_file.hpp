// The file with the keys of clients: {"keys":[{"name":"alice","sha256":"..."}]}. Its form: docs/security.md.
#pragma once

#include <string>
#include <vector>

#include "pocketfleet/app/settings.hpp"
#include "pocketfleet/core/api_key.hpp"

namespace pocketfleet {

struct keys_or_mistakes {
  std::vector<api_key> keys{};
  std::vector<mistake> wrong{};  ///< each with its place in the file; none: the keys are good
};

/// Reads it; nobody else may be able to. A file without keys is a mistake.
keys_or_mistakes read_keys(const std::string& file);

/// What stands in it.
std::string render_keys(const std::vector<api_key>& keys);

/// A new key, 256 bits from the kernel: shown once, kept nowhere. Throws std::runtime_error if it gives none.
std::string new_api_key();

}  // namespace pocketfleet
