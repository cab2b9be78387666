// What llama-server tells of itself and of its tokens.
#pragma once

#include <string>

#include "json.hpp"
#include "server.hpp"

namespace pocketfleet::sim {

std::string models_page(const phone_settings& settings);  ///< /v1/models
std::string props_page(const phone_settings& settings);   ///< /props
std::string slots_page(phone::server& server);            ///< /slots
std::string metrics_page(phone::server& server);          ///< /metrics
std::string tokens_answer(const json& body);              ///< /tokenize
std::string text_answer(const json& body);                ///< /detokenize

}  // namespace pocketfleet::sim
