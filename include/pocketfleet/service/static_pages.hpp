// The dashboard's files, as they are part of the program.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "pocketfleet/service/ports.hpp"

namespace pocketfleet {

/// One file; views of what lives as long as the program.
struct static_file {
  std::string_view name;  ///< "app.js"; what it is follows from its ending
  std::string_view bytes;
};

/// `GET /` is the page for browsers, and Ollama's greeting for everybody else; the page's other files are
/// below /ui/. Owned by the application, used from every worker; outlives the workers.
class static_pages {
 public:
  /// `files`: none, and there is only the greeting. Else one of them is index.html.
  explicit static_pages(const std::vector<static_file>& files);

  std::vector<route> routes();

 private:
  struct page {
    std::string_view name;
    std::string_view type;
    std::string_view bytes;
    std::string etag;
  };
  task<> root(http_call& call) const;
  task<> file(http_call& call) const;
  static task<> send(http_call& call, const page& what, bool by_accept);
  const page* find(std::string_view name) const;

  std::vector<page> pages_;
};

}  // namespace pocketfleet
