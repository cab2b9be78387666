#include "pocketfleet/wire/cache_key.hpp"

#include <openssl/evp.h>

#include <new>

#include "pocketfleet/core/model_name.hpp"

namespace pocketfleet {
namespace {

void add(std::string& text, std::string_view field) {
  text.append(std::to_string(field.size())).append(":").append(field);
}

/// SHA-256 with what OpenSSL would otherwise look up and allocate for each digest.
class sha256 {
 public:
  sha256() : algorithm_(EVP_MD_fetch(nullptr, "SHA256", nullptr)), context_(EVP_MD_CTX_new()) {
    if (algorithm_ == nullptr || context_ == nullptr) throw std::bad_alloc();
  }
  sha256(const sha256&) = delete;
  sha256& operator=(const sha256&) = delete;
  ~sha256() {
    EVP_MD_CTX_free(context_);
    EVP_MD_free(algorithm_);
  }

  cache_key operator()(std::string_view text) {
    cache_key key{};
    if (EVP_DigestInit_ex2(context_, algorithm_, nullptr) != 1 ||
        EVP_DigestUpdate(context_, text.data(), text.size()) != 1 ||
        EVP_DigestFinal_ex(context_, key.data(), nullptr) != 1) {
      throw std::bad_alloc();
    }
    return key;
  }

 private:
  EVP_MD* algorithm_;
  EVP_MD_CTX* context_;
};

}  // namespace

cache_key cache_key_of(const question& q, std::string_view scope) {
  std::string text;
  add(text, scope);
  add(text, normalized_model(q.model));
  // Objects are sorted by key, so equal values give the same text; a JSON text also tells where it ends.
  for (const json* part : {&q.messages, &q.options, &q.format, &q.think}) {
    text += ' ';
    append_json(text, *part);
  }
  thread_local sha256 digest;
  return digest(text);
}

bool is_deterministic(const question& q) {
  const auto temperature = q.options.find("temperature");
  if (temperature != q.options.end() && temperature->is_number() && temperature->get<double>() == 0.0)
    return true;
  const auto seed = q.options.find("seed");
  return seed != q.options.end() && seed->is_number() && seed->get<double>() >= 0;  // -1: a random one
}

}  // namespace pocketfleet
