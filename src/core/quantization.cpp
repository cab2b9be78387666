#include "pocketfleet/core/quantization.hpp"

#include <algorithm>

namespace pocketfleet {
namespace {

// Sizes of the blocks as ggml lays them out (ggml-common.h), by the numbers of enum ggml_type. Those left out
// were dropped (4, 5, 31 to 33, 36 to 38).
constexpr std::array types{
    tensor_type{0, "F32", 1, 4},         tensor_type{1, "F16", 1, 2},
    tensor_type{2, "Q4_0", 32, 18},      tensor_type{3, "Q4_1", 32, 20},
    tensor_type{6, "Q5_0", 32, 22},      tensor_type{7, "Q5_1", 32, 24},
    tensor_type{8, "Q8_0", 32, 34},      tensor_type{9, "Q8_1", 32, 36},
    tensor_type{10, "Q2_K", 256, 84},    tensor_type{11, "Q3_K", 256, 110},
    tensor_type{12, "Q4_K", 256, 144},   tensor_type{13, "Q5_K", 256, 176},
    tensor_type{14, "Q6_K", 256, 210},   tensor_type{15, "Q8_K", 256, 292},
    tensor_type{16, "IQ2_XXS", 256, 66}, tensor_type{17, "IQ2_XS", 256, 74},
    tensor_type{18, "IQ3_XXS", 256, 98}, tensor_type{19, "IQ1_S", 256, 50},
    tensor_type{20, "IQ4_NL", 32, 18},   tensor_type{21, "IQ3_S", 256, 110},
    tensor_type{22, "IQ2_S", 256, 82},   tensor_type{23, "IQ4_XS", 256, 136},
    tensor_type{24, "I8", 1, 1},         tensor_type{25, "I16", 1, 2},
    tensor_type{26, "I32", 1, 4},        tensor_type{27, "I64", 1, 8},
    tensor_type{28, "F64", 1, 8},        tensor_type{29, "IQ1_M", 256, 56},
    tensor_type{30, "BF16", 1, 2},       tensor_type{34, "TQ1_0", 256, 54},
    tensor_type{35, "TQ2_0", 256, 66},   tensor_type{39, "MXFP4", 32, 17},
    tensor_type{40, "NVFP4", 64, 36},
};

constexpr double bits(std::string_view name) {
  for (const auto& t : types) {
    if (t.name == name) return t.bits_per_weight();
  }
  return 0;
}

constexpr double mean(double a, double b) {
  return (a + b) / 2;
}

// The mixes by llama-quantize's rules: *_K_M keeps half of attn_v and ffn_down a size up, all of them the
// output in Q6_K.
constexpr std::array mixes{
    quantization{"F16", bits("F16"), bits("F16"), bits("F16"), bits("F16")},
    quantization{"Q8_0", bits("Q8_0"), bits("Q8_0"), bits("Q8_0"), bits("Q8_0")},
    quantization{"Q6_K", bits("Q6_K"), bits("Q6_K"), bits("Q6_K"), bits("Q6_K")},
    quantization{"Q5_K_M", bits("Q5_K"), mean(bits("Q5_K"), bits("Q6_K")), bits("Q6_K"), bits("Q5_K")},
    quantization{"Q4_K_M", bits("Q4_K"), mean(bits("Q4_K"), bits("Q6_K")), bits("Q6_K"), bits("Q4_K")},
    quantization{"Q4_0", bits("Q4_0"), bits("Q4_0"), bits("Q6_K"), bits("Q4_0")},
    quantization{"Q3_K_M", bits("Q3_K"), bits("Q4_K"), bits("Q6_K"), bits("Q3_K")},
    quantization{"Q2_K", bits("Q2_K"), bits("Q3_K"), bits("Q6_K"), bits("Q2_K")},
};

struct file_type {
  std::uint64_t id;
  std::string_view name;
};

// enum llama_ftype
constexpr std::array file_types{
    file_type{0, "F32"},      file_type{1, "F16"},     file_type{2, "Q4_0"},    file_type{3, "Q4_1"},
    file_type{7, "Q8_0"},     file_type{8, "Q5_0"},    file_type{9, "Q5_1"},    file_type{10, "Q2_K"},
    file_type{11, "Q3_K_S"},  file_type{12, "Q3_K_M"}, file_type{13, "Q3_K_L"}, file_type{14, "Q4_K_S"},
    file_type{15, "Q4_K_M"},  file_type{16, "Q5_K_S"}, file_type{17, "Q5_K_M"}, file_type{18, "Q6_K"},
    file_type{19, "IQ2_XXS"}, file_type{20, "IQ2_XS"}, file_type{21, "Q2_K_S"}, file_type{22, "IQ3_XS"},
    file_type{23, "IQ3_XXS"}, file_type{24, "IQ1_S"},  file_type{25, "IQ4_NL"}, file_type{26, "IQ3_S"},
    file_type{27, "IQ3_M"},   file_type{28, "IQ2_S"},  file_type{29, "IQ2_M"},  file_type{30, "IQ4_XS"},
    file_type{31, "IQ1_M"},   file_type{32, "BF16"},   file_type{36, "TQ1_0"},  file_type{37, "TQ2_0"},
    file_type{38, "MXFP4"},
};

template <class List, class Match>
auto* found_in(const List& list, Match match) {
  const auto at = std::find_if(list.begin(), list.end(), match);
  return at == list.end() ? nullptr : &*at;
}

}  // namespace

const tensor_type* find_tensor_type(std::uint32_t id) {
  return found_in(types, [&](const tensor_type& t) { return t.id == id; });
}

const tensor_type* find_tensor_type(std::string_view name) {
  return found_in(types, [&](const tensor_type& t) { return t.name == name; });
}

std::span<const quantization> quantizations() {
  return mixes;
}

const quantization* find_quantization(std::string_view name) {
  return found_in(mixes, [&](const quantization& q) { return q.name == name; });
}

std::string_view file_type_name(std::uint64_t id) {
  const auto* found = found_in(file_types, [&](const file_type& t) { return t.id == id; });
  return found == nullptr ? std::string_view{} : found->name;
}

}  // namespace pocketfleet
