// The phones that `pocketfleet plan` plans with; private to this layer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/app/settings.hpp"
#include "pocketfleet/core/shard_model.hpp"

namespace pocketfleet {

/// A class of phones by its chip. How fast: what others have measured, file by file in docs/groups.md.
struct soc_class {
  std::string_view name;
  double gb_s;       ///< of weights read while it makes tokens, in 1e9 bytes a second
  unsigned threads;  ///< as many as it has large cores
  std::string_view source;
};
const std::vector<soc_class>& soc_classes();

/// One entry of the file. Sizes in megabytes are of 1,048,576 bytes, as `free -m` has them.
struct plan_phone {
  std::string name{};
  std::string host{};
  std::uint64_t ram_mb = 0;
  std::uint64_t free_mb = 0;  ///< 0: not said
  std::string soc{};
  double gb_s = 0;
  double layer_ms = 0;
  double tokens_s = 0;
  std::uint64_t of_model_mb = 0;
  double rtt_ms = 0;
  double up_mbit = 0;
  double down_mbit = 0;
  bool has_link = false;
  bool accepts = true;
  bool may_master = true;
  bool may_work = true;
  unsigned threads = 0;        ///< 0: by the class, or 4
  std::uint16_t rpc_port = 0;  ///< 0: --port
  std::uint16_t http_port = 8080;
  std::string ssh{};  ///< who and where for ssh, as u0_a1@192.168.1.51; empty: the host
  std::uint16_t ssh_port = 8022;
  std::string model_path{};  ///< of the model's file there; empty: its name

  unsigned threads_used() const;
  bool speed_known() const;
  std::string speed_text() const;  ///< where its speed comes from
};

struct loaded_plan_phones {
  std::vector<plan_phone> phones{};
  std::vector<mistake> mistakes{};
};

/// Reads a list of phones, or an object with "phones". What only phones.json has is passed over, so that one
/// file can be both.
loaded_plan_phones load_plan_phones(const std::string& file);
loaded_plan_phones parse_plan_phones(std::string_view text);

/// As the planner takes it.
plan_device as_device(const plan_phone& phone, const model_shape& model);

}  // namespace pocketfleet
