#include "private_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "credentials.hpp"
#include "descriptor.hpp"

namespace pocketfleet {

private_file read_private_file(const std::string& file, std::size_t most, const std::string& expected) {
  const auto refuse = [](std::string found, std::string wanted) {
    return private_file{{}, std::move(found), std::move(wanted)};
  };
  // Without O_NONBLOCK a named pipe would hold up the start.
  const descriptor opened(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat about {};
  if (opened.fd() < 0 || ::fstat(opened.fd(), &about) != 0)
    return refuse(file + ": " + std::generic_category().message(errno), expected);
  if (!S_ISREG(about.st_mode)) return refuse("something that is no file", "a file");
  if (!is_private(file, about.st_mode)) return refuse("a file that others can read", "chmod 600 " + file);
  private_file out;
  out.bytes.resize(most + 1);
  std::size_t size = 0;
  while (size < out.bytes.size()) {
    const auto n = ::read(opened.fd(), out.bytes.data() + size, out.bytes.size() - size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return refuse(file + ": " + std::generic_category().message(errno), expected);
    if (n == 0) break;
    size += static_cast<std::size_t>(n);
  }
  if (size > most) return refuse("a longer file", "at most " + std::to_string(most) + " bytes");
  out.bytes.resize(size);
  return out;
}

}  // namespace pocketfleet
