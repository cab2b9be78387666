# cmake -D FROM=file -D TO=file.cpp -D NAME=name -P embed.cmake
#
# Makes a source file that holds another file's bytes as `std::string_view pocketfleet::NAME()`.
file(READ ${FROM} bytes HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
string(REGEX REPLACE "(................................................................................)" "\\1\n" bytes "${bytes}")
file(WRITE ${TO} "// Made from ${FROM} by cmake/embed.cmake.
#include \"pocketfleet/app/embedded.hpp\"

namespace pocketfleet {
namespace {

constexpr unsigned char bytes[] = {
${bytes}};

}  // namespace

std::string_view ${NAME}() {
  return {reinterpret_cast<const char*>(bytes), sizeof bytes};
}

}  // namespace pocketfleet
")
