// How many bytes weights take: ggml's types of tensors, and what a model's tensors would be in another
// quantization.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace pocketfleet {

/// One type of tensor. Weights come in blocks; a row is a whole number of them.
struct tensor_type {
  std::uint32_t id;  ///< as in a GGUF file
  std::string_view name;
  std::uint32_t block_weights;
  std::uint32_t block_bytes;

  constexpr double bits_per_weight() const { return 8.0 * block_bytes / block_weights; }
};

/// Nothing: ggml has none with that number, or has dropped it, or it is younger than this table.
const tensor_type* find_tensor_type(std::uint32_t id);
const tensor_type* find_tensor_type(std::string_view name);

/// A quantization as files are named after, with the bits that a weight takes in the four kinds of tensors
/// that llama-quantize treats differently.
struct quantization {
  std::string_view name;
  double most;       ///< matrices of the layers that are not named below
  double boosted;    ///< attn_v and ffn_down, of which some mixes keep a part finer
  double output;     ///< output.weight
  double embedding;  ///< token_embd.weight
};

/// From the finest to the coarsest.
std::span<const quantization> quantizations();
const quantization* find_quantization(std::string_view name);

/// What general.file_type means; empty: unknown.
std::string_view file_type_name(std::uint64_t id);

}  // namespace pocketfleet
