// Looks at each phone every few seconds: is it there, what is it, what has it.
#pragma once

#include <functional>
#include <memory>
#include <random>
#include <unordered_set>

#include "pocketfleet/core/look_memory.hpp"
#include "pocketfleet/core/phone.hpp"
#include "pocketfleet/service/async.hpp"
#include "pocketfleet/service/desk.hpp"
#include "pocketfleet/service/ports.hpp"
#include "pocketfleet/service/settings.hpp"

namespace pocketfleet {

struct page;

/// Asks only what costs a phone next to nothing and never makes it load a model. Runs on one worker and is
/// used on its thread; shared by its coroutines.
class prober : public std::enable_shared_from_this<prober> {
 public:
  prober(executor where, std::shared_ptr<phone_client> phones, desk& fleet, observer& books,
         const probe_settings& settings);

  /// Begins to look at phones it does not look at yet, at once. Those that are no longer in the fleet end by
  /// themselves.
  void sync();
  void stop();

 private:
  /// What is remembered of a phone between two looks.
  struct memory {
    look_memory looks{};
    std::string reason{};
    unsigned looks_to_inventory = 0;  // 0: this look asks for models and slots
  };

  task<> watch(phone_id id);
  task<> tick();
  task<phone_report> look(std::shared_ptr<const phone_target> phone, memory& m);
  task<phone_report> look_at_ollama(std::shared_ptr<const phone_target> phone, memory& m);
  task<phone_report> look_at_llama_server(std::shared_ptr<const phone_target> phone, memory& m);
  task<std::optional<group_report>> ask_supervisor(const phone_target& phone);
  task<> rest(wait_timer& timer, std::shared_ptr<const phone_target> phone, const memory& m);
  task<> look_at_group(std::shared_ptr<const phone_target> phone, phone_report& found);
  task<result<page>> get(std::shared_ptr<const phone_target> phone, std::string_view target);
  duration until_next_look(const memory& m);
  void conclude(const phone_target& phone, memory& m, const phone_report& found);
  std::shared_ptr<const phone_target> target(phone_id id);
  bool busy(phone_id id);
  bool says_nothing(errc code, phone_id id);

  executor executor_;
  std::shared_ptr<phone_client> phones_;
  desk& desk_;
  observer& observer_;
  const probe_settings settings_;
  std::minstd_rand random_{std::random_device{}()};
  std::unordered_set<phone_id> watched_;
  std::unordered_set<wait_timer*> waits_;
  bool stopped_ = false;
  bool ticking_ = false;
};

}  // namespace pocketfleet
