// Embeddings of a simulated phone, the same from both engines.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "connection.hpp"
#include "generate.hpp"

namespace pocketfleet::sim {

/// Eight numbers that depend on the text alone, with length 1.
std::vector<double> vector_of(std::string_view text);
std::string base64_of(const std::vector<double>& values);  ///< of 32-bit floats, the low byte first

/// What texts have cost.
struct embedded {
  bool done = false;  ///< otherwise there is nothing more to say: a fault has answered, or the client left
  std::size_t tokens = 0;
  nanoseconds load{0}, total{0};
};

/// Waits for a slot and for the texts to be read, at the rate of a prefill. Counts the request unless it was
/// done: then the caller has yet to answer, and counts. Of `what` only the model and how it is kept matter.
boost::asio::awaitable<embedded> embed(connection& client, const job& what,
                                       const std::vector<std::string>& texts);

}  // namespace pocketfleet::sim
