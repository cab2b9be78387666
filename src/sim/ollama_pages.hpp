// What Ollama tells of its models.
#pragma once

#include <string>
#include <string_view>

#include "json.hpp"
#include "pocketfleet/sim/phone.hpp"
#include "server.hpp"

namespace pocketfleet::sim {

bool has_model(const phone_settings& settings, std::string_view name);
std::string tags_page(const phone_settings& settings);                           ///< /api/tags
std::string show_page(const phone_settings& settings, const std::string& name);  ///< /api/show
std::string processes_page(phone::server& server);                               ///< /api/ps

}  // namespace pocketfleet::sim
