// Certificates and what follows from them, for the listener and for connections to phones. By OpenSSL.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

struct ssl_ctx_st;

namespace pocketfleet {

/// Files in PEM form.
struct tls_files {
  std::string
      certificate{};  ///< the gateway's, with what stands between it and a known authority; empty: no TLS
  std::string key{};  ///< its private key; others than the owner's group may not read it
  std::string client_ca{};  ///< clients need a certificate by one of these authorities; empty: they need none
  bool operator==(const tls_files&) const = default;
};

/// Shared by all connections that were begun with it; immutable. TLS 1.2 and newer.
class tls_context {
 public:
  explicit tls_context(ssl_ctx_st* owned, std::int64_t expires) : context_(owned), expires_(expires) {}
  tls_context(const tls_context&) = delete;
  tls_context& operator=(const tls_context&) = delete;
  ~tls_context();

  ssl_ctx_st* native() const { return context_; }
  std::int64_t expires() const {
    return expires_;
  }  ///< of the certificate, in seconds since 1970; 0: there is none

 private:
  ssl_ctx_st* context_;
  std::int64_t expires_;
};

/// A context, or which file is wrong, and how.
struct loaded_tls {
  std::shared_ptr<const tls_context> context{};
  std::string which{};  ///< "certificate", "key", "client_ca", "ca"; empty: none is
  std::string found{};
  std::string expected{};
};

loaded_tls load_tls(const tls_files& files);

/// For connections to phones, whose certificates must be by an authority of that file; empty: by one that the
/// system knows.
loaded_tls load_phone_tls(const std::string& ca_file);

}  // namespace pocketfleet
