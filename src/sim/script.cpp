#include "script.hpp"

#include <utility>

#include "text.hpp"

namespace pocketfleet::sim {
namespace {

constexpr double likely = -0.125;

ordered entry(const std::string& token, double logprob, bool llama_server) {
  ordered bytes = ordered::array();
  for (const char c : token) bytes.push_back(static_cast<unsigned char>(c));
  ordered one;
  if (llama_server) {
    const auto ids = tokenize(token);
    one["id"] = ids.empty() ? token_id{0} : ids.front();
  }
  one["token"] = token;
  if (llama_server) one["bytes"] = bytes;  // each engine in its own order
  one["logprob"] = logprob;
  if (!llama_server) one["bytes"] = std::move(bytes);
  return one;
}

}  // namespace

script json_script() {
  return {{"{\"", "answer", "\": \"", "1", " 2", " 3", "\"}"}, {}};
}

script call_script(const json& first_tool) {
  const json& function = member(first_tool, "function");
  return {{"{\"", "n", "\":", " 3", "}"},
          text_member(function.is_object() ? function : first_tool, "name", "unnamed")};
}

script script_for(const json& tools, bool answered, bool wants_json) {
  if (tools.is_array() && !tools.empty() && !answered) return call_script(tools.front());
  return wants_json ? json_script() : script();
}

ordered logprob_entries(const std::vector<std::string>& tokens, unsigned top, bool llama_server) {
  ordered list = ordered::array();
  for (const std::string& token : tokens) {
    ordered one = entry(token, likely, llama_server);
    ordered others = ordered::array();
    for (unsigned i = 0; i < top; ++i) {
      const std::string other = i == 0 ? token : std::string(" ") + static_cast<char>('a' + i % 26);
      others.push_back(entry(other, likely - 3.0 * i, llama_server));
    }
    if (llama_server || top != 0) one["top_logprobs"] = std::move(others);
    list.push_back(std::move(one));
  }
  return list;
}

}  // namespace pocketfleet::sim
