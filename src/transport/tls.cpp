#include "pocketfleet/transport/tls.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/stat.h>

#include <cerrno>
#include <ctime>
#include <system_error>

namespace pocketfleet {
namespace {

struct free_context {
  void operator()(SSL_CTX* c) const { SSL_CTX_free(c); }
};
using context_ptr = std::unique_ptr<SSL_CTX, free_context>;

/// What OpenSSL has to say, in a few words.
std::string reason() {
  std::string out;
  for (auto code = ERR_get_error(); code != 0; code = ERR_get_error()) {
    const char* const text = ERR_reason_error_string(code);
    if (out.empty() && text != nullptr) out = text;
  }
  return out.empty() ? "something else" : out;
}

loaded_tls wrong(std::string which, std::string found, std::string expected) {
  ERR_clear_error();
  return {nullptr, std::move(which), std::move(found), std::move(expected)};
}

context_ptr make(const SSL_METHOD* method) {
  context_ptr made(SSL_CTX_new(method));
  if (!made) throw std::bad_alloc();
  SSL_CTX_set_min_proto_version(made.get(), TLS1_2_VERSION);
  SSL_CTX_set_mode(made.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                   SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_options(made.get(), SSL_OP_NO_RENEGOTIATION);
  return made;
}

/// HTTP/1.1 is spoken here, also to those who would rather have something newer.
int choose_protocol(SSL*, const unsigned char** out, unsigned char* size, const unsigned char* offered,
                    unsigned offered_size, void*) {
  static constexpr unsigned char ours[] = "\x08http/1.1";
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, size, ours, sizeof ours - 1, offered, offered_size) !=
      OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_NOACK;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

std::int64_t expiry(SSL_CTX* context) {
  const X509* const certificate = SSL_CTX_get0_certificate(context);
  std::tm until{};
  if (certificate == nullptr || ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &until) != 1) return 0;
  return timegm(&until);
}

std::string fault_of(const std::string& file, unsigned forbidden) {
  struct stat about {};
  if (::stat(file.c_str(), &about) != 0) return file + ": " + std::generic_category().message(errno);
  if (!S_ISREG(about.st_mode)) return file + ": something that is no file";
  return (about.st_mode & forbidden) != 0 ? file + ": a file that others can read" : std::string{};
}

}  // namespace

tls_context::~tls_context() {
  SSL_CTX_free(context_);
}

loaded_tls load_tls(const tls_files& files) {
  if (auto fault = fault_of(files.certificate, 0); !fault.empty())
    return wrong("certificate", std::move(fault), "a certificate in PEM form");
  if (auto fault = fault_of(files.key, 07); !fault.empty())
    return wrong("key", std::move(fault), "a private key in PEM form that others cannot read");
  ERR_clear_error();
  context_ptr made = make(TLS_server_method());
  if (SSL_CTX_use_certificate_chain_file(made.get(), files.certificate.c_str()) != 1)
    return wrong("certificate", files.certificate + ": " + reason(), "a certificate in PEM form");
  if (SSL_CTX_use_PrivateKey_file(made.get(), files.key.c_str(), SSL_FILETYPE_PEM) != 1)
    return wrong("key", files.key + ": " + reason(),
                 "the certificate's private key in PEM form, without a password");
  if (SSL_CTX_check_private_key(made.get()) != 1)
    return wrong("key", files.key + ": " + reason(), "the private key of that certificate");
  if (!files.client_ca.empty()) {
    if (SSL_CTX_load_verify_locations(made.get(), files.client_ca.c_str(), nullptr) != 1)
      return wrong("client_ca", files.client_ca + ": " + reason(), "certificates of authorities in PEM form");
    SSL_CTX_set_client_CA_list(made.get(), SSL_load_client_CA_file(files.client_ca.c_str()));
    SSL_CTX_set_verify(made.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  }
  static constexpr unsigned char session_of[] = "pocketfleet";
  SSL_CTX_set_session_id_context(made.get(), session_of, sizeof session_of - 1);
  SSL_CTX_set_alpn_select_cb(made.get(), choose_protocol, nullptr);
  const std::int64_t until = expiry(made.get());
  return {std::make_shared<const tls_context>(made.release(), until)};
}

loaded_tls load_phone_tls(const std::string& ca_file) {
  ERR_clear_error();
  context_ptr made = make(TLS_client_method());
  SSL_CTX_set_verify(made.get(), SSL_VERIFY_PEER, nullptr);
  const int known = ca_file.empty() ? SSL_CTX_set_default_verify_paths(made.get())
                                    : SSL_CTX_load_verify_locations(made.get(), ca_file.c_str(), nullptr);
  if (known != 1) return wrong("ca", ca_file + ": " + reason(), "certificates of authorities in PEM form");
  return {std::make_shared<const tls_context>(made.release(), 0)};
}

}  // namespace pocketfleet
