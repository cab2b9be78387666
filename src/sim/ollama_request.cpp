#include "ollama_request.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

namespace pocketfleet::sim {
namespace {

enum class option_type : std::uint8_t { integer, real, boolean, strings };
struct option {
  std::string_view name;
  option_type type;
  bool when_loading;  // a change of it means loading the model anew
};

constexpr std::array<option, 20> known_options{{
    {"num_ctx", option_type::integer, true},
    {"num_batch", option_type::integer, true},
    {"num_gpu", option_type::integer, true},
    {"main_gpu", option_type::integer, true},
    {"num_thread", option_type::integer, true},
    {"draft_num_predict", option_type::integer, true},
    {"use_mmap", option_type::boolean, true},
    {"num_keep", option_type::integer, false},
    {"seed", option_type::integer, false},
    {"num_predict", option_type::integer, false},
    {"top_k", option_type::integer, false},
    {"repeat_last_n", option_type::integer, false},
    {"top_p", option_type::real, false},
    {"min_p", option_type::real, false},
    {"typical_p", option_type::real, false},
    {"temperature", option_type::real, false},
    {"repeat_penalty", option_type::real, false},
    {"presence_penalty", option_type::real, false},
    {"frequency_penalty", option_type::real, false},
    {"stop", option_type::strings, false},
}};

std::string type_fault(const option& known, const json& value) {
  std::string must = "option \"" + std::string(known.name) + "\" must be of type ";
  switch (known.type) {
    case option_type::integer: return value.is_number() ? std::string() : must + "integer";
    case option_type::real: return value.is_number() ? std::string() : must + "float32";
    case option_type::boolean: return value.is_boolean() ? std::string() : must + "boolean";
    case option_type::strings: break;
  }
  if (!value.is_array()) return must + "array";
  const bool all = std::all_of(value.begin(), value.end(), [](const json& each) { return each.is_string(); });
  return all ? std::string() : must + "array of strings";
}

refusal read_options(const json& options, ollama_request& into) {
  if (options.is_null()) return {};
  if (!options.is_object())
    return {400,
            "json: cannot unmarshal value into Go struct field .options of type map[string]interface {}"};
  json loading = json::object();
  for (const option& known : known_options) {
    const json& value = member(options, std::string(known.name).c_str());
    if (value.is_null()) continue;
    if (std::string fault = type_fault(known, value); !fault.empty()) return {500, std::move(fault)};
    if (known.when_loading) loading[std::string(known.name)] = value;
  }
  if (const json& limit = member(options, "num_predict"); limit.is_number() && limit >= 1)
    into.limit = static_cast<std::uint64_t>(std::min(limit.get<double>(), 1e9));
  if (const json& stops = member(options, "stop"); stops.is_array())
    for (const json& each : stops) into.stops.push_back(each.get<std::string>());
  if (!loading.empty()) into.load_options = write_json(loading);
  return {};
}

refusal read_keep_alive(const json& value, ollama_request& into) {
  if (value.is_null()) return {};
  nanoseconds time{};
  if (value.is_number()) {
    time = std::chrono::duration_cast<nanoseconds>(
        std::chrono::duration<double>(std::clamp(value.get<double>(), -1.0, 1e9)));
  } else if (value.is_string()) {
    std::string wrong;
    const auto parsed = go_duration(value.get_ref<const std::string&>(), wrong);
    if (!parsed) return {400, wrong};
    time = *parsed;
  } else {
    return {400, "json: cannot unmarshal value into Go struct field .keep_alive of type api.Duration"};
  }
  into.keep = time < nanoseconds(0) ? sim::keep_alive() : sim::keep_alive(time);
  return {};
}

refusal read_messages(const json& messages, ollama_request& into) {
  if (messages.is_null()) return {};
  if (!messages.is_array())
    return {400,
            "json: cannot unmarshal value into Go struct field ChatRequest.messages of type []api.Message"};
  for (const json& each : messages) {
    const json& content = member(each, "content");
    if (!each.is_object() || !(content.is_string() || content.is_null()))
      return {400,
              "json: cannot unmarshal value into Go struct field Message.messages.content of type string"};
    into.messages.push_back({text_member(each, "role"), text_member(each, "content")});
  }
  return {};
}

refusal read_think(const json& think, ollama_request& into) {
  if (think.is_boolean()) {
    into.think = think.get<bool>();
  } else if (think.is_string()) {
    const std::string& level = think.get_ref<const std::string&>();
    if (level != "high" && level != "medium" && level != "low" && level != "max")
      return {400, "invalid think value: \"" + level +
                       "\" (must be \"high\", \"medium\", \"low\", true, or false)"};
    into.think = true;
  } else if (!think.is_null()) {
    return {400, "think must be a boolean or string (\"high\", \"medium\", \"low\", true, or false)"};
  }
  return {};
}

refusal read_format(const json& format, ollama_request& into) {
  into.wants_json = format.is_object() || format == "json";
  if (into.wants_json || format.is_null() || format == "") return {};
  return {500, "invalid format: " + write_json(format) + "; expected \"json\" or a valid JSON Schema object"};
}

refusal read_logprobs(const json& body, ollama_request& into) {
  const json& top = member(body, "top_logprobs");
  into.logprobs = bool_member(body, "logprobs", false);
  if (top.is_null()) return {};
  if (!top.is_number_integer())
    return {400, "json: cannot unmarshal value into Go struct field .top_logprobs of type int"};
  if (top < 0 || top > 20) return {400, "top_logprobs must be between 0 and 20"};
  into.top_logprobs = top.get<unsigned>();
  return {};
}

}  // namespace

refusal read_ollama(std::string_view text, ollama_request& into) {
  if (text.empty()) return {400, "missing request body"};
  auto body = read_json(text);
  if (!body) return {400, "invalid character in request body"};
  if (!body->is_object()) return {400, "json: cannot unmarshal value into Go value of type api.Request"};
  into.body = std::move(*body);
  const json& model = member(into.body, "model");
  if (!model.is_string() && !model.is_null())
    return {400, "json: cannot unmarshal value into Go struct field .model of type string"};
  into.model = text_member(into.body, "model");
  for (const char* name : {"stream", "raw", "logprobs", "_debug_render_only"}) {
    const json& flag = member(into.body, name);
    if (!flag.is_boolean() && !flag.is_null())
      return {400,
              std::string("json: cannot unmarshal value into Go struct field .") + name + " of type bool"};
  }
  into.stream = bool_member(into.body, "stream", true);
  into.raw = bool_member(into.body, "raw", false);
  into.render_only = bool_member(into.body, "_debug_render_only", false);
  if (auto no = read_keep_alive(member(into.body, "keep_alive"), into)) return no;
  if (auto no = read_think(member(into.body, "think"), into)) return no;
  if (auto no = read_messages(member(into.body, "messages"), into)) return no;
  if (auto no = read_format(member(into.body, "format"), into)) return no;
  if (auto no = read_logprobs(into.body, into)) return no;
  return read_options(member(into.body, "options"), into);
}

std::string model_key(std::string_view name) {
  std::string key(name);
  for (char& c : key)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  const std::size_t slash = key.rfind('/');
  if (key.find(':', slash == std::string::npos ? 0 : slash) == std::string::npos) key += ":latest";
  return key;
}

std::optional<nanoseconds> go_duration(std::string_view text, std::string& wrong) {
  constexpr std::array<std::pair<std::string_view, double>, 7> units{
      {{"ns", 1}, {"us", 1e3}, {"µs", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}}};
  const std::string quoted = '"' + std::string(text) + '"';
  const auto invalid = [&] {
    wrong = "time: invalid duration " + quoted;
    return std::nullopt;
  };
  std::string_view rest = text;
  const bool negative = rest.starts_with('-');
  if (negative || rest.starts_with('+')) rest.remove_prefix(1);
  if (rest == "0") return nanoseconds(0);
  if (rest.empty()) return invalid();
  double sum = 0;
  while (!rest.empty()) {
    const std::size_t digits = std::min(rest.find_first_not_of("0123456789."), rest.size());
    double number = 0;
    const auto [end, failed] =
        std::from_chars(rest.data(), rest.data() + digits, number, std::chars_format::fixed);
    if (digits == 0 || failed != std::errc() || end != rest.data() + digits) return invalid();
    rest.remove_prefix(digits);
    const std::size_t letters = std::min(rest.find_first_of("0123456789."), rest.size());
    const std::string_view name = rest.substr(0, letters);
    const auto unit =
        std::find_if(units.begin(), units.end(), [&](const auto& each) { return each.first == name; });
    if (unit == units.end()) {
      wrong = name.empty() ? "time: missing unit in duration " + quoted
                           : "time: unknown unit \"" + std::string(name) + "\" in duration " + quoted;
      return std::nullopt;
    }
    sum += number * unit->second;
    rest.remove_prefix(letters);
  }
  if (sum > 9e18) return invalid();
  const auto whole = static_cast<std::int64_t>(sum);
  return nanoseconds(negative ? -whole : whole);
}

}  // namespace pocketfleet::sim
