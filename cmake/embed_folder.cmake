# cmake -D FROM=folder -D TO=file.cpp -D NAME=name -P embed_folder.cmake
#
# Makes a source file that holds the files of a folder as `std::vector<static_file> pocketfleet::NAME()`.
file(GLOB paths ${FROM}/*)
set(arrays "")
set(table "")
set(number 0)
foreach(path ${paths})
  get_filename_component(name ${path} NAME)
  file(READ ${path} bytes HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  string(REGEX REPLACE "(................................................................................)" "\\1\n" bytes "${bytes}")
  string(APPEND arrays "constexpr unsigned char file_${number}[] = {  // ${name}\n${bytes}};\n")
  string(APPEND table "      {\"${name}\", text(file_${number}, sizeof file_${number})},\n")
  math(EXPR number "${number} + 1")
endforeach()
file(WRITE ${TO} "// Made from ${FROM} by cmake/embed_folder.cmake.
#include \"pocketfleet/app/embedded.hpp\"

namespace pocketfleet {
namespace {

${arrays}
std::string_view text(const unsigned char* bytes, std::size_t size) {
  return {reinterpret_cast<const char*>(bytes), size};
}

}  // namespace

std::vector<static_file> ${NAME}() {
  return {
${table}  };
}

}  // namespace pocketfleet
")
