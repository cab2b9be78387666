// A client's questions answered in its dialect's form, whole or as a stream.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "pocketfleet/service/dispatch.hpp"
#include "pocketfleet/service/ports.hpp"
#include "pocketfleet/wire/answer_form.hpp"
#include "pocketfleet/wire/question.hpp"

namespace pocketfleet {

/// What is to be answered, and how. Lives in the handler's coroutine.
struct serving {
  serving(std::vector<question> asked, std::unique_ptr<answer_form> written)
      : choices(std::move(asked)), form(std::move(written)) {}

  std::vector<question> choices;  ///< one for each answer; taken out when they are asked
  std::unique_ptr<answer_form> form;
  bool stream = false;
  bool use_cache = true;
  bool rescue = true;
  bool patient = false;                        ///< others go first
  std::string session{};                       ///< the conversation's name; only of a single question
  header_list headers{};                       ///< of the response, beside X-Cache and X-Phone
  std::shared_ptr<const kept_answer> known{};  ///< dispatch::again() has it: there are no choices to ask
  const cache_key* text = nullptr;             ///< ask_manner::text
};

/// Answers; every ending, good or bad, is told to the client and noted in the call's record. A stream that is
/// silent for `keepalive` gets a sign of life.
task<> serve(http_call& call, dispatch& runner, serving& what, milliseconds keepalive);

/// The body of a whole answer, for whoever puts several into one response. `r` gets what the books want to
/// know; what.headers tell how it came about.
task<result<std::string>> whole_answer(http_call& call, dispatch& runner, serving& what, request_record& r);

}  // namespace pocketfleet
