// What an operator says of a phone while the gateway runs: by the tables that read phones.json.
#include <filesystem>

#include "settings_tables.hpp"

namespace pocketfleet {
namespace {

error all_of(const std::vector<mistake>& mistakes) {
  std::string text;
  for (const auto& m : mistakes) text.append(text.empty() ? "" : "; ").append(to_string(m));
  return {errc::bad_request, std::move(text)};
}

/// Who has a key to the API must not make the gateway read just any file and send it to a host.
bool stays_in_folder(const std::filesystem::path& path) {
  return path.is_relative() &&
         std::none_of(path.begin(), path.end(), [](const auto& p) { return p == ".."; });
}

std::vector<mistake> take_key(phone_config& phone, const std::string& file, const std::string& fleets_key) {
  if (phone.api_key_file.empty()) {
    phone.api_key = fleets_key;
    return {};
  }
  if (file.empty() || !stays_in_folder(phone.api_key_file))
    return {{"api_key_file", describe(json(phone.api_key_file)), "a file in the folder of phones.json"}};
  phone.api_key_file = (std::filesystem::path(file).parent_path() / phone.api_key_file).string();
  auto read = read_token(phone.api_key_file, "api_key_file");
  if (read.wrong) return {std::move(*read.wrong)};
  phone.api_key = std::move(read.token);
  return {};
}

}  // namespace

result<new_phone> parse_new_phone(std::string_view text, const std::string& file,
                                  const std::string& fleets_key) {
  const auto document = parse_json(text);
  if (!document) return document.error();
  mistake_list mistakes;
  new_phone out{read_phone({*document, "", mistakes}), std::string(text)};
  auto wrong = mistakes.take();
  if (wrong.empty()) wrong = take_key(out.config, file, fleets_key);
  if (!wrong.empty()) return all_of(wrong);
  return out;
}

result<phone_change> parse_phone_change(std::string_view text) {
  static const auto table = [] {
    auto some = phone_table();
    std::erase_if(some, [](const auto& s) { return s.key != "weight" && s.key != "max_concurrency"; });
    return some;
  }();
  const auto document = parse_json(text);
  if (!document) return document.error();
  mistake_list mistakes;
  phone_config into;
  const place all{*document, "", mistakes};
  if (!document->is_object() || document->empty()) {
    all.refuse(R"(an object with "weight", "max_concurrency" or both)");
  } else {
    read_object(into, all, table);
  }
  auto wrong = mistakes.take();
  if (!wrong.empty()) return all_of(wrong);
  phone_change out;
  if (document->contains("weight")) out.weight = into.weight;
  if (document->contains("max_concurrency")) out.max_concurrency = into.max_concurrency;
  return out;
}

}  // namespace pocketfleet
