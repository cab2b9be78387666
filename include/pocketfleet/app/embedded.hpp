// Files that are part of the program.
#pragma once

#include <string_view>
#include <vector>

#include "pocketfleet/service/static_pages.hpp"

namespace pocketfleet {

std::string_view phone_setup_script();  ///< scripts/phone_setup.sh, for phones that have nothing yet
std::vector<static_file> web_files();   ///< the dashboard: everything in web/

}  // namespace pocketfleet
