#include "pocketfleet/wire/cache_key.hpp"

#include <array>

#include "pocketfleet/core/model_name.hpp"
#include "pocketfleet/wire/digest.hpp"

namespace pocketfleet {
namespace {

void add(std::string& text, std::string_view field) {
  text.append(std::to_string(field.size())).append(":").append(field);
}

/// Fields that change no answer.
constexpr std::array<const char*, 7> about_the_caller{"user",
                                                      "metadata",
                                                      "service_tier",
                                                      "safety_identifier",
                                                      "prompt_cache_key",
                                                      "prompt_cache_retention",
                                                      "keep_alive"};

}  // namespace

cache_key cache_key_of(const question& q, std::string_view scope) {
  std::string text;
  add(text, scope);
  add(text, normalized_model(q.model));
  // Objects are sorted by key, so equal values give the same text; a JSON text also tells where it ends.
  for (const json* part : {&q.messages, &q.options, &q.format, &q.think, &q.tools, &q.apart}) {
    text += ' ';
    append_json(text, *part);
  }
  if (q.raw) add(text += " raw ", q.prompt);
  if (!q.native_only.empty()) {  // the neutral form is not the whole question
    json all = q.native;
    for (const char* field : about_the_caller) all.erase(field);
    add(text, std::to_string(static_cast<int>(q.spoken)));
    append_json(text, all);
  }
  return sha256(text);
}

bool is_deterministic(const question& q) {
  const auto temperature = q.options.find("temperature");
  if (temperature != q.options.end() && temperature->is_number() && temperature->get<double>() == 0.0)
    return true;
  const auto seed = q.options.find("seed");
  return seed != q.options.end() && seed->is_number() && seed->get<double>() >= 0;  // -1: a random one
}

}  // namespace pocketfleet
