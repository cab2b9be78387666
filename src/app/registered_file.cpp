#include "pocketfleet/app/registered_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <fstream>
#include <sstream>
#include <system_error>

#include "host_text.hpp"
#include "pocketfleet/app/log.hpp"
#include "pocketfleet/wire/heartbeat.hpp"
#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {
namespace {

constexpr std::size_t largest = std::size_t{1} << 20U;

error failed(const std::string& what) {
  return {errc::overloaded, what + ": " + std::generic_category().message(errno)};
}

/// Nothing if it is not what render_registered() writes.
std::optional<phone_config> read_one(const json& from) {
  if (!from.is_object()) return std::nullopt;
  const auto text = [&](const char* key) {
    const auto found = from.find(key);
    return found != from.end() && found->is_string() ? found->get<std::string>() : std::string{};
  };
  phone_config p;
  p.id = text("id");
  p.name = text("name");
  p.host = check_host(text("host")).host;
  p.engine = engine_from_string(text("engine")).value_or(engine_kind::unknown);
  const auto port = from.find("port");
  if (!is_phone_id(p.id) || p.name.empty() || p.name.size() > 64 || p.host.empty() || port == from.end() ||
      !port->is_number_unsigned() || *port < 1 || *port > 65535) {
    return std::nullopt;
  }
  p.port = port->get<std::uint16_t>();
  const auto changed = [&](const char* key, std::uint32_t most, std::uint32_t& field) {
    const auto found = from.find(key);
    if (found == from.end()) return true;
    if (!found->is_number_unsigned() || *found < 1 || *found > most) return false;
    field = found->get<std::uint32_t>();
    return true;
  };
  if (!changed("weight", 1000, p.weight) || !changed("max_concurrency", 64, p.max_concurrency))
    return std::nullopt;
  return p;
}

}  // namespace

result<std::vector<phone_config>> read_registered(const std::string& file) {
  std::vector<phone_config> out;
  std::ifstream in(file, std::ios::binary);
  if (!in) {
    if (errno == ENOENT) return out;
    return failed(file);
  }
  std::string text(largest, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  const auto parsed = parse_json(text);
  if (!parsed) return error(errc::bad_request, file + ": " + parsed.error().message);
  const auto phones = parsed->is_object() ? parsed->find("phones") : parsed->end();
  if (!parsed->is_object() || phones == parsed->end() || !phones->is_array())
    return error(errc::bad_request, file + ": expected {\"phones\":[...]}");
  for (std::size_t i = 0; i < phones->size(); ++i) {
    auto one = read_one((*phones)[i]);
    if (!one) {
      return error(errc::bad_request,
                   file + ": phones[" + std::to_string(i) + "]: expected id, name, host and port");
    }
    out.push_back(std::move(*one));
  }
  return out;
}

std::string render_registered(const std::vector<phone_config>& phones) {
  json all = json::array();
  for (const auto& p : phones) {
    all.push_back({{"id", p.id},
                   {"name", p.name},
                   {"host", p.host},
                   {"port", p.port},
                   {"engine", to_string(p.engine)}});
    if (p.weight != 1) all.back()["weight"] = p.weight;
    if (p.max_concurrency != 1) all.back()["max_concurrency"] = p.max_concurrency;
  }
  return dump_json({{"phones", all}}) + "\n";
}

result<void> write_atomically(const std::string& file, const std::string& text, const struct ::stat* like) {
  const std::string beside = file + ".new";
  const int fd = ::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return failed(beside);
  std::size_t done = 0;
  while (done < text.size()) {
    const auto n = ::write(fd, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) break;
    done += static_cast<std::size_t>(n);
  }
  bool whole = done == text.size();
  if (like != nullptr) {
    [[maybe_unused]] const int given = ::fchown(fd, like->st_uid, like->st_gid);  // only root may always
    whole = whole && ::fchmod(fd, like->st_mode & 07777U) == 0;
  }
  whole = whole && ::fsync(fd) == 0;
  error why = whole ? error() : failed(beside);
  ::close(fd);
  if (!whole) {
    ::unlink(beside.c_str());
    return why;
  }
  if (::rename(beside.c_str(), file.c_str()) != 0) return failed(file);
  return {};
}

registered_file::~registered_file() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void registered_file::keep(std::string file, std::string text) {
  {
    const std::lock_guard lock(mutex_);
    next_ = work{std::move(file), std::move(text)};
    if (!thread_.joinable()) {
      // Signals are for the threads that look for them.
      sigset_t all;
      sigset_t before;
      ::sigfillset(&all);
      ::pthread_sigmask(SIG_SETMASK, &all, &before);
      thread_ = std::thread([this] { run(); });
      ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }
  }
  changed_.notify_one();
}

void registered_file::run() {
  for (;;) {
    work now;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stop_ || next_; });
      if (!next_) return;
      now = std::move(*next_);
      next_.reset();
    }
    if (const auto done = write_atomically(now.file, now.text); !done)
      log(log_level::error, "the registered phones cannot be kept", {{"why", done.error().message}});
  }
}

}  // namespace pocketfleet
