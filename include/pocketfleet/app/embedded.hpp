// Files that are part of the program.
#pragma once

#include <string_view>

namespace pocketfleet {

std::string_view phone_setup_script();  ///< scripts/phone_setup.sh, for phones that have nothing yet

}  // namespace pocketfleet
