#include "pocketfleet/wire/digest.hpp"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <new>

namespace pocketfleet {
namespace {

/// SHA-256 with what OpenSSL would otherwise look up and allocate for each digest.
class digester {
 public:
  digester() : algorithm_(EVP_MD_fetch(nullptr, "SHA256", nullptr)), context_(EVP_MD_CTX_new()) {
    if (algorithm_ == nullptr || context_ == nullptr) throw std::bad_alloc();
  }
  digester(const digester&) = delete;
  digester& operator=(const digester&) = delete;
  ~digester() {
    EVP_MD_CTX_free(context_);
    EVP_MD_free(algorithm_);
  }

  std::array<unsigned char, 32> operator()(std::string_view text) {
    std::array<unsigned char, 32> key{};
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

std::array<unsigned char, 32> sha256(std::string_view text) {
  thread_local digester digest;
  return digest(text);
}

bool same_digest(const std::array<unsigned char, 32>& a, const std::array<unsigned char, 32>& b) {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string sha256_hex(std::string_view text) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out;
  for (const unsigned char byte : sha256(text)) {
    out += digits[byte >> 4U];
    out += digits[byte & 15U];
  }
  return out;
}

}  // namespace pocketfleet
