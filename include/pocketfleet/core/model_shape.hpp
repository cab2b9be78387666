// What of a model matters for where it fits: layers, bytes, and what a token of context takes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/core/quantization.hpp"

namespace pocketfleet {

/// Bytes of a group of tensors, and how many weights of each kind are in it: the kinds of `quantization`.
struct weight_group {
  std::uint64_t bytes = 0;
  std::uint64_t matrix_weights = 0;   ///< in matrices, the boosted ones not counted
  std::uint64_t boosted_weights = 0;  ///< attn_v and ffn_down
  std::uint64_t fixed_bytes = 0;      ///< of vectors, which no quantization changes
};

struct layer_shape {
  weight_group weights{};
  std::uint64_t read_bytes = 0;  ///< for one token: all of it, or of a mixture of experts those used
  std::uint64_t kv_bytes = 0;    ///< of the cache for one token of context, in f16
};

struct model_shape {
  std::string name{};
  std::string architecture{};
  std::string quantization{};  ///< as files are named after; "mixed" where that is not known
  std::vector<layer_shape> layers{};
  weight_group embedding{};  ///< token_embd and what else stands before the layers: always on the master
  weight_group output{};     ///< of the output layer; with tied embeddings a copy of them
  bool tied = false;         ///< there is no output.weight: the embedding is the output too
  std::uint64_t n_embd = 0;
  std::uint64_t n_head = 0;
  std::uint64_t kv_width = 0;  ///< values of a key (or a value) of all its heads in the widest layer
  std::uint64_t n_ff = 0;
  std::uint64_t n_vocab = 0;
  std::uint64_t context = 0;  ///< that it was made for

  /// As one process loads it: with tied embeddings there is no second copy.
  std::uint64_t file_bytes() const;
  std::uint64_t kv_bytes_per_token() const;
  std::uint64_t read_bytes() const;  ///< for one token, the output layer with it
};

/// The same model in another quantization, within some percent: what llama-quantize does to each tensor
/// depends on more than its kind.
model_shape requantized(const model_shape& model, const quantization& to);

/// What is known of a model without its file.
struct model_parameters {
  std::string name = "model";
  std::uint64_t layers = 0;
  std::uint64_t n_embd = 0;
  std::uint64_t n_ff = 0;
  std::uint64_t n_head = 0;
  std::uint64_t n_head_kv = 0;  ///< 0: as many as n_head
  std::uint64_t head_size = 0;  ///< 0: n_embd / n_head
  std::uint64_t n_vocab = 0;
  std::uint64_t context = 4096;
  bool tied = false;
};

/// A model of Llama's form: four matrices of attention and three of a gated feed-forward layer.
model_shape shape_of(const model_parameters& parameters, const quantization& in);

}  // namespace pocketfleet
