// The model that `pocketfleet plan` plans; private to this layer.
#pragma once

#include <string>

#include "pocketfleet/core/error.hpp"
#include "pocketfleet/core/model_shape.hpp"

namespace pocketfleet {

/// Reads the header of a GGUF file, and of the others if the model is split into several
/// (NAME-00001-of-00003.gguf). Errors: errc::bad_file, with the file.
result<model_shape> load_model_shape(const std::string& file);

}  // namespace pocketfleet
