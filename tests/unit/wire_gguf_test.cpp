#include "pocketfleet/wire/gguf.hpp"

#include <gtest/gtest.h>

#include <cstring>

namespace pocketfleet {
namespace {

/// Writes headers as the format has them, right or wrong.
struct writer {
  std::string out{};

  template <class T>
  writer& put(T value) {
    char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof(T));
    out.append(bytes, sizeof(T));
    return *this;
  }
  writer& text(std::string_view s) {
    put<std::uint64_t>(s.size());
    out.append(s);
    return *this;
  }
  writer& key(std::string_view name, std::uint32_t type) { return text(name).put(type); }
  writer& number(std::string_view name, std::uint32_t v) { return key(name, 4).put(v); }
  writer& begin(std::uint64_t tensors, std::uint64_t values, std::uint32_t version = 3) {
    out += "GGUF";
    return put(version).put(tensors).put(values);
  }
  writer& tensor(std::string_view name, const std::vector<std::uint64_t>& dimensions, std::uint32_t type,
                 std::uint64_t offset) {
    text(name).put(static_cast<std::uint32_t>(dimensions.size()));
    for (const auto d : dimensions) put(d);
    return put(type).put(offset);
  }
};

constexpr std::uint64_t whole_file = std::uint64_t{1} << 40U;

/// Two layers of 64, Q8_0, eight tokens; `tied`: without output.weight.
std::string small(bool tied = false, std::uint32_t version = 3) {
  writer w;
  w.begin(tied ? 6 : 7, 9, version);
  w.key("general.architecture", 8).text("llama");
  w.number("general.file_type", 7).number("llama.block_count", 2).number("llama.embedding_length", 64);
  w.number("llama.context_length", 2048).number("llama.feed_forward_length", 128);
  w.number("llama.attention.head_count", 4);
  w.key("llama.attention.head_count_kv", 9).put<std::uint32_t>(5).put<std::uint64_t>(2);
  w.put<std::int32_t>(2).put<std::int32_t>(1);
  w.key("tokenizer.ggml.tokens", 9).put<std::uint32_t>(8).put<std::uint64_t>(8);
  for (int i = 0; i < 8; ++i) w.text(std::string(static_cast<std::size_t>(i), 'x'));
  std::uint64_t at = 0;
  const auto add = [&](std::string_view name, const std::vector<std::uint64_t>& d, std::uint32_t type,
                       std::uint64_t bytes) {
    w.tensor(name, d, type, at);
    at += (bytes + 31) / 32 * 32;
  };
  add("token_embd.weight", {64, 8}, 8, 544);
  add("blk.0.attn_norm.weight", {64}, 0, 256);
  add("blk.0.attn_v.weight", {64, 32}, 8, 2176);
  add("blk.1.attn_q.weight", {64, 64}, 8, 4352);
  add("blk.1.ffn_up.weight", {64, 128}, 2, 4608);
  add("output_norm.weight", {64}, 0, 256);
  if (!tied) add("output.weight", {64, 8}, 8, 544);
  return w.out;
}

model_shape shape(const std::string& bytes) {
  const auto header = read_gguf(bytes, whole_file);
  EXPECT_TRUE(header) << header.error().message;
  const auto out = shape_of({*header});
  EXPECT_TRUE(out) << out.error().message;
  return *out;
}

TEST(gguf, a_header_becomes_a_models_shape) {
  for (const std::uint32_t version : {2U, 3U}) {
    const auto m = shape(small(false, version));
    EXPECT_EQ(m.architecture, "llama");
    EXPECT_EQ(m.quantization, "Q8_0");
    ASSERT_EQ(m.layers.size(), 2U);
    EXPECT_EQ(m.layers[0].weights.bytes, 256U + 2176);
    EXPECT_EQ(m.layers[1].weights.bytes, 4352U + 4608);
    EXPECT_EQ(m.layers[0].weights.boosted_weights, 64U * 32);
    EXPECT_EQ(m.layers[0].kv_bytes, 2U * (16 + 16) * 2) << "two heads of 16, f16";
    EXPECT_EQ(m.layers[1].kv_bytes, 1U * (16 + 16) * 2) << "a list: a number for each layer";
    EXPECT_EQ(m.embedding.bytes, 544U);
    EXPECT_EQ(m.output.bytes, 256U + 544);
    EXPECT_FALSE(m.tied);
    EXPECT_EQ(m.n_vocab, 8U);
    EXPECT_EQ(m.context, 2048U);
    EXPECT_EQ(m.n_ff, 128U);
    EXPECT_EQ(m.kv_width, 32U);
  }
}

TEST(gguf, without_an_output_the_embeddings_are_it) {
  const auto m = shape(small(true));
  EXPECT_TRUE(m.tied);
  EXPECT_EQ(m.output.bytes, 256U + 544) << "a worker with the output layer gets a copy of them";
  EXPECT_EQ(m.file_bytes(), 544U + 256 + m.layers[0].weights.bytes + m.layers[1].weights.bytes);
}

TEST(gguf, of_experts_only_those_used_are_read) {
  writer w;
  w.begin(3, 7);
  w.key("general.architecture", 8).text("moe");
  w.number("moe.block_count", 1).number("moe.embedding_length", 32).number("moe.context_length", 512);
  w.number("moe.attention.head_count", 1).number("moe.expert_count", 8).number("moe.expert_used_count", 2);
  w.tensor("token_embd.weight", {32, 4}, 0, 0);
  w.tensor("blk.0.ffn_up_exps.weight", {32, 32, 8}, 1, 512);
  w.tensor("blk.0.attn_q.weight", {32, 32}, 1, 512 + 16384);
  const auto m = shape(w.out);
  EXPECT_EQ(m.layers[0].weights.bytes, 16384U + 2048);
  EXPECT_EQ(m.layers[0].read_bytes, 16384U / 4 + 2048);
  EXPECT_EQ(m.n_vocab, 4U) << "without a tokenizer, by the embedding";
}

TEST(gguf, every_cut_is_told_from_a_fault) {
  const auto whole = small();
  for (std::size_t n = 0; n < whole.size(); ++n) {
    const auto got = read_gguf(std::string_view(whole).substr(0, n), whole_file);
    ASSERT_FALSE(got) << n;
    EXPECT_EQ(got.error().code, errc::truncated) << n << ": " << got.error().message;
  }
}

void expect_refused(const std::string& bytes, const std::string& message, std::uint64_t size = whole_file) {
  const auto got = read_gguf(bytes, size);
  ASSERT_FALSE(got) << message;
  EXPECT_EQ(got.error().code, errc::bad_file);
  EXPECT_NE(got.error().message.find(message), std::string::npos) << got.error().message;
}

TEST(gguf, what_is_wrong_is_told_with_its_place) {
  expect_refused("GGMLxxxxxxxxxxxxxxxxxxxxxxxx", "byte 0: found another beginning, expected GGUF");
  expect_refused(writer().begin(0, 0, 1).out, "byte 4: found version 1, expected 2 or 3");
  expect_refused(writer().begin(0, 0, 0x03000000).out, "big-endian");
  expect_refused(writer().begin(~0ULL, 0).out, "byte 8: found 18446744073709551615 tensors");
  expect_refused(writer().begin(0, ~0ULL).out, "byte 16: found 18446744073709551615 values");
  expect_refused(writer().begin(0, 1).key("a", 13).out, "type 13 of \"a\", expected one of 0 to 12");
  expect_refused(writer().begin(0, 1).put(~0ULL).out, "byte 24: found a text of 18446744073709551615 bytes");
  expect_refused(writer().begin(0, 1).key("a", 9).put<std::uint32_t>(10).put(~0ULL).out, "a list of");
  expect_refused(writer().begin(0, 1).key("a", 9).put<std::uint32_t>(99).put(1ULL).out, "list of type 99");
  expect_refused(writer().begin(0, 2).number("a", 1).number("a", 2).out, "\"a\" again");
  expect_refused(writer().begin(1, 0).tensor("t", {32}, 4, 0).out, "type 4 of the tensor \"t\"");
  expect_refused(writer().begin(1, 0).tensor("t\x1b[2J", {32}, 77, 0).out, "type 77 of the tensor \"t?[2J\"");
  expect_refused(writer().begin(1, 0).tensor("t", {33}, 8, 0).out, "rows of 33 in \"t\"");
  expect_refused(writer().begin(1, 0).tensor("t", {0}, 8, 0).out, "no weights");
  expect_refused(writer().begin(1, 0).tensor("t", {}, 8, 0).out, "0 dimensions of \"t\"");
  expect_refused(writer().begin(1, 0).tensor("t", {1, 1, 1, 1, 1}, 0, 0).out, "5 dimensions");
  expect_refused(writer().begin(1, 0).tensor("t", {1ULL << 40U, 1ULL << 40U}, 0, 0).out, "too large");
  expect_refused(writer().begin(1, 0).tensor("t", {32}, 8, 64).out, "offset 64 of \"t\", expected 0");
  expect_refused(writer().begin(1, 0).tensor(std::string(64, 'n'), {32}, 8, 0).out, "a tensor's name");
  expect_refused(writer().begin(1, 0).tensor("t", {1024}, 0, 0).out, "is it downloaded whole?", 1000);
  expect_refused(writer().begin(0, 1).number("general.alignment", 3).out, "a power of two");
}

TEST(gguf, a_list_that_claims_too_much_takes_no_memory) {
  for (const std::uint32_t type : {0U, 8U, 9U, 10U}) {
    writer w;
    w.begin(0, 1).key("a", 9).put(type).put<std::uint64_t>(1ULL << 50U);
    EXPECT_EQ(read_gguf(w.out, whole_file).error().code, errc::truncated);
  }
}

TEST(gguf, a_model_that_lacks_something_says_what) {
  const auto why = [](const writer& w) {
    const auto header = read_gguf(w.out, whole_file);
    EXPECT_TRUE(header) << header.error().message;
    const auto got = shape_of({*header});
    EXPECT_FALSE(got);
    return got.error().message;
  };
  writer none;
  none.begin(0, 0);
  EXPECT_EQ(why(none), "it has no general.architecture");
  writer layers;
  layers.begin(0, 1).key("general.architecture", 8).text("x");
  EXPECT_EQ(why(layers), "it has no x.block_count");
  writer many;
  many.begin(0, 2).key("general.architecture", 8).text("x").number("x.block_count", 100'000);
  EXPECT_NE(why(many).find("found 100000, expected at most 4096"), std::string::npos);
}

}  // namespace
}  // namespace pocketfleet
