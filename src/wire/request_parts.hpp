// What the readers of the dialects have in common; private to this layer.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "pocketfleet/wire/json.hpp"
#include "pocketfleet/wire/question.hpp"

namespace pocketfleet {

error bad(std::string text);

/// The client's own word, if it is short and plain enough to be given back; else empty.
std::string plain_name(std::string_view name);

/// With the known name that was probably meant.
error unknown_field(std::string_view where, std::string_view name, std::span<const std::string_view> known);

/// The field if it is there and not null.
json* find(json& object, std::string_view name);
const json* find(const json& object, std::string_view name);

/// Takes the content.
void add_message(json& messages, const char* role, json& content);

/// A body: one JSON object.
result<json> read_object(std::string_view text);

/// A number of seconds, or Go's notation: "10m", "1h30m", "-1m", "0".
bool is_keep_alive(const json& value);

result<std::string> read_model(const json& value);
result<json> read_images(const json& images, const std::string& where);

/// OpenAI's and Ollama's form is the same.
result<json> read_tools(const json& tools);

/// Engines turn a schema's patterns into grammars by recursion: thousands of brackets end the phone's process
/// (llama.cpp #26600).
result<void> check_schema(const json& schema, const std::string& where);

/// format, think, keep_alive: Ollama's, and ours.
result<void> read_shape(const json& body, question& q);

/// `field` has no neutral form: the question is for engines that speak its dialect. The first that is found
/// is the one that is named.
void only_native(question& q, std::string field);

/// The name of a field for that, if it is plain enough to be given back.
std::string native_name(std::string_view before, std::string_view name);

bool is_one_of(std::string_view name, std::span<const std::string_view> names);
bool is_empty_string(const json& value);  ///< by which Ollama means none
bool is_empty(const json& value);         ///< null, {} or []

/// The messages of OpenAI's chat, in the neutral form.
result<void> read_openai_messages(const json& body, question& q);

/// true or false, if it is there.
result<bool> read_flag(const json& body, const char* name, bool otherwise);

}  // namespace pocketfleet
