// What a group's supervisor reads from its master by HTTP, and what it says of itself.
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "group_run.hpp"
#include "pocketfleet/app/log.hpp"

namespace pocketfleet {
namespace {

namespace beast = boost::beast;
namespace http = beast::http;

constexpr seconds http_limit{2};
constexpr std::size_t largest_page = std::size_t{1} << 20U;

using stream = beast::basic_stream<asio::ip::tcp, executor>;

std::string_view word_for(group_fault fault) {
  switch (fault) {
    case group_fault::none: return "";
    case group_fault::worker_dead: return "has died";
    case group_fault::worker_frozen:
    case group_fault::master_frozen: return "stands stopped";
    case group_fault::worker_silent: return "does not listen";
    case group_fault::master_dead: return "has died";
    case group_fault::master_stuck:
      return "keeps the master from starting: busy with another, or not reached";
    case group_fault::master_hung: return "is no longer heard by the master";
    case group_fault::link_down: return "cannot be reached: nothing moves, though all are alive";
    case group_fault::version_mismatch:
      return "does not go together with the master: they speak different versions";
  }
  return "";
}

std::string_view state_of(const group_member_state& m) {
  if (m.stopped) return "frozen";
  if (m.runs && m.listens) return "up";
  if (m.runs) return m.ending ? "ending" : "starting";
  return m.lost ? "lost" : "down";
}

json last_lines(const std::deque<std::string>& tail) {
  constexpr std::size_t most = 3;
  json out = json::array();
  for (std::size_t i = tail.size() - std::min(tail.size(), most); i < tail.size(); ++i)
    out.push_back(tail[i]);
  return out;
}

double seconds_since(time_point then) {
  return std::chrono::duration<double>(clock::now() - then).count();
}

}  // namespace

/// A number that changes as soon as a token has come, or a part of a prompt has been read.
void read_slots(const std::string& body, group_look& into) {
  const auto slots = parse_json(body);
  if (!slots || !slots->is_array()) return;
  const auto whole = [](const json& of, const char* key) {
    const auto at = of.find(key);
    return at != of.end() && at->is_number_integer() ? at->get<std::uint64_t>() : std::uint64_t{0};
  };
  constexpr std::uint64_t prime = 1099511628211U;
  for (const json& slot : *slots) {
    if (!slot.is_object()) continue;
    const auto busy = slot.find("is_processing");
    into.busy = into.busy || (busy != slot.end() && *busy == json(true));
    for (const char* key : {"id_task", "n_prompt_tokens_processed"})
      into.progress = (into.progress ^ whole(slot, key)) * prime;
    const auto next = slot.find("next_token");
    if (next == slot.end()) continue;
    const json& one = next->is_array() && !next->empty() ? next->front() : *next;
    if (one.is_object()) into.progress = (into.progress ^ whole(one, "n_decoded")) * prime;
  }
}

/// The status; 0: there is no answer.
task<int> group_supervisor::get(std::string path, std::string& body) {
  stream to(context_.get_executor());
  to.expires_after(http_limit);
  const auto& m = config_.master;
  const std::string host = m.host == "0.0.0.0" ? "127.0.0.1" : m.host;
  const tcp::endpoint where(asio::ip::make_address(host), m.port);
  const auto [refused] = co_await to.async_connect(where, use_result);
  if (refused) co_return 0;
  http::request<http::empty_body> request(http::verb::get, path, 11);
  request.set(http::field::host, host);
  request.set(http::field::connection, "close");
  if (!config_.api_key.empty()) request.set(http::field::authorization, "Bearer " + config_.api_key);
  const auto [unsent, n] = co_await http::async_write(to, request, use_result);
  if (unsent) co_return 0;
  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(largest_page);
  const auto [cut, m2] = co_await http::async_read(to, buffer, parser, use_result);
  if (cut) co_return 0;
  body = parser.get().body();
  co_return static_cast<int>(parser.get().result_int());
}

task<> group_supervisor::serve_status() {
  for (;;) {
    auto [failed, with] = co_await acceptor_.async_accept(use_result);
    if (failed && !acceptor_.is_open()) co_return;
    if (failed) continue;
    asio::co_spawn(context_.get_executor(), answer(std::move(with)), asio::detached);
  }
}

task<> group_supervisor::answer(socket with) {
  stream client(std::move(with));
  client.expires_after(http_limit);
  beast::flat_buffer buffer;
  http::request<http::string_body> request;
  const auto [failed, n] = co_await http::async_read(client, buffer, request, use_result);
  if (failed) co_return;
  http::response<http::string_body> reply(http::status::ok, request.version());
  reply.set(http::field::content_type, "application/json");
  reply.keep_alive(false);
  if (request.method() == http::verb::get) {
    reply.body() = dump_json(status()) + "\n";
  } else {
    reply.result(http::status::method_not_allowed);
  }
  reply.prepare_payload();
  co_await http::async_write(client, reply, use_result);
}

/// Why it does not serve; empty if it does.
std::string group_supervisor::in_words() const {
  if (watch_.usable()) return {};
  if (watch_.fault() == group_fault::master_hung && watch_.whose_fault() == watch_.master())
    return "the master answers nobody";
  if (watch_.fault() != group_fault::none)
    return config_of(watch_.whose_fault()).name + " " + std::string(word_for(watch_.fault()));
  for (std::size_t i = 0; i < members_.size(); ++i) {
    if (watch_.members()[i].stopped) return config_of(i).name + " stands stopped";
  }
  const bool over = watch_.phase() == group_phase::ending || watch_.phase() == group_phase::ended;
  return over ? "it is ended" : "it is starting";
}

void group_supervisor::tell_of_changes() {
  const std::string why = in_words();
  const std::string now = std::string(to_string(watch_.phase())) + ": " + why;
  if (now == told_) return;
  told_ = now;
  log(why.empty() ? log_level::info : log_level::warning, "group",
      {{"name", std::string_view(config_.name)},
       {"state", to_string(watch_.phase())},
       {"fault", to_string(watch_.fault())},
       {"why", std::string_view(why)}});
}

json group_supervisor::status() const {
  json members = json::array();
  for (std::size_t i = 0; i < members_.size(); ++i) {
    const auto& m = watch_.members()[i];
    const auto& c = config_of(i);
    members.push_back({{"name", c.name},
                       {"role", i == watch_.master() ? "master" : "worker"},
                       {"host", c.host},
                       {"port", c.port},
                       {"state", state_of(m)},
                       {"pid", members_[i].pid > 0 ? json(members_[i].pid) : json(nullptr)},
                       {"starts", m.starts},
                       {"failures", m.failures},
                       {"lost", m.lost}});
    // Of one that serves they might tell what it is asked.
    if (!m.listens) members.back()["last_lines"] = last_lines(members_[i].tail);
  }
  for (const auto& name : left_out_)
    members.push_back({{"name", name}, {"role", "worker"}, {"state", "lost"}});
  json events = json::array();
  for (const auto& e : watch_.events()) {
    json one{{"fault", to_string(e.fault)},
             {"member", config_of(e.who).name},
             {"noticed_s_ago", seconds_since(e.noticed)},
             {"healed_after_s", nullptr}};
    if (e.healed) one["healed_after_s"] = std::chrono::duration<double>(*e.healed - e.noticed).count();
    events.push_back(std::move(one));
  }
  std::string_view state = to_string(watch_.phase());
  if (watch_.phase() == group_phase::serving && !watch_.usable()) state = "healing";
  if (watch_.phase() == group_phase::off) state = "starting";
  if (watch_.phase() == group_phase::ending || watch_.phase() == group_phase::ended)
    state = next_ ? "healing" : "ended";
  const bool faulty = watch_.fault() != group_fault::none;
  return {{"group", config_.name},
          {"state", state},
          {"usable", watch_.usable()},
          {"reason", in_words()},
          {"fault", to_string(watch_.fault())},
          {"faulty_member", faulty ? json(config_of(watch_.whose_fault()).name) : json(nullptr)},
          {"since_s", seconds_since(watch_.since())},
          {"left_out", left_out_},
          {"members", std::move(members)},
          {"events", std::move(events)}};
}

}  // namespace pocketfleet
