// The subcommands that talk to a running gateway.
#pragma once

#include <functional>
#include <optional>

namespace CLI {
class App;
}

namespace pocketfleet {

/// Adds them. What comes back runs, after parsing, the one that was given: its exit code; nothing: none was.
std::function<std::optional<int>()> add_client_commands(CLI::App& app);

}  // namespace pocketfleet
