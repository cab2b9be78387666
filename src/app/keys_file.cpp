#include "pocketfleet/app/keys_file.hpp"

#include <set>

#include "config_reader.hpp"
#include "pocketfleet/app/invitation.hpp"
#include "pocketfleet/core/model_name.hpp"
#include "pocketfleet/wire/digest.hpp"
#include "pocketfleet/wire/json_fault.hpp"
#include "private_file.hpp"

namespace pocketfleet {
namespace {

using make = make_setting<api_key>;

constexpr std::size_t largest_keys_file = std::size_t{1} << 20U;
constexpr std::size_t most_keys = 10'000;
constexpr std::size_t most_models = 1000;
constexpr std::size_t digest_digits = 64;
constexpr std::string_view digits = "0123456789abcdef";

void read_name(api_key& into, const place& from) {
  const auto* text = from.value.get_ptr<const std::string*>();
  if (text == nullptr || text->empty() || !is_plain_name(*text, 64))
    return from.refuse("a name of at most 64 printable characters");
  into.terms.name = *text;
}

void read_digest(api_key& into, const place& from) {
  const auto* text = from.value.get_ptr<const std::string*>();
  if (text == nullptr || text->size() != digest_digits ||
      text->find_first_not_of(digits) != std::string::npos) {
    return from.refuse_unseen("the key's SHA-256, 64 digits from 0 to f");
  }
  for (std::size_t i = 0; i < into.digest.size(); ++i) {
    into.digest[i] =
        static_cast<unsigned char>(digits.find((*text)[2 * i]) * 16 + digits.find((*text)[2 * i + 1]));
  }
}

std::string hex(const std::array<unsigned char, 32>& digest) {
  std::string out;
  for (const unsigned char byte : digest) out.append(1, digits[byte >> 4U]).append(1, digits[byte & 15U]);
  return out;
}

void read_models(api_key& into, const place& from) {
  if (!from.value.is_array() || from.value.size() > most_models)
    return from.refuse("an array of at most 1000 models' names");
  for (std::size_t i = 0; i < from.value.size(); ++i) {
    const place at = from.item(i);
    const auto* text = at.value.get_ptr<const std::string*>();
    if (text == nullptr || text->empty() || !is_plain_name(*text, 256)) {
      at.refuse("a model's name");
    } else {
      into.terms.models.push_back(normalized_model(*text));
    }
  }
}

const std::vector<setting<api_key>>& table() {
  static const std::vector<setting<api_key>> all{
      {"name", read_name, [](const api_key& k) { return json(k.terms.name); }},
      {"sha256", read_digest, [](const api_key& k) { return json(hex(k.digest)); }},
      make::choice<key_role>(
          "role", {{"client", key_role::client}, {"admin", key_role::admin}},
          [](auto& k) -> auto& { return k.terms.role; }),
      make::whole(
          "rate_per_minute", 0, 1'000'000, [](auto& k) -> auto& { return k.terms.rate_per_minute; }),
      make::whole(
          "max_concurrency", 0, 100'000, [](auto& k) -> auto& { return k.terms.max_concurrency; }),
      {"models", read_models, [](const api_key& k) { return json(k.terms.models); }},
      make::choice<cache_scope>(
          "cache", {{"shared", cache_scope::shared}, {"own", cache_scope::own}, {"none", cache_scope::none}},
          [](auto& k) -> auto& { return k.terms.cache; }),
  };
  return all;
}

api_key read_key(const place& from) {
  api_key key;
  if (!from.value.is_object()) {
    from.refuse_unseen("an object with a key's name and sha256");
    return key;
  }
  read_object(key, from, table());
  for (const char* needed : {"name", "sha256"}) {
    if (!from.value.contains(needed)) from.mistakes.add(from.path_to(needed), "nothing", "a value");
  }
  return key;
}

void read_document(std::vector<api_key>& into, const place& from) {
  if (!from.value.is_object() || !from.value.contains("keys") || !from.value["keys"].is_array() ||
      from.value.size() != 1) {
    return from.refuse_unseen(R"(an object with "keys", an array)");
  }
  const place list = from.member("keys");
  if (list.value.empty() || list.value.size() > most_keys)
    return list.refuse("at least one key, and at most 10000; \"pocketfleet key new\" makes one");
  std::set<std::string> names;
  std::set<std::array<unsigned char, 32>> digests;
  for (std::size_t i = 0; i < list.value.size() && !list.mistakes.full(); ++i) {
    const place at = list.item(i);
    api_key key = read_key(at);
    if (!key.terms.name.empty() && !names.insert(key.terms.name).second)
      at.mistakes.add(at.path_to("name"), describe(key.terms.name), "a name that no other key has");
    if (!digests.insert(key.digest).second)
      at.mistakes.add(at.path_to("sha256"), "the one of another key", "each key once");
    into.push_back(std::move(key));
  }
}

}  // namespace

keys_or_mistakes read_keys(const std::string& file) {
  keys_or_mistakes out;
  auto text = read_private_file(file, largest_keys_file);
  if (!text) {
    out.wrong.push_back({"", std::move(text.found), std::move(text.expected)});
    return out;
  }
  json document;
  if (auto fault = read_json(text.bytes, document)) {
    out.wrong.push_back({"line " + std::to_string(fault->line) + ", column " + std::to_string(fault->column),
                         fault->what, fault->expected.empty() ? "JSON" : fault->expected});
    return out;
  }
  mistake_list mistakes;
  read_document(out.keys, {document, "", mistakes});
  out.wrong = mistakes.take();
  if (!out.wrong.empty()) out.keys.clear();
  return out;
}

std::string render_keys(const std::vector<api_key>& keys) {
  static const api_key plain;
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const api_key& key : keys) {
    nlohmann::ordered_json one;
    for (const auto& each : table()) {
      json value = each.write(key);
      if (each.key == "name" || each.key == "sha256" || value != each.write(plain))
        one[std::string(each.key)] = value;
    }
    list.push_back(std::move(one));
  }
  nlohmann::ordered_json document;
  document["keys"] = std::move(list);
  return document.dump(2) + '\n';
}

std::string new_api_key() {
  return "pf_" + new_token() + new_token().substr(0, 11);  // 43 letters of 6 bits each
}

}  // namespace pocketfleet
