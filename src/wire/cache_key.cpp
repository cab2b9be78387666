#include "pocketfleet/wire/cache_key.hpp"

#include <openssl/evp.h>

#include <new>

#include "pocketfleet/core/model_name.hpp"

namespace pocketfleet {
namespace {

void add(std::string& text, std::string_view field) {
  text.append(std::to_string(field.size())).append(":").append(field);
}

}  // namespace

cache_key cache_key_of(const question& q, std::string_view scope) {
  std::string text;
  add(text, scope);
  add(text, normalized_model(q.model));
  // nlohmann's objects are sorted by key, so the dump of equal values is the same text
  for (const json* part : {&q.messages, &q.options, &q.format, &q.think}) add(text, dump_json(*part));

  // Looked up once: fetching the algorithm costs more than a short digest.
  static EVP_MD* const sha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  cache_key key{};
  if (EVP_Digest(text.data(), text.size(), key.data(), nullptr, sha256, nullptr) != 1) throw std::bad_alloc();
  return key;
}

bool is_deterministic(const question& q) {
  const auto temperature = q.options.find("temperature");
  if (temperature != q.options.end() && temperature->is_number() && temperature->get<double>() == 0.0)
    return true;
  const auto seed = q.options.find("seed");
  return seed != q.options.end() && seed->is_number() && seed->get<double>() >= 0;  // -1: a random one
}

}  // namespace pocketfleet
