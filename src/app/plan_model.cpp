#include "plan_model.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "descriptor.hpp"
#include "pocketfleet/wire/gguf.hpp"

namespace pocketfleet {
namespace {

// A header is some megabytes, most of it the vocabulary.
constexpr std::size_t first_look = 1U << 20U;
constexpr std::size_t longest_header = 256U << 20U;
constexpr std::uint64_t most_files = 1000;

error refuse(const std::string& file, const std::string& why) {
  return {errc::bad_file, file + ": " + why};
}

std::string system_words() {
  return std::generic_category().message(errno);
}

/// Reads on until there are `size` bytes, or the file ends. False: it cannot be read.
bool read_up_to(int fd, std::size_t size, std::string& into) {
  std::size_t have = into.size();
  into.resize(size);
  while (have < size) {
    const auto n = ::read(fd, into.data() + have, size - have);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    if (n == 0) break;
    have += static_cast<std::size_t>(n);
  }
  into.resize(have);
  return true;
}

result<gguf_header> load_header(const std::string& file) {
  const descriptor opened(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat about {};
  if (opened.fd() < 0 || ::fstat(opened.fd(), &about) != 0) return refuse(file, system_words());
  if (!S_ISREG(about.st_mode)) return refuse(file, "found no plain file, expected a GGUF file");
  const auto size = static_cast<std::uint64_t>(about.st_size);
  std::string bytes;
  for (std::size_t look = first_look;; look *= 4) {
    if (!read_up_to(opened.fd(), look, bytes)) return refuse(file, system_words());
    auto header = read_gguf(bytes, size);
    if (header) return header;
    const bool more = header.error().code == errc::truncated && bytes.size() == look;
    if (!more) return refuse(file, header.error().message);
    if (look >= longest_header) return refuse(file, "its header is longer than 256 MiB");
  }
}

/// The other files of a split model: this one's name with the other numbers.
result<std::string> file_of_part(const std::string& file, std::uint64_t part, std::uint64_t of) {
  std::array<char, 32> ending{};
  std::snprintf(ending.data(), ending.size(), "-%05u-of-%05u.gguf", 1U, static_cast<unsigned>(of));
  const std::string_view first = ending.data();
  if (!file.ends_with(first)) {
    return refuse(file, "found one of " + std::to_string(of) + " parts, expected the first, named ..." +
                            std::string(first));
  }
  std::string out = file.substr(0, file.size() - first.size());
  std::snprintf(ending.data(), ending.size(), "-%05u-of-%05u.gguf", static_cast<unsigned>(part + 1),
                static_cast<unsigned>(of));
  return out + ending.data();
}

}  // namespace

result<model_shape> load_model_shape(const std::string& file) {
  std::vector<gguf_header> parts;
  auto first = load_header(file);
  if (!first) return first.error();
  parts.push_back(std::move(*first));
  const std::uint64_t count = split_count(parts.front());
  if (count > most_files) {
    return refuse(file, "split.count: found " + std::to_string(count) + ", expected at most 1000");
  }
  for (std::uint64_t i = 1; i < count; ++i) {
    const auto name = file_of_part(file, i, count);
    if (!name) return name.error();
    auto part = load_header(*name);
    if (!part) return part.error();
    parts.push_back(std::move(*part));
  }
  auto out = shape_of(parts);
  if (!out) return refuse(file, out.error().message);
  if (out->name.empty()) out->name = std::filesystem::path(file).stem().string();
  return out;
}

}  // namespace pocketfleet
