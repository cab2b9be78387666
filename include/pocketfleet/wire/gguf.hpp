// The header of a GGUF file (versions 2 and 3, little endian): what a model consists of, without its weights.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "pocketfleet/core/error.hpp"
#include "pocketfleet/core/model_shape.hpp"

namespace pocketfleet {

struct gguf_tensor {
  std::string name{};
  const tensor_type* type = nullptr;
  std::vector<std::uint64_t> dimensions{};
  std::uint64_t weights = 0;
  std::uint64_t bytes = 0;
};

/// Numbers, truth values and texts are kept, of long texts the beginning; of a list, how long it is, and what
/// is in it if these are a few thousand whole numbers.
struct gguf_list {
  std::uint64_t length = 0;
  std::vector<std::uint64_t> numbers{};
};
using gguf_value = std::variant<std::uint64_t, std::int64_t, double, bool, std::string, gguf_list>;

struct gguf_header {
  std::uint32_t version = 0;
  std::map<std::string, gguf_value, std::less<>> values{};
  std::vector<gguf_tensor> tensors{};
  std::uint64_t data_begins = 0;  ///< bytes from the start of the file

  /// A whole number that is not negative, of whichever of GGUF's types.
  std::optional<std::uint64_t> whole(std::string_view key) const;
  std::string text(std::string_view key) const;  ///< empty: none
};

/// Reads a header from the first bytes of a file. `file_bytes`: how long the whole file is, in which every
/// tensor must lie. Errors: errc::truncated if the header goes on behind `bytes`, otherwise errc::bad_file;
/// with the byte, what stands there and what should.
result<gguf_header> read_gguf(std::string_view bytes, std::uint64_t file_bytes);

/// Into how many files the model is split (split.count); 1 for most.
std::uint64_t split_count(const gguf_header& header);

/// Of all files of a model, the first one first. Errors: errc::bad_file, what is missing.
result<model_shape> shape_of(const std::vector<gguf_header>& parts);

}  // namespace pocketfleet
