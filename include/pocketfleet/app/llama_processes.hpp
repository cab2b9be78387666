// Real llama-server processes on this machine, for `demo --model`.
#pragma once

#include <string>
#include <vector>

#include "pocketfleet/core/error.hpp"
#include "pocketfleet/core/phone.hpp"

namespace pocketfleet {

/// Children of this process; killed when it is destroyed.
class llama_processes {
 public:
  llama_processes() = default;
  llama_processes(const llama_processes&) = delete;
  llama_processes& operator=(const llama_processes&) = delete;
  ~llama_processes();

  /// Starts `count` of them, on free ports of the loopback interface, with one model. They load it while the
  /// gateway already runs. Errors: there is no llama-server on PATH, or no such file.
  result<std::vector<phone_config>> start(const std::string& model_file, unsigned count);

 private:
  std::vector<int> pids_;
};

}  // namespace pocketfleet
