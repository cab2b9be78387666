// The header of a GGUF file: a model's shape, or what is wrong with it.
#include "pocketfleet/wire/gguf.hpp"
#include "fuzz.hpp"

namespace pocketfleet::fuzz {
namespace {

constexpr std::uint64_t file_bytes = std::uint64_t{1} << 40U;

void check_words(const error& why) {
  must(!why.message.empty() && why.message.size() < 4096, "a fault that says nothing, or has no end");
  const auto harmless = [](char c) { return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f; };
  must(std::all_of(why.message.begin(), why.message.end(), harmless), "a control character in a message");
}

void check_shape(const model_shape& m) {
  must(!m.layers.empty(), "a model without layers");
  std::uint64_t sum = m.embedding.bytes + m.output.bytes;
  for (const auto& l : m.layers) {
    must(l.read_bytes <= l.weights.bytes, "more is read of a layer than it has");
    sum += l.weights.bytes;
  }
  must(m.file_bytes() <= sum && sum <= 2 * file_bytes, "more weights than the file has");
  must(requantized(m, quantizations().front()).layers.size() == m.layers.size(), "layers got lost");
}

void run(std::string_view text) {
  const auto read = read_gguf(text, file_bytes);
  // The first half is either the beginning of a header or wrong by itself; never good if the whole is not.
  const auto half = read_gguf(text.substr(0, text.size() / 2), file_bytes);
  must(read || !half, "good when it is cut, and bad whole");
  if (!read) {
    must(read.error().code == errc::truncated || read.error().code == errc::bad_file,
         "another kind of fault");
    return check_words(read.error());
  }
  must(read->data_begins <= text.size() + (1U << 20U), "a header longer than its text");
  const auto shape = shape_of({*read});
  if (shape) return check_shape(*shape);
  check_words(shape.error());
}

}  // namespace
}  // namespace pocketfleet::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  pocketfleet::fuzz::run(pocketfleet::fuzz::text_of(data, size));
  return 0;
}
