// From the header of a GGUF file to the shape of the model in it.
#include <algorithm>
#include <charconv>
#include <map>

#include "pocketfleet/wire/gguf.hpp"

namespace pocketfleet {
namespace {

constexpr std::uint64_t most_layers = 4096;
constexpr std::uint64_t widest = std::uint64_t{1} << 24U;
constexpr std::uint64_t most_heads = 65536;
constexpr std::uint64_t f16_bytes = 2;

/// Thrown inside of this file only.
struct fault {
  std::string what;
};

/// The values of one architecture: "llama.block_count" and so on.
class settings_of {
 public:
  explicit settings_of(const gguf_header& header) : header_(header) {
    architecture_ = header.text("general.architecture");
    if (architecture_.empty()) throw fault{"it has no general.architecture"};
    const auto plain = [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
    };
    if (architecture_.size() > 64 || !std::all_of(architecture_.begin(), architecture_.end(), plain)) {
      throw fault{"general.architecture: found another text, expected a name as \"llama\""};
    }
  }
  const std::string& architecture() const { return architecture_; }

  std::optional<std::uint64_t> find(const std::string& key) const {
    const auto value = header_.whole(architecture_ + "." + key);
    if (value && *value > widest) {
      throw fault{architecture_ + "." + key + ": found " + std::to_string(*value) + ", expected at most " +
                  std::to_string(widest)};
    }
    return value;
  }
  std::uint64_t get(const std::string& key) const {
    const auto value = find(key);
    if (!value || *value == 0) throw fault{"it has no " + architecture_ + "." + key};
    return *value;
  }
  /// One number for all layers, or a list with one for each; `otherwise` where there is neither.
  std::uint64_t of_layer(const std::string& key, std::size_t layer, std::uint64_t otherwise) const {
    if (const auto one = find(key)) return *one;
    const auto found = header_.values.find(architecture_ + "." + key);
    const auto* all = found == header_.values.end() ? nullptr : std::get_if<gguf_list>(&found->second);
    if (all == nullptr) return otherwise;
    if (layer >= all->numbers.size() || all->numbers[layer] > widest) {
      throw fault{architecture_ + "." + key + ": no number for layer " + std::to_string(layer)};
    }
    return all->numbers[layer];
  }

 private:
  const gguf_header& header_;
  std::string architecture_{};
};

/// "blk.12.attn_q.weight": 12, and "attn_q.weight".
std::optional<std::pair<std::uint64_t, std::string_view>> layer_of(std::string_view name) {
  if (!name.starts_with("blk.")) return std::nullopt;
  name.remove_prefix(4);
  std::uint64_t number = 0;
  const auto [end, wrong] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (wrong != std::errc{} || end == name.data() + name.size() || *end != '.') return std::nullopt;
  return std::pair{number, name.substr(static_cast<std::size_t>(end - name.data()) + 1)};
}

void add(weight_group& to, const gguf_tensor& t, bool boosted) {
  to.bytes += t.bytes;
  const bool stays = t.dimensions.size() == 1 || t.name.find("ffn_gate_inp") != std::string::npos;
  if (stays) {
    to.fixed_bytes += t.bytes;
  } else if (boosted) {
    to.boosted_weights += t.weights;
  } else {
    to.matrix_weights += t.weights;
  }
}

bool is_boosted(std::string_view name) {
  return name.starts_with("attn_v.") || name.starts_with("ffn_down");
}

struct expert_share {
  std::uint64_t used = 1;
  std::uint64_t of = 1;
};

void take_layer_tensor(model_shape& into, const gguf_tensor& t, std::uint64_t layer, std::string_view name,
                       const expert_share& experts) {
  if (layer >= into.layers.size()) {
    throw fault{"the tensor blk." + std::to_string(layer) + ".* is beyond the " +
                std::to_string(into.layers.size()) + " layers that it says it has"};
  }
  auto& l = into.layers[layer];
  add(l.weights, t, is_boosted(name));
  const bool of_expert = name.find("_exps.") != std::string_view::npos;
  l.read_bytes += of_expert ? t.bytes / experts.of * experts.used : t.bytes;
}

void take_tensors(model_shape& into, const std::vector<gguf_header>& parts, const expert_share& experts) {
  bool output = false;
  const gguf_tensor* embedding = nullptr;
  for (const auto& part : parts) {
    for (const auto& t : part.tensors) {
      if (const auto where = layer_of(t.name)) {
        take_layer_tensor(into, t, where->first, where->second, experts);
      } else if (t.name.starts_with("output")) {
        output = output || t.name == "output.weight";
        add(into.output, t, false);
      } else {
        if (t.name == "token_embd.weight") embedding = &t;
        add(into.embedding, t, false);
      }
    }
  }
  if (embedding == nullptr) throw fault{"it has no tensor token_embd.weight: is it a language model?"};
  into.tied = !output;
  if (into.tied) add(into.output, *embedding, false);
  if (into.n_vocab == 0) into.n_vocab = embedding->dimensions.size() > 1 ? embedding->dimensions[1] : 0;
}

/// By general.file_type, else the type that most bytes are in.
std::string quantization_of(const std::vector<gguf_header>& parts) {
  if (const auto id = parts.front().whole("general.file_type")) {
    if (const auto name = file_type_name(*id); !name.empty()) return std::string(name);
  }
  std::map<std::string_view, std::uint64_t> bytes;
  for (const auto& part : parts) {
    for (const auto& t : part.tensors) bytes[t.type->name] += t.bytes;
  }
  const auto most = std::max_element(bytes.begin(), bytes.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == bytes.end() ? "mixed" : std::string(most->first);
}

void take_attention(model_shape& into, const settings_of& settings) {
  for (std::size_t i = 0; i < into.layers.size(); ++i) {
    const std::uint64_t heads = settings.of_layer("attention.head_count", i, 0);
    if (heads > most_heads) {
      throw fault{"attention.head_count: found " + std::to_string(heads) + ", expected at most " +
                  std::to_string(most_heads)};
    }
    into.n_head = std::max(into.n_head, heads);
    const std::uint64_t heads_kv = settings.of_layer("attention.head_count_kv", i, heads);
    const std::uint64_t even = heads == 0 ? 0 : into.n_embd / heads;
    const std::uint64_t key = settings.find("attention.key_length").value_or(even);
    const std::uint64_t value = settings.find("attention.value_length").value_or(even);
    if (heads_kv != 0 && std::max(key, value) > widest / heads_kv) throw fault{"its heads are too wide"};
    into.layers[i].kv_bytes = heads_kv * (key + value) * f16_bytes;
    into.kv_width = std::max(into.kv_width, heads_kv * std::max(key, value));
    into.n_ff = std::max(into.n_ff, settings.of_layer("feed_forward_length", i, 0));
  }
}

model_shape read_shape(const std::vector<gguf_header>& parts) {
  if (parts.empty()) throw fault{"there is no header"};
  const gguf_header& first = parts.front();
  const settings_of settings(first);
  model_shape out;
  out.architecture = settings.architecture();
  out.name = first.text("general.name");
  out.quantization = quantization_of(parts);
  const std::uint64_t layers = settings.get("block_count");
  if (layers > most_layers) {
    throw fault{out.architecture + ".block_count: found " + std::to_string(layers) + ", expected at most " +
                std::to_string(most_layers)};
  }
  out.layers.resize(layers);
  out.n_embd = settings.get("embedding_length");
  out.context = settings.get("context_length");
  const auto tokens = first.values.find("tokenizer.ggml.tokens");
  if (tokens != first.values.end()) {
    if (const auto* all = std::get_if<gguf_list>(&tokens->second)) out.n_vocab = all->length;
  }
  expert_share experts;
  experts.of = std::max<std::uint64_t>(settings.find("expert_count").value_or(1), 1);
  experts.used = std::min(experts.of, settings.find("expert_used_count").value_or(experts.of));
  take_attention(out, settings);
  take_tensors(out, parts, experts);
  for (std::size_t i = 0; i < out.layers.size(); ++i) {
    if (out.layers[i].weights.bytes == 0) {
      throw fault{"it has no tensors of layer " + std::to_string(i) + ": is a part of it missing?"};
    }
  }
  return out;
}

}  // namespace

result<model_shape> shape_of(const std::vector<gguf_header>& parts) {
  try {
    return read_shape(parts);
  } catch (const fault& f) {
    return error(errc::bad_file, f.what);
  }
}

}  // namespace pocketfleet
