// Reading OpenAI's /v1/chat/completions and /v1/completions.
#include <algorithm>
#include <array>

#include "pocketfleet/wire/dialects.hpp"
#include "pocketfleet/wire/options.hpp"
#include "request_parts.hpp"

namespace pocketfleet {
namespace {

constexpr std::uint64_t most_choices = 16;
constexpr std::size_t most_prompts = 64;

/// What the gateway itself acts on; not sent on.
constexpr std::array<std::string_view, 4> own_fields{"model", "stream", "stream_options", "n"};

/// About the caller and the account, not about the answer: sent to whom it means something, missed by nobody.
constexpr std::array<std::string_view, 6> side_fields{
    "user", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"};

/// Fields that say nothing when they are false.
constexpr std::array<std::string_view, 3> false_is_nothing{"logprobs", "store", "echo"};

result<void> read_response_format(const json& value, question& q) {
  const json* const type = value.is_object() ? find(value, "type") : nullptr;
  error odd = bad("response_format: expected {\"type\": \"text\", \"json_object\" or \"json_schema\"}");
  if (type == nullptr) return odd;
  if (*type == "text") return {};
  const json* schema = nullptr;
  if (*type == "json_object") {
    q.format = "json";
    schema = find(value, "schema");  // llama-server's addition
  } else if (*type == "json_schema") {
    const json* const named = find(value, "json_schema");
    schema = named != nullptr && named->is_object() ? find(*named, "schema") : nullptr;
    if (schema == nullptr) return bad("response_format.json_schema.schema: expected a JSON Schema object");
  } else {
    return odd;
  }
  if (schema == nullptr) return {};
  if (!schema->is_object()) return bad("response_format.json_schema.schema: expected a JSON Schema object");
  if (auto sound = check_schema(*schema, "response_format"); !sound) return sound;
  q.format = *schema;
  return {};
}

result<void> read_effort(const json& value, question& q) {
  constexpr std::array<std::array<std::string_view, 2>, 5> levels{
      {{"minimal", "low"}, {"low", "low"}, {"medium", "medium"}, {"high", "high"}, {"xhigh", "max"}}};
  if (value == "none") {
    q.think = false;
    return {};
  }
  for (const auto& [theirs, ours] : levels) {
    if (value != theirs) continue;
    q.think = ours;
    return {};
  }
  return bad("reasoning_effort: expected \"none\", \"minimal\", \"low\", \"medium\", \"high\" or \"xhigh\"");
}

result<void> read_tool_fields(const json& body, question& q) {
  const json* const tools = find(body, "tools");
  if (tools != nullptr && !tools->empty()) {
    auto read = read_tools(*tools);
    if (!read) return read.error();
    q.tools = std::move(*read);
    q.resumable = false;
  }
  if (const json* const choice = find(body, "tool_choice")) {
    if (!choice->is_object() && *choice != "none" && *choice != "auto" && *choice != "required")
      return bad("tool_choice: expected \"none\", \"auto\", \"required\" or a tool");
    if (*choice == "none") {
      // Where the engine has no such field the tools are not shown to the model; where it has, they may be.
      q.apart["tools"] = std::exchange(q.tools, json());
    } else if (*choice != "auto") {
      only_native(q, "tool_choice");
    }
  }
  if (body.contains("parallel_tool_calls")) {
    const auto parallel = read_flag(body, "parallel_tool_calls", true);
    if (!parallel) return parallel.error();
    if (!*parallel) only_native(q, "parallel_tool_calls");
    q.apart["parallel_tool_calls"] = *parallel;
  }
  return {};
}

/// {"enable_thinking": true or false} has a neutral form, other settings of the template have none.
void read_template_settings(const json& value, question& q) {
  const json* const thinking =
      value.is_object() && value.size() == 1 ? find(value, "enable_thinking") : nullptr;
  if (thinking != nullptr && thinking->is_boolean()) {
    q.think = *thinking;
  } else if (!is_empty(value)) {
    only_native(q, "chat_template_kwargs");
  }
}

/// Each field of the body is sound and has a neutral form, or is told to be of the dialect only.
result<void> read_fields(const json& body, std::span<const std::string_view> known, question& q) {
  for (const auto& [name, value] : body.items()) {
    if (is_one_of(name, known) || is_one_of(name, own_fields) || is_one_of(name, side_fields)) continue;
    if (value.is_null()) continue;
    if (const auto option = ollama_name(name); !option.empty()) {
      auto read = read_option(option, value);
      if (!read) return bad(name + ": " + read.error().message);
      // The newer name of the two wins.
      if (option != "num_predict" || name == "max_completion_tokens" ||
          !body.contains("max_completion_tokens"))
        q.options[std::string(option)] = std::move(*read);
    } else if (name == "modalities" && value == json::array({"text"})) {
      continue;  // what there is anyway
    } else if (!is_empty(value) && !(value == false && is_one_of(name, false_is_nothing))) {
      only_native(q, native_name({}, name));
    }
  }
  return {};
}

/// What the gateway acts on itself; the rest of the body is what the phone is sent.
result<void> read_own_fields(json& body, generation_request& request, question& q) {
  if (const json* const model = find(body, "model")) {
    auto read = read_model(*model);
    if (!read) return read.error();
    q.model = std::move(*read);
  }
  const auto stream = read_flag(body, "stream", false);
  if (!stream) return stream.error();
  request.stream = *stream;
  if (const json* const options = find(body, "stream_options")) {
    if (!options->is_object()) return bad("stream_options: expected an object");
    const auto usage = read_flag(*options, "include_usage", false);
    if (!usage) return bad("stream_options." + usage.error().message);
    request.include_usage = *usage;
  }
  if (const json* const key = find(body, "prompt_cache_key"); key != nullptr && key->is_string())
    request.session = key->get<std::string>();
  if (const json* const tier = find(body, "service_tier")) request.patient = *tier == "flex";
  return {};
}

result<std::uint64_t> read_count(const json& body) {
  const json* const n = find(body, "n");
  if (n == nullptr) return 1U;
  if (!n->is_number_unsigned() || *n == 0U || n->get<std::uint64_t>() > most_choices)
    return bad("n: expected a whole number from 1 to " + std::to_string(most_choices));
  return n->get<std::uint64_t>();
}

/// The question for each choice: with a seed of its own, or they would all be the same.
void add_choices(generation_request& request, question q, std::uint64_t n) {
  request.each = n;
  const auto seed = q.options.find("seed");
  const bool seeded = seed != q.options.end() && seed->is_number_unsigned();
  for (std::uint64_t i = 0; i + 1 < n; ++i) {
    request.choices.push_back(q);
    if (seeded) q.options["seed"] = q.native["seed"] = (seed->get<std::uint64_t>() + 1) & 0xffffffffU;
  }
  request.choices.push_back(std::move(q));
}

/// What an engine that speaks the dialect is sent.
json native_of(json body) {
  for (const auto name : own_fields) body.erase(std::string(name));
  // Builds of llama-server that know only the older name would go on without an end.
  if (const json* const most = find(body, "max_completion_tokens")) body["max_tokens"] = *most;
  return body;
}

}  // namespace

result<generation_request> parse_openai_chat(std::string_view text) {
  auto body = read_object(text);
  if (!body) return body.error();
  generation_request request;
  question q;
  q.spoken = dialect::openai_chat;
  constexpr std::array<std::string_view, 7> known{"messages",
                                                  "tools",
                                                  "tool_choice",
                                                  "parallel_tool_calls",
                                                  "response_format",
                                                  "reasoning_effort",
                                                  "chat_template_kwargs"};
  if (auto read = read_own_fields(*body, request, q); !read) return read.error();
  if (auto read = read_openai_messages(*body, q); !read) return read.error();
  if (auto read = read_fields(*body, known, q); !read) return read.error();
  if (auto read = read_tool_fields(*body, q); !read) return read.error();
  if (const json* const format = find(*body, "response_format")) {
    if (auto read = read_response_format(*format, q); !read) return read.error();
  }
  if (const json* const effort = find(*body, "reasoning_effort")) {
    if (auto read = read_effort(*effort, q); !read) return read.error();
  }
  if (const json* const settings = find(*body, "chat_template_kwargs")) read_template_settings(*settings, q);
  const auto n = read_count(*body);
  if (!n) return n.error();
  q.native = native_of(std::move(*body));
  add_choices(request, std::move(q), *n);
  return request;
}

result<generation_request> parse_openai_completion(std::string_view text) {
  auto body = read_object(text);
  if (!body) return body.error();
  generation_request request;
  question q;
  q.spoken = dialect::openai_completion;
  q.raw = true;
  constexpr std::array<std::string_view, 2> known{"prompt", "best_of"};
  if (auto read = read_own_fields(*body, request, q); !read) return read.error();
  if (auto read = read_fields(*body, known, q); !read) return read.error();
  if (const json* const best = find(*body, "best_of"); best != nullptr && *best != 1)
    only_native(q, "best_of");
  const json* const prompt = find(*body, "prompt");
  const auto is_tokens = [](const json& value) {
    return value.is_array() && !value.empty() &&
           std::all_of(value.begin(), value.end(), [](const json& t) { return t.is_number_unsigned(); });
  };
  error odd = bad("prompt: expected a string, an array of tokens, or an array of up to " +
                  std::to_string(most_prompts) + " of these");
  if (prompt == nullptr) return odd;
  const bool list = prompt->is_array() && !is_tokens(*prompt);
  json prompts = list ? *prompt : json::array({*prompt});
  if (prompts.empty() || prompts.size() > most_prompts) return odd;
  const auto n = read_count(*body);
  if (!n) return n.error();
  q.native = native_of(std::move(*body));
  for (json& one : prompts) {
    question each = q;
    if (one.is_string()) {
      each.prompt = one.get<std::string>();
    } else if (is_tokens(one)) {
      only_native(each, "prompt");
    } else {
      return odd;
    }
    each.native["prompt"] = std::move(one);
    add_choices(request, std::move(each), *n);
  }
  return request;
}

}  // namespace pocketfleet
