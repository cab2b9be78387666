// What the admin API wants of the application. All of it runs on the first worker, where signals come in too:
// of two changes one is over before the other begins.
#include "pocketfleet/app/gateway.hpp"
#include "pocketfleet/app/log.hpp"
#include "pocketfleet/app/phones_file.hpp"
#include "pocketfleet/wire/digest.hpp"

namespace pocketfleet {
namespace {

error no_file() {
  return {errc::conflict, "this gateway was started without a phones.json"};
}

/// Who has an admin's key is not to point the gateway at whatever it can reach, this machine's own services
/// among it. Where a name leads is looked at when it is connected to.
bool is_elsewhere(const std::string& host, const networks& allowed) {
  boost::system::error_code a_name;
  asio::ip::make_address(host, a_name);
  return !a_name && !allowed.contains(host);
}

}  // namespace

admin_means gateway::means() {
  return {
      .in_turn = [this](std::function<void()> what) { asio::post(workers_[0]->context, std::move(what)); },
      .read_phone = [this](std::string_view text) -> result<new_phone> {
        auto read = parse_new_phone(text, file_, phones_key_);
        if (read && is_elsewhere(read->config.host, settings_.links.allowed))
          return error(errc::bad_request, "host: " + read->config.host + " is in none of phone_networks");
        if (read) read->config.confined = true;
        if (read && read->config.tls && !settings_.links.tls)
          return error(
              errc::bad_request,
              "tls: this gateway was started without TLS to phones; name \"phone_tls_ca_file\" in its "
              "file, and restart it");
        return read;
      },
      .read_change = parse_phone_change,
      .use_fleet =
          [this](bool joined) {
            use_fleet();
            prober_->sync();
            if (joined) keep_registered();
          },
      .reread = [this]() -> result<reread_file> {
        if (file_.empty()) return no_file();
        return reread(file_);
      },
      .save = [this] { return save(); },
      .note =
          [](std::string_view what, std::string_view phone) {
            log(log_level::info, "changed by hand", {{"what", what}, {"phone", phone}});
          },
  };
}

result<saved_file> gateway::save() {
  if (file_.empty()) return no_file();
  const auto read = read_text(file_);
  if (read.wrong) return error(errc::conflict, to_string(*read.wrong, file_));
  if (sha256_hex(read.text) != digest_) {
    return error(
        errc::conflict,
        file_ + " has been changed since it was read; reload it first, then look what is left to save");
  }
  const auto text = with_changes(read.text, roster_.entries());
  if (!text) return text.error();
  saved_file out{file_, roster_.phones().size(), *text != read.text};
  if (!out.written) return out;
  if (auto done = replace_file(file_, *text); !done) return done.error();
  digest_ = sha256_hex(*text);
  roster_.take_file(roster_.phones());
  return out;
}

}  // namespace pocketfleet
