// What a group's processes say, and what of it tells of versions that differ.
#include <array>

#include "group_run.hpp"

namespace pocketfleet {
namespace {

constexpr std::size_t lines_kept = 40;
constexpr std::size_t longest_line = 4096;

}  // namespace

std::string trimmed(std::string_view text) {
  while (!text.empty() && (text.back() == '\r' || text.back() == ' ')) text.remove_suffix(1);
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  return std::string(text);
}

task<> group_supervisor::read_output(std::size_t who, std::shared_ptr<output> said) {
  std::array<char, 4096> part{};
  for (;;) {
    const auto [failed, got] = co_await said->from.async_read_some(asio::buffer(part), use_result);
    if (failed) break;
    hear(who, *said, std::string_view(part.data(), got));
  }
  if (!said->line.empty()) note_line(who, std::exchange(said->line, {}));
}

void group_supervisor::hear(std::size_t who, output& said, std::string_view text) {
  for (const char c : text) {
    if (c == '\n' || said.line.size() >= longest_line) note_line(who, std::exchange(said.line, {}));
    if (c != '\n') said.line += c;
  }
}

/// That a process has ended may be known before its last words are read, and they say why.
void group_supervisor::hear_rest(std::size_t who) {
  const auto said = members_[who].said;
  boost::system::error_code failed;
  if (said) said->from.non_blocking(true, failed);
  std::array<char, 4096> part{};
  while (said && !failed) {
    const std::size_t got = said->from.read_some(asio::buffer(part), failed);
    hear(who, *said, std::string_view(part.data(), got));
  }
}

void group_supervisor::note_line(std::size_t who, std::string line) {
  if (who >= members_.size()) return;  // of a group that was larger
  member& m = members_[who];
  if (m.file) m.file << line << std::endl;
  constexpr std::string_view starts = "Starting RPC server";
  if (const auto at = line.find(starts); at != std::string::npos) {
    m.says_it_starts = clock::now();
    if (m.protocol.empty()) m.protocol = trimmed(std::string_view(line).substr(at + starts.size()));
  }
  note_reason(who, line);
  m.tail.push_back(std::move(line));
  if (m.tail.size() > lines_kept) m.tail.pop_front();
}

/// The worker that a line of the master's names by its address; the number of workers: none.
std::size_t group_supervisor::worker_in(const std::string& line) const {
  std::size_t i = 0;
  while (i < watch_.master() && !trimmed(line).ends_with(" " + config_of(i).endpoint())) ++i;
  return i;
}

/// What llama.cpp 0.7.0 says before it ends. Of versions the master often goes without a word, and only tells
/// that shaking hands has failed, and with whom; or, where the answer has not even its length, that the
/// worker has crashed.
void group_supervisor::note_reason(std::size_t who, const std::string& line) {
  const auto says = [&](std::string_view what) { return line.find(what) != std::string::npos; };
  member& m = members_[who];
  if (who != watch_.master()) {
    if (says("client needs upgrade") || says("HELLO request size mismatch") || says("Expected HELLO command"))
      m.last_words = group_cause{group_fault::version_mismatch, who};
    return;
  }
  const std::size_t worker = worker_in(line);
  if (says("RPC server version mismatch") && !m.last_words)
    m.last_words = group_cause{group_fault::version_mismatch, who};
  if (says("RPC handshake failed for") && worker < who)
    m.last_words = group_cause{group_fault::version_mismatch, worker};
  if (says("Failed to connect to") && worker < who)
    m.last_words = group_cause{group_fault::worker_silent, worker};
  m.met_odd_answer = m.met_odd_answer || says("malformed response");
}

/// Why it has ended. A master that is starting and has met an odd answer, though all workers live and no
/// tunnel is between, which would do the same while its far end is away: the version of the one that has said
/// so, or else of nobody in particular.
std::optional<group_cause> group_supervisor::reason_of(std::size_t who) const {
  const bool starting = watch_.phase() == group_phase::master;
  if (who != watch_.master()) return std::nullopt;  // a worker that was refused goes on
  if (!starting) return std::nullopt;
  if (members_[who].last_words) return members_[who].last_words;
  if (!members_[who].met_odd_answer) return std::nullopt;
  group_cause out{group_fault::version_mismatch, who};
  for (std::size_t i = 0; i < who; ++i) {
    if (!watch_.members()[i].runs || !config_of(i).at.empty()) return std::nullopt;
    if (members_[i].last_words || who == 1) out.who = i;
  }
  return out;
}

}  // namespace pocketfleet
