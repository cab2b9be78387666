// Walks a JSON document and collects what is wrong with it, each with its path.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "pocketfleet/app/settings.hpp"
#include "pocketfleet/wire/json.hpp"

namespace pocketfleet {

/// What stands in the file, for a message: short, with its type where that is not plain to see.
std::string describe(const json& value);

/// Every mistake, up to a number that a hostile file cannot push into memory.
class mistake_list {
 public:
  static constexpr std::size_t most_listed = 1000;

  void add(std::string path, std::string found, std::string expected);
  bool full() const { return list_.size() >= most_listed; }
  std::size_t size() const { return list_.size(); }
  std::vector<mistake> take();

 private:
  std::vector<mistake> list_;
  std::size_t unlisted_ = 0;
};

/// A file's text as JSON. What is wrong with it, and where, if it is none.
std::optional<mistake> json_mistake(std::string_view text, json& into);

/// A value and the way to it. Lives while the document does.
struct place {
  const json& value;
  std::string path;
  mistake_list& mistakes;

  void refuse(std::string expected) const { mistakes.add(path, describe(value), std::move(expected)); }
  /// Where a secret may have been put by mistake: what is there is not shown, for it would stand in the log.
  void refuse_unseen(std::string expected) const {
    mistakes.add(path, "something else", std::move(expected));
  }
  std::string path_to(std::string_view key) const;
  place member(const std::string& key) const { return {value.at(key), path_to(key), mistakes}; }
  place item(std::size_t i) const { return {value.at(i), path + "[" + std::to_string(i) + "]", mistakes}; }
};

/// One key of an object: its name, how its value is checked and stored, and how it would be written.
template <class T>
struct setting {
  std::string_view key;
  std::function<void(T&, const place&)> read;
  std::function<json(const T&)> write;
};

void refuse_unknown_key(const place& object, const std::string& key, std::vector<std::string_view> known);

/// Reads every member of an object by the table; what is not in the table is a mistake.
template <class T>
void read_object(T& into, const place& object, const std::vector<setting<T>>& table) {
  for (const auto& [key, unused] : object.value.template get_ref<const json::object_t&>()) {
    const auto found =
        std::find_if(table.begin(), table.end(), [&k = key](const auto& s) { return s.key == k; });
    if (found != table.end()) {
      found->read(into, object.member(key));
      continue;
    }
    std::vector<std::string_view> known;
    for (const auto& s : table) known.push_back(s.key);
    refuse_unknown_key(object, key, std::move(known));
  }
}

/// A number without a fraction that is not negative; 2.0 and 2e0 are such numbers too, as in JSON Schema.
std::optional<std::uint64_t> as_whole(const json& value);

/// True for text that may stand in a log line or a label: printable ASCII without quotation marks and
/// backslashes, no space at either end.
bool is_plain_name(std::string_view text, std::size_t longest);

/// A number as people write it: 30, not 30.0.
json number(double value);

std::string one_of(const std::vector<std::string_view>& names);

/// The path of a file; empty for none.
void read_path(std::string& into, const place& from);

/// Makes the entries of a table. `at` gives the field: [](auto& t) -> auto& { return t.field; }
template <class T>
struct make_setting {
  template <class At>
  static setting<T> whole(std::string_view key, std::uint64_t least, std::uint64_t most, At at) {
    return {key,
            [=](T& into, const place& from) {
              const auto v = as_whole(from.value);
              if (!v || *v < least || *v > most) {
                return from.refuse("a whole number from " + std::to_string(least) + " to " +
                                   std::to_string(most));
              }
              auto& field = at(into);
              field = static_cast<std::remove_reference_t<decltype(field)>>(*v);
            },
            [=](const T& of) { return json(at(of)); }};
  }

  template <class At>
  static setting<T> share(std::string_view key, double most, At at) {
    return {key,
            [=](T& into, const place& from) {
              const double v = from.value.is_number() ? from.value.template get<double>() : -1;
              if (v < 0 || v > most) return from.refuse("a number from 0 to " + number(most).dump());
              at(into) = v;
            },
            [=](const T& of) { return json(at(of)); }};
  }

  /// Seconds. A field that counts whole seconds takes only those; others are rounded to their own unit.
  template <class At>
  static setting<T> time(std::string_view key, double least, double most, At at) {
    return {key,
            [=](T& into, const place& from) {
              auto& field = at(into);
              using unit = std::remove_reference_t<decltype(field)>;
              constexpr bool whole_only = std::is_same_v<unit, seconds>;
              const double v = from.value.is_number() ? from.value.template get<double>() : -1;
              if (v < least || v > most || (whole_only && v != std::floor(v))) {
                return from.refuse(
                    (whole_only ? "a whole number of seconds from " : "a number of seconds from ") +
                    number(least).dump() + " to " + number(most).dump());
              }
              field = unit(std::llround(v * unit::period::den / unit::period::num));
            },
            [=](const T& of) { return number(std::chrono::duration<double>(at(of)).count()); }};
  }

  template <class At>
  static setting<T> flag(std::string_view key, At at) {
    return {key,
            [=](T& into, const place& from) {
              if (!from.value.is_boolean()) return from.refuse("true or false");
              at(into) = from.value.template get<bool>();
            },
            [=](const T& of) { return json(at(of)); }};
  }

  /// One of a few words, each with the value that it stands for.
  template <class Value, class At>
  static setting<T> choice(std::string_view key, std::vector<std::pair<std::string_view, Value>> words,
                           At at) {
    return {key,
            [=](T& into, const place& from) {
              std::vector<std::string_view> names;
              for (const auto& [name, value] : words) {
                if (from.value == json(name)) return static_cast<void>(at(into) = Value(value));
                names.push_back(name);
              }
              from.refuse(one_of(names));
            },
            [=](const T& of) {
              for (const auto& [name, value] : words) {
                if (at(of) == value) return json(name);
              }
              return json(nullptr);
            }};
  }
};

}  // namespace pocketfleet
