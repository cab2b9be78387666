// The words of a group's commands.
#include "group_file.hpp"
#include "plan_commands.hpp"

namespace pocketfleet {
namespace {

/// For a shell elsewhere. Its end of our pipe tells it when it is no longer wanted: SSH hands on no signal,
/// and whatever ends us closes the pipe.
std::string remote(const word_list& words, bool watched) {
  std::string text;
  for (const auto& w : words) text += (text.empty() ? "" : " ") + shell_word(w);
  if (!watched) return text;
  return "trap '' PIPE; exec 3<&0; " + text +
         " </dev/null & p=$!; ( cat <&3 >/dev/null 2>&1; kill -9 $p ) >/dev/null 2>&1 & k=$!; exec 3<&-; "
         "wait "
         "$p; s=$?; kill $k 2>/dev/null; exit $s";
}

word_list wrapped(const group_member_config& m, word_list words, bool watched) {
  word_list out;
  if (!m.environment.empty()) {
    word_list env{"env"};
    env.insert(env.end(), m.environment.begin(), m.environment.end());
    words.insert(words.begin(), env.begin(), env.end());
  }
  if (!m.ssh.empty()) {
    out = m.ssh;
    out.push_back(remote(words, watched));
    return out;
  }
  out = m.prefix;
  out.insert(out.end(), words.begin(), words.end());
  return out;
}

template <class List>
std::string joined(const List& parts) {
  std::string out;
  for (const auto& p : parts) out.append(out.empty() ? "" : ",").append(p);
  return out;
}

const group_member_config& member_of(const group_config& group, std::size_t who) {
  return who < group.workers.size() ? group.workers[who] : group.master;
}

}  // namespace

word_list command_of(const group_config& group, std::size_t who) {
  const auto& m = member_of(group, who);
  word_list words{m.program};
  if (who < group.workers.size()) {
    words.insert(words.end(), {"-H", m.host, "-p", std::to_string(m.port)});
  } else {
    word_list ends;
    word_list split;
    for (const auto& w : group.workers) ends.push_back(w.endpoint());
    for (const unsigned n : group.tensor_split) split.push_back(std::to_string(n));
    words.insert(words.end(), {"-m", group.model, "--host", m.host, "--port", std::to_string(m.port), "--rpc",
                               joined(ends), "-ts", joined(split), "-ngl", std::to_string(group.ngl), "-sm",
                               "layer", "-fit", "off", "--slots"});
    if (group.output_on_master) words.insert(words.end(), {"-ot", "^output\\.weight$=CPU"});
  }
  words.insert(words.end(), m.arguments.begin(), m.arguments.end());
  return wrapped(m, std::move(words), true);
}

word_list version_command_of(const group_config& group, std::size_t who) {
  const auto& m = member_of(group, who);
  return wrapped(m, m.version.empty() ? word_list{m.program, "--version"} : m.version, false);
}

}  // namespace pocketfleet
