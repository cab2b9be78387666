// The subcommands; each returns the program's exit code.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pocketfleet/core/api_key.hpp"
#include "pocketfleet/core/model_shape.hpp"

namespace pocketfleet {

inline constexpr int exit_good = 0;
inline constexpr int exit_failed = 1;       ///< the machine says no: the port is taken, ...
inline constexpr int exit_bad_file = 2;     ///< a mistake in the file or on the command line
inline constexpr int exit_unreachable = 3;  ///< no gateway answers
inline constexpr int exit_key = 4;          ///< the gateway wants a key, or another one

struct serve_arguments {
  std::string phones;
  std::string listen;  ///< empty: as the file says
};
int serve(const serve_arguments& arguments);

int check(const std::string& file);

struct invite_arguments {
  std::string phones;
  std::string address;  ///< HOST:PORT where phones reach the gateway; empty: as the file says
  std::string model = "qwen2.5:1.5b";
  bool qr = false;
};
/// Prints how a phone joins; makes the fleet's token if there is none yet.
int invite(const invite_arguments& arguments);

/// The file with the keys of clients: named, or the one that phones.json names.
struct key_arguments {
  std::string file;
  std::string phones;
  api_key made{};        ///< key new: what it may
  std::string name{};    ///< key remove
  bool as_json = false;  ///< key list
};
int key_new(const key_arguments& arguments);
int key_list(const key_arguments& arguments);
int key_remove(const key_arguments& arguments);

/// A GGUF file, or what is known of a model without one.
struct plan_arguments {
  std::string model{};
  model_parameters parameters{};  ///< with 0 layers: the file
  std::string quantization = "Q4_K_M";
  std::string phones{};
  std::string master{};       ///< the phone that is to be the master; empty: whoever is best
  std::uint64_t context = 0;  ///< 0: 4096, or the model's if that is shorter
  std::uint64_t batch = 0;    ///< 0: the largest of a few that fits
  double share = 0.7;
  std::uint16_t port = 50052;
  bool tunnel = false;
  bool probe = false;
  double probe_timeout = 2;  ///< seconds
  bool explain = false;
  bool as_json = false;
};
/// exit_failed: there is no plan that works.
int plan(const plan_arguments& arguments);

/// A group's file: looked at, or its processes started and watched until SIGTERM.
int group_check(const std::string& file);
int group_run(const std::string& file);

struct demo_arguments {
  std::string listen;
  unsigned phones = 4;
  std::string model;  ///< a GGUF file: real llama-server processes instead of simulated phones
};
int demo(const demo_arguments& arguments);

struct sim_arguments {
  unsigned count = 1;
  std::uint16_t base_port = 0;  ///< 0: any free ones
  std::string engine = "ollama";
  std::string model = "qwen2.5:1.5b";
  double decode_rate = 10;
  double prefill_rate = 200;
  unsigned load_ms = 0;
  unsigned slots = 1;
  double gain_of_more = 1;
  bool prompt_cache = true;
  unsigned answer_tokens = 24;
  unsigned context = 4096;
  unsigned reasoning = 0;
  bool embeddings = false;
  bool messages = true;
  bool tools = true;
  std::vector<std::string> other_models{};
};
int sim_phones(const sim_arguments& arguments);

}  // namespace pocketfleet
