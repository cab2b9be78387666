// Reading what phones answer, and saying it to the client.
#include <openssl/evp.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>

#include "pocketfleet/wire/embeddings.hpp"
#include "pocketfleet/wire/fast_json.hpp"

namespace pocketfleet {
namespace {

using simdjson::dom::element;

constexpr std::uint64_t most_count = std::uint64_t{1} << 40U;  // what a phone says is not always so

error odd() {
  return {errc::bad_response, "the phone did not answer with an embedding for each input"};
}

std::uint64_t number_at(const element& object, std::string_view name) {
  std::uint64_t value = 0;
  return object[name].get(value) == simdjson::SUCCESS ? std::min(value, most_count) : 0;
}

/// What reads back as the phone's own number.
void append_number(std::string& out, double value) {
  char digits[32];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

/// As IEEE 754 has it, the lowest byte first.
void append_float(std::vector<unsigned char>& out, double value) {
  const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
  for (unsigned shift = 0; shift < 32; shift += 8)
    out.push_back(static_cast<unsigned char>((bits >> shift) & 0xffU));
}

std::string base64_of(const std::vector<unsigned char>& bytes) {
  std::string out((bytes.size() + 2) / 3 * 4 + 1, '\0');  // OpenSSL writes a NUL behind it
  const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()), bytes.data(),
                                     static_cast<int>(bytes.size()));
  out.resize(static_cast<std::size_t>(length));
  return out;
}

/// The vector as the client gets it; its length must be that of those before.
result<std::string> read_vector(const element& given, bool base64, std::size_t& dimensions) {
  simdjson::dom::array numbers;
  if (given.get(numbers) != simdjson::SUCCESS) return odd();
  std::string text = "[";
  std::vector<unsigned char> bytes;
  std::size_t n = 0;
  for (const element each : numbers) {
    double value = 0;
    if (each.get(value) != simdjson::SUCCESS) return odd();
    if (base64) {
      append_float(bytes, value);
    } else {
      if (n != 0) text += ',';
      append_number(text, value);
    }
    ++n;
  }
  if (n == 0 || (dimensions != 0 && n != dimensions)) return odd();
  dimensions = n;
  if (base64) return '"' + base64_of(bytes) + '"';
  return std::move(text) + ']';
}

result<embeddings_part> read_ollama(const element& answer, const embeddings_request& r, std::size_t count) {
  embeddings_part out;
  element one;
  if (r.dialect == embeddings_dialect::ollama_prompt) {
    if (count != 1 || answer["embedding"].get(one) != simdjson::SUCCESS) return odd();
    auto vector = read_vector(one, r.base64, out.dimensions);
    if (!vector) return vector.error();
    out.vectors.push_back(std::move(*vector));
    return out;
  }
  simdjson::dom::array all;
  if (answer["embeddings"].get(all) != simdjson::SUCCESS) return odd();
  for (const element each : all) {
    auto vector = read_vector(each, r.base64, out.dimensions);
    if (!vector) return vector.error();
    out.vectors.push_back(std::move(*vector));
  }
  if (out.vectors.size() != count) return odd();
  out.prompt_tokens = number_at(answer, "prompt_eval_count");
  out.load_time = nanoseconds(number_at(answer, "load_duration"));
  return out;
}

result<embeddings_part> read_openai(const element& answer, const embeddings_request& r, std::size_t count) {
  embeddings_part out;
  out.vectors.resize(count);
  simdjson::dom::array data;
  if (answer["data"].get(data) != simdjson::SUCCESS) return odd();
  std::size_t n = 0;
  for (const element each : data) {
    std::uint64_t index = n;
    if (each["index"].get(index) != simdjson::SUCCESS) index = n;
    ++n;
    element one;
    if (index >= count || !out.vectors[index].empty() || each["embedding"].get(one) != simdjson::SUCCESS)
      return odd();
    auto vector = read_vector(one, r.base64, out.dimensions);
    if (!vector) return vector.error();
    out.vectors[index] = std::move(*vector);
  }
  if (n != count) return odd();
  element usage;
  if (answer["usage"].get(usage) == simdjson::SUCCESS) out.prompt_tokens = number_at(usage, "prompt_tokens");
  return out;
}

}  // namespace

result<embeddings_part> decode_embeddings(const embeddings_request& r, engine_kind engine, std::size_t count,
                                          std::string_view body) {
  const auto document = parse_fast(body);
  if (!document || !document->is_object()) return odd();
  return engine == engine_kind::ollama ? read_ollama(*document, r, count) : read_openai(*document, r, count);
}

std::string render_embeddings(const embeddings_request& r, const std::vector<std::string>& vectors,
                              const embeddings_counts& counts) {
  std::size_t bytes = 256 + r.model.size();
  for (const auto& v : vectors) bytes += v.size() + 64;
  std::string out;
  out.reserve(bytes);
  const auto number = [&](std::string_view before, std::uint64_t value) {
    out.append(before).append(std::to_string(value));
  };
  switch (r.dialect) {
    case embeddings_dialect::openai:
      out += R"({"object":"list","data":[)";
      for (std::size_t i = 0; i < vectors.size(); ++i) {
        out.append(i == 0 ? "" : ",").append(R"({"object":"embedding","embedding":)").append(vectors[i]);
        number(R"(,"index":)", i);
        out += '}';
      }
      out += R"(],"model":)";
      append_json_string(out, r.model);
      number(R"(,"usage":{"prompt_tokens":)", counts.prompt_tokens);
      number(R"(,"total_tokens":)", counts.prompt_tokens);
      out += "}}";
      break;
    case embeddings_dialect::ollama:
      out += R"({"model":)";
      append_json_string(out, r.model);
      out += R"(,"embeddings":[)";
      for (std::size_t i = 0; i < vectors.size(); ++i) out.append(i == 0 ? "" : ",").append(vectors[i]);
      number(R"(],"total_duration":)", static_cast<std::uint64_t>(counts.total_time.count()));
      number(R"(,"load_duration":)", static_cast<std::uint64_t>(counts.load_time.count()));
      number(R"(,"prompt_eval_count":)", counts.prompt_tokens);
      out += '}';
      break;
    case embeddings_dialect::ollama_prompt:
      out.append(R"({"embedding":)").append(vectors.empty() ? "[]" : vectors.front()).append("}");
      break;
  }
  return out;
}

}  // namespace pocketfleet
