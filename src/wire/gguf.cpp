#include "pocketfleet/wire/gguf.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

namespace pocketfleet {
namespace {

constexpr std::uint64_t most_values = 1U << 20U;
constexpr std::uint64_t most_tensors = 1U << 20U;
constexpr std::uint64_t longest_key = 65535;  // the format's own limit
constexpr std::uint64_t longest_name = 63;    // of a tensor: GGML_MAX_NAME with its end
constexpr std::uint64_t most_dimensions = 4;  // GGML_MAX_DIMS
constexpr std::size_t longest_kept_text = 256;
constexpr std::uint64_t longest_kept_list = 4096;
constexpr unsigned deepest_list = 4;
constexpr std::uint64_t default_alignment = 32;

static_assert(std::endian::native == std::endian::little, "values are copied as they stand in the file");

enum value_type : std::uint8_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  text = 8,
  list = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12,
};

/// Bytes of a value; of a text or a list, its least.
std::uint64_t least_bytes(std::uint32_t type) {
  switch (type) {
    case u8:
    case i8:
    case boolean: return 1;
    case u16:
    case i16: return 2;
    case u32:
    case i32:
    case f32: return 4;
    case text:
    case u64:
    case i64:
    case f64: return 8;
    case list: return 12;
    default: return 0;
  }
}

/// A file's words in a message: short, and nothing that steers a terminal.
std::string shown(std::string_view name) {
  std::string out = "\"";
  for (const char c : name.substr(0, 48)) out += c >= ' ' && c < 0x7f && c != '"' ? c : '?';
  return out + (name.size() > 48 ? "...\"" : "\"");
}

/// Thrown inside of this file only: the grammar is nested, and one fault ends it all.
struct fault {
  error what;
};

class reader {
 public:
  explicit reader(std::string_view bytes) : bytes_(bytes) {}

  std::uint64_t at() const { return at_; }

  [[noreturn]] void refuse(std::uint64_t where, const std::string& found, const std::string& expected) const {
    throw fault{error(errc::bad_file,
                      "byte " + std::to_string(where) + ": found " + found + ", expected " + expected)};
  }

  void need(std::uint64_t n) const {
    if (n <= bytes_.size() - at_) return;
    throw fault{error(errc::truncated, "byte " + std::to_string(bytes_.size()) +
                                           ": found the end, expected the rest of the header")};
  }

  template <class T>
  T number() {
    need(sizeof(T));
    T out;
    std::memcpy(&out, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return out;
  }

  std::string_view string(std::uint64_t most, const char* what) {
    const auto begins = at_;
    const auto length = number<std::uint64_t>();
    if (length > most) {
      refuse(begins, "a text of " + std::to_string(length) + " bytes",
             std::string(what) + " of at most " + std::to_string(most));
    }
    need(length);
    const auto out = bytes_.substr(at_, length);
    at_ += length;
    return out;
  }

  void skip(std::uint64_t n) {
    need(n);
    at_ += n;
  }

 private:
  std::string_view bytes_;
  std::uint64_t at_ = 0;
};

constexpr std::uint64_t longest_text = std::uint64_t{1} << 30U;

gguf_value read_scalar(reader& from, std::uint32_t type) {
  switch (type) {
    case u8: return std::uint64_t{from.number<std::uint8_t>()};
    case u16: return std::uint64_t{from.number<std::uint16_t>()};
    case u32: return std::uint64_t{from.number<std::uint32_t>()};
    case u64: return from.number<std::uint64_t>();
    case i8: return std::int64_t{from.number<std::int8_t>()};
    case i16: return std::int64_t{from.number<std::int16_t>()};
    case i32: return std::int64_t{from.number<std::int32_t>()};
    case i64: return from.number<std::int64_t>();
    case f32: return double{from.number<float>()};
    case f64: return from.number<double>();
    case boolean: return from.number<std::uint8_t>() != 0;
    default: return std::string(from.string(longest_text, "a text").substr(0, longest_kept_text));
  }
}

std::optional<std::uint64_t> as_whole(const gguf_value& value) {
  if (const auto* v = std::get_if<std::uint64_t>(&value)) return *v;
  const auto* v = std::get_if<std::int64_t>(&value);
  if (v != nullptr && *v >= 0) return static_cast<std::uint64_t>(*v);
  return std::nullopt;
}

bool is_whole_type(std::uint32_t type) {
  return type <= i32 || type == u64 || type == i64;
}

gguf_list read_list(reader& from, unsigned depth) {
  const auto begins = from.at();
  const auto type = from.number<std::uint32_t>();
  const auto length = from.number<std::uint64_t>();
  const auto least = least_bytes(type);
  if (least == 0) from.refuse(begins, "a list of type " + std::to_string(type), "one of 0 to 12");
  if (type == list && depth == deepest_list) from.refuse(begins, "lists in lists in lists", "no deeper ones");
  if (length > std::numeric_limits<std::uint64_t>::max() / least) {
    from.refuse(begins + 4, "a list of " + std::to_string(length), "one that a file can hold");
  }
  from.need(length * least);
  gguf_list out{length, {}};
  if (is_whole_type(type) && length <= longest_kept_list) {
    for (std::uint64_t i = 0; i < length; ++i) {
      out.numbers.push_back(as_whole(read_scalar(from, type)).value_or(0));
    }
  } else if (type == text) {
    for (std::uint64_t i = 0; i < length; ++i) from.string(longest_text, "a text");
  } else if (type == list) {
    for (std::uint64_t i = 0; i < length; ++i) read_list(from, depth + 1);
  } else {
    from.skip(length * least);
  }
  return out;
}

void read_values(reader& from, std::uint64_t count, gguf_header& into) {
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto begins = from.at();
    std::string key(from.string(longest_key, "a key"));
    const auto type = from.number<std::uint32_t>();
    if (least_bytes(type) == 0) {
      from.refuse(from.at() - 4, "type " + std::to_string(type) + " of " + shown(key), "one of 0 to 12");
    }
    gguf_value value = type == list ? gguf_value(read_list(from, 1)) : read_scalar(from, type);
    if (!into.values.emplace(key, std::move(value)).second) {
      from.refuse(begins, "the key " + shown(key) + " again", "each key once");
    }
  }
}

/// Multiplied, or a fault.
std::uint64_t product(const reader& from, std::uint64_t where, std::uint64_t a, std::uint64_t b) {
  std::uint64_t out = 0;
  if (__builtin_mul_overflow(a, b, &out) || out > std::uint64_t{1} << 62U) {
    from.refuse(where, "dimensions whose product is too large", "a tensor that a file can hold");
  }
  return out;
}

gguf_tensor read_tensor(reader& from) {
  gguf_tensor out;
  out.name = from.string(longest_name, "a tensor's name");
  auto where = from.at();
  const auto dimensions = from.number<std::uint32_t>();
  if (dimensions == 0 || dimensions > most_dimensions) {
    from.refuse(where, std::to_string(dimensions) + " dimensions of " + shown(out.name), "1 to 4");
  }
  where = from.at();
  out.weights = 1;
  for (std::uint32_t i = 0; i < dimensions; ++i) {
    out.dimensions.push_back(from.number<std::uint64_t>());
    if (out.dimensions.back() == 0) from.refuse(where, "no weights in " + shown(out.name), "one or more");
    out.weights = product(from, where, out.weights, out.dimensions.back());
  }
  const auto id = from.number<std::uint32_t>();
  out.type = find_tensor_type(id);
  if (out.type == nullptr) {
    from.refuse(from.at() - 4, "type " + std::to_string(id) + " of the tensor " + shown(out.name),
                "one that is known here (F32 to NVFP4)");
  }
  if (out.dimensions.front() % out.type->block_weights != 0) {
    from.refuse(where, "rows of " + std::to_string(out.dimensions.front()) + " in " + shown(out.name),
                "a multiple of " + std::to_string(out.type->block_weights) + ", as " +
                    std::string(out.type->name) + " has it");
  }
  out.bytes = product(from, where, out.weights / out.type->block_weights, out.type->block_bytes);
  return out;
}

std::uint64_t padded(std::uint64_t bytes, std::uint64_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

void read_tensors(reader& from, std::uint64_t count, std::uint64_t file_bytes, gguf_header& into) {
  const std::uint64_t alignment = into.whole("general.alignment").value_or(default_alignment);
  if (!std::has_single_bit(alignment) || alignment > 1U << 20U) {
    from.refuse(from.at(), "general.alignment " + std::to_string(alignment), "a power of two");
  }
  std::uint64_t data = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    into.tensors.push_back(read_tensor(from));
    const auto& t = into.tensors.back();
    const auto offset = from.number<std::uint64_t>();
    if (offset != data) {
      from.refuse(from.at() - 8, "offset " + std::to_string(offset) + " of " + shown(t.name),
                  std::to_string(data) + ", where the one before it ends");
    }
    if (t.bytes > file_bytes || data > file_bytes - t.bytes) {
      from.refuse(file_bytes, "the end of the file",
                  "the tensor " + shown(t.name) + ": is it downloaded whole?");
    }
    data = padded(data + t.bytes, alignment);
  }
  into.data_begins = padded(from.at(), alignment);
  const std::uint64_t last = into.tensors.empty() ? 0 : into.tensors.back().bytes;
  const std::uint64_t ends = into.data_begins + (data - padded(last, alignment)) + last;
  if (!into.tensors.empty() && ends > file_bytes) {
    from.refuse(file_bytes, "the end of the file",
                std::to_string(ends) + " bytes with all tensors: is it downloaded whole?");
  }
}

gguf_header read_all(reader& from, std::uint64_t file_bytes) {
  if (from.number<std::uint32_t>() != 0x46554747U) from.refuse(0, "another beginning", "GGUF");
  gguf_header out;
  out.version = from.number<std::uint32_t>();
  if (out.version == 0x02000000U || out.version == 0x03000000U) {
    from.refuse(4, "a big-endian file", "a little-endian one");
  }
  if (out.version != 2 && out.version != 3) {
    from.refuse(4, "version " + std::to_string(out.version), "2 or 3");
  }
  const auto tensors = from.number<std::uint64_t>();
  if (tensors > most_tensors) {
    from.refuse(8, std::to_string(tensors) + " tensors", "at most " + std::to_string(most_tensors));
  }
  const auto values = from.number<std::uint64_t>();
  if (values > most_values) {
    from.refuse(16, std::to_string(values) + " values", "at most " + std::to_string(most_values));
  }
  read_values(from, values, out);
  read_tensors(from, tensors, file_bytes, out);
  return out;
}

}  // namespace

std::optional<std::uint64_t> gguf_header::whole(std::string_view key) const {
  const auto found = values.find(key);
  return found == values.end() ? std::nullopt : as_whole(found->second);
}

std::string gguf_header::text(std::string_view key) const {
  const auto found = values.find(key);
  const auto* is_text = found == values.end() ? nullptr : std::get_if<std::string>(&found->second);
  return is_text == nullptr ? std::string{} : *is_text;
}

result<gguf_header> read_gguf(std::string_view bytes, std::uint64_t file_bytes) {
  reader from(bytes);
  try {
    return read_all(from, file_bytes);
  } catch (const fault& f) {
    return f.what;
  }
}

std::uint64_t split_count(const gguf_header& header) {
  return std::max<std::uint64_t>(header.whole("split.count").value_or(1), 1);
}

}  // namespace pocketfleet
