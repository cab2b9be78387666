# pocketfleet_layer(NAME [LAYERS ...] [LIBRARIES ...])
#
# One library for src/NAME and include/pocketfleet/NAME. The layer's headers are reached through a folder of their own
# in the build tree, so that a target sees the headers of the layers it links and of no other: a wrong include does
# not build.
function(pocketfleet_layer name)
  cmake_parse_arguments(arg "" "" "LAYERS;LIBRARIES" ${ARGN})
  set(root ${CMAKE_BINARY_DIR}/include/${name})
  file(MAKE_DIRECTORY ${root}/pocketfleet)
  file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR}/include/pocketfleet/${name} ${root}/pocketfleet/${name} SYMBOLIC)

  file(GLOB sources CONFIGURE_DEPENDS src/${name}/*.cpp)
  list(FILTER sources EXCLUDE REGEX "/main\\.cpp$")
  add_library(pocketfleet_${name} STATIC ${sources})
  target_include_directories(pocketfleet_${name} PUBLIC ${root})
  list(TRANSFORM arg_LAYERS PREPEND pocketfleet_)
  target_link_libraries(pocketfleet_${name} PUBLIC ${arg_LAYERS} ${arg_LIBRARIES} PRIVATE pocketfleet_flags)

  # What is slow to parse and never changes.
  if(NOT POCKETFLEET_TIDY)
    if("pocketfleet_boost" IN_LIST arg_LIBRARIES)
      target_precompile_headers(pocketfleet_${name} PRIVATE
        <boost/asio.hpp> <boost/beast/core.hpp> <boost/beast/http.hpp> <nlohmann/json.hpp> <string> <vector> <memory>)
    elseif("nlohmann_json::nlohmann_json" IN_LIST arg_LIBRARIES)
      target_precompile_headers(pocketfleet_${name} PRIVATE <nlohmann/json.hpp> <string> <vector> <memory>)
    endif()
  endif()
endfunction()
