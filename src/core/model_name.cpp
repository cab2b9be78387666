#include "pocketfleet/core/model_name.hpp"

namespace pocketfleet {

std::string normalized_model(std::string_view name) {
  const bool path = name.starts_with('/') || name.ends_with(".gguf");
  std::string out(name);
  if (path) return out;
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  // A colon before the last slash belongs to a registry's port, not to a tag.
  const auto slash = out.rfind('/');
  if (!out.empty() && out.find(':', slash == std::string::npos ? 0 : slash) == std::string::npos)
    out += ":latest";
  return out;
}

}  // namespace pocketfleet
