#include "pocketfleet/core/model_shape.hpp"

#include <algorithm>
#include <cmath>

namespace pocketfleet {
namespace {

constexpr std::uint64_t f16_bytes = 2;
constexpr std::uint64_t f32_bytes = 4;

std::uint64_t bytes_at(std::uint64_t weights, double bits) {
  return static_cast<std::uint64_t>(std::llround(static_cast<double>(weights) * bits / 8));
}

void set_bits(weight_group& group, double matrices, double boosted) {
  group.bytes =
      group.fixed_bytes + bytes_at(group.matrix_weights, matrices) + bytes_at(group.boosted_weights, boosted);
}

}  // namespace

std::uint64_t model_shape::file_bytes() const {
  std::uint64_t sum = embedding.bytes + output.bytes;
  if (tied) sum -= output.bytes - output.fixed_bytes;
  for (const auto& l : layers) sum += l.weights.bytes;
  return sum;
}

std::uint64_t model_shape::kv_bytes_per_token() const {
  std::uint64_t sum = 0;
  for (const auto& l : layers) sum += l.kv_bytes;
  return sum;
}

std::uint64_t model_shape::read_bytes() const {
  std::uint64_t sum = output.bytes;
  for (const auto& l : layers) sum += l.read_bytes;
  return sum;
}

model_shape requantized(const model_shape& model, const quantization& to) {
  model_shape out = model;
  out.quantization = to.name;
  for (auto& l : out.layers) {
    const auto before = static_cast<double>(l.weights.bytes);
    set_bits(l.weights, to.most, to.boosted);
    if (before > 0) {
      l.read_bytes = static_cast<std::uint64_t>(
          std::llround(static_cast<double>(l.read_bytes) * static_cast<double>(l.weights.bytes) / before));
    }
  }
  // Tied embeddings are quantized as an output is.
  const double embedding = model.tied ? to.output : to.embedding;
  set_bits(out.embedding, embedding, embedding);
  set_bits(out.output, to.output, to.output);
  return out;
}

model_shape shape_of(const model_parameters& p, const quantization& in) {
  const std::uint64_t head = p.head_size != 0 ? p.head_size : p.n_embd / std::max<std::uint64_t>(p.n_head, 1);
  const std::uint64_t heads_kv = p.n_head_kv != 0 ? p.n_head_kv : p.n_head;
  model_shape out;
  out.name = p.name;
  out.architecture = "llama";
  out.tied = p.tied;
  out.n_embd = p.n_embd;
  out.n_head = p.n_head;
  out.n_ff = p.n_ff;
  out.n_vocab = p.n_vocab;
  out.context = p.context;
  out.kv_width = head * heads_kv;
  layer_shape layer;
  const std::uint64_t attention = p.n_embd * head * p.n_head;
  layer.weights.matrix_weights = 2 * attention + p.n_embd * out.kv_width + 2 * p.n_embd * p.n_ff;
  layer.weights.boosted_weights = p.n_embd * out.kv_width + p.n_embd * p.n_ff;
  layer.weights.fixed_bytes = 2 * p.n_embd * f32_bytes;
  layer.kv_bytes = 2 * out.kv_width * f16_bytes;
  set_bits(layer.weights, in.most, in.boosted);
  layer.read_bytes = layer.weights.bytes;
  out.layers.assign(p.layers, layer);
  out.embedding.matrix_weights = p.n_embd * p.n_vocab;
  out.output.matrix_weights = p.n_embd * p.n_vocab;
  out.output.fixed_bytes = p.n_embd * f32_bytes;
  return requantized(out, in);
}

}  // namespace pocketfleet
