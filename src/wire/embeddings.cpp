// Reading the requests, and saying them to an engine.
#include "pocketfleet/wire/embeddings.hpp"

#include <algorithm>

#include "pocketfleet/wire/options.hpp"
#include "request_parts.hpp"

namespace pocketfleet {
namespace {

constexpr engine_mask llama_only = mask_of(engine_kind::llama_server);
constexpr engine_mask ollama_only = mask_of(engine_kind::ollama);

/// Takes engines away, and keeps the reason.
void only(embeddings_request& r, engine_mask those, std::string why) {
  if ((r.engines & ~those) != 0) r.why = std::move(why);
  r.engines &= those;
}

/// The field if it is there and not null; it is taken out of the body.
json take(json& body, const char* name) {
  const auto found = body.find(name);
  if (found == body.end()) return nullptr;
  json value = std::move(*found);
  body.erase(found);
  return value;
}

// ---- inputs

bool is_token(const json& value) {
  return value.is_number_unsigned() && value.get<std::uint64_t>() <= 0x7fffffff;
}

bool is_text(const json& value, embeddings_dialect dialect) {
  return value.is_string() &&
         (dialect != embeddings_dialect::openai || !value.get_ref<const std::string&>().empty());
}

result<void> check_tokens(const json& tokens, const std::string& where) {
  if (tokens.empty()) return bad(where + ": expected at least one token number");
  if (!std::all_of(tokens.begin(), tokens.end(), is_token))
    return bad(where + ": expected token numbers only");
  return {};
}

result<void> read_openai_input(json given, embeddings_request& r) {
  const auto tokens_are_given = [&](const std::string& where) {
    std::string why = where;  // g++ 12, optimising, takes operator+ here for a write past the string's end
    only(r, llama_only, std::move(why.append(": only phones with llama-server take token numbers")));
  };
  if (is_text(given, r.dialect)) {
    r.inputs.push_back(std::move(given));
    return {};
  }
  if (!given.is_array() || given.empty())
    return bad("input: expected a text that is not empty, or an array of at least one");
  if (given.front().is_number()) {  // one input, in tokens
    if (auto good = check_tokens(given, "input"); !good) return good;
    tokens_are_given("input");
    r.inputs.push_back(std::move(given));
    return {};
  }
  for (std::size_t i = 0; i < given.size(); ++i) {
    json& one = given[i];
    const std::string where = "input[" + std::to_string(i) + "]";
    if (one.is_array()) {
      if (auto good = check_tokens(one, where); !good) return good;
      tokens_are_given(where);
    } else if (!is_text(one, r.dialect)) {
      return bad(where + ": expected a text that is not empty, or an array of token numbers");
    }
    r.inputs.push_back(std::move(one));
  }
  return {};
}

result<void> read_ollama_input(json given, embeddings_request& r) {
  const bool old = r.dialect == embeddings_dialect::ollama_prompt;
  if (given.is_null()) return {};
  if (given.is_string()) {
    if (!given.get_ref<const std::string&>().empty()) r.inputs.push_back(std::move(given));
    return {};
  }
  if (old) return bad("prompt: expected a string");
  if (!given.is_array()) return bad("input: expected a string or an array of strings");
  for (std::size_t i = 0; i < given.size(); ++i) {
    const std::string where = "input[" + std::to_string(i) + "]";
    if (!given[i].is_string()) return bad(where + ": expected a string");
    if (given[i].get_ref<const std::string&>().empty())
      only(r, ollama_only, where + ": phones with llama-server take no empty text");
    r.inputs.push_back(std::move(given[i]));
  }
  return {};
}

// ---- the other fields

result<void> read_ollama_options(embeddings_request& r, const embeddings_rules& rules) {
  const auto options = r.rest.find("options");
  if (options == r.rest.end() || options->is_null()) return {};
  if (!options->is_object()) return bad("options: expected an object");
  json kept = json::object();
  for (const auto& [name, value] : options->items()) {
    if (value.is_null()) continue;
    if (reloads_model(name) && !rules.pass_load_options) {
      r.ignored.push_back(name);
      continue;
    }
    only(r, ollama_only, "options: only phones with Ollama take them");
    kept[name] = value;
  }
  if (kept.empty()) {
    r.rest.erase(options);
  } else {
    *options = std::move(kept);
  }
  return {};
}

result<void> read_dimensions(const json& value) {
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > 0 && value.get<std::uint64_t>() <= 65536)
    return {};
  return bad("dimensions: expected a whole number from 1 to 65536");
}

result<void> read_ollama_rest(embeddings_request& r, const embeddings_rules& rules) {
  if (auto options = read_ollama_options(r, rules); !options) return options;
  for (const auto& [name, value] : r.rest.items()) {
    if (value.is_null() || name == "options") continue;
    if (name == "truncate") {
      if (!value.is_boolean()) return bad("truncate: expected true or false");
      // llama-server never shortens a text: it refuses one that is too long.
      if (value.get<bool>()) only(r, ollama_only, "truncate: phones with llama-server do not shorten a text");
    } else if (name == "keep_alive") {
      if (!is_keep_alive(value))
        return bad("keep_alive: expected seconds as a number, or a time with its unit, as \"10m\"");
      if (unloads(value))
        only(r, ollama_only, "keep_alive: phones with llama-server do not unload their model");
    } else if (name == "dimensions") {
      if (auto good = read_dimensions(value); !good) return good;
      only(r, ollama_only, "dimensions: only phones with Ollama take it");
    } else {
      only(r, ollama_only, native_name({}, name) + ": only phones with Ollama are given it");
    }
  }
  return {};
}

result<void> read_openai_rest(embeddings_request& r) {
  if (const json format = take(r.rest, "encoding_format"); !format.is_null()) {
    if (format != "float" && format != "base64")
      return bad("encoding_format: expected \"float\" or \"base64\"");
    r.base64 = format == "base64";
  }
  for (const auto& [name, value] : r.rest.items()) {
    if (value.is_null()) continue;
    if (name == "user") {
      if (!value.is_string()) return bad("user: expected a string");
    } else if (name == "dimensions") {
      if (auto good = read_dimensions(value); !good) return good;
      only(r, ollama_only, "dimensions: only phones with Ollama take it");
    } else {
      only(r, llama_only, native_name({}, name) + ": only phones with llama-server are given it");
    }
  }
  return {};
}

}  // namespace

result<embeddings_request> parse_embeddings(embeddings_dialect dialect, std::string_view body,
                                            const embeddings_rules& rules) {
  auto parsed = read_object(body);
  if (!parsed) return parsed.error();
  embeddings_request r;
  r.dialect = dialect;
  r.rest = std::move(*parsed);
  const json model = take(r.rest, "model");
  if (!model.is_string() || model.get_ref<const std::string&>().empty() ||
      model.get_ref<const std::string&>().size() > 256)
    return bad("model: expected a name");
  r.model = model.get<std::string>();

  const bool openai = dialect == embeddings_dialect::openai;
  json given = take(r.rest, dialect == embeddings_dialect::ollama_prompt ? "prompt" : "input");
  const bool one = !given.is_array() || (openai && !given.empty() && given.front().is_number());
  if (!one && given.size() > rules.most_inputs)
    return bad("input: expected at most " + std::to_string(rules.most_inputs) + " texts");
  auto read = openai ? read_openai_input(std::move(given), r) : read_ollama_input(std::move(given), r);
  if (read) read = openai ? read_openai_rest(r) : read_ollama_rest(r, rules);
  if (!read) return read.error();
  return r;
}

embeddings_query encode_embeddings(const embeddings_request& r, engine_kind engine, std::string_view model,
                                   std::size_t first, std::size_t count) {
  const bool ollama = engine == engine_kind::ollama;
  const bool openai = r.dialect == embeddings_dialect::openai;
  const bool prompt = ollama && r.dialect == embeddings_dialect::ollama_prompt;
  std::string body = R"({"model":)";
  append_json_string(body, model);
  if (prompt) {  // its vectors are not those of /api/embed: they are of any length
    body += R"(,"prompt":)";
    append_json(body, r.inputs[first]);
  } else {
    body += R"(,"input":)";
    for (std::size_t i = first; i < first + count; ++i) {
      body += i == first ? '[' : ',';
      append_json(body, r.inputs[i]);
    }
    body += ']';
  }
  if (!ollama) body += R"(,"encoding_format":"float")";
  for (const auto& [name, value] : r.rest.items()) {
    const bool native = openai != ollama;
    if (!native && (name != "dimensions" || value.is_null())) continue;  // the rest was found to say nothing
    if (!ollama && name == "dimensions") continue;                       // null
    body += ',';
    append_json_string(body, name);
    body += ':';
    append_json(body, value);
  }
  body += '}';
  if (!ollama) return {"/v1/embeddings", std::move(body)};
  return {prompt ? "/api/embeddings" : "/api/embed", std::move(body)};
}

}  // namespace pocketfleet
