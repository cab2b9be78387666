# Everything comes from Debian's packages; scripts/install_deps.sh names them, docs/architecture.md says why each.
find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
# json converts to everything otherwise, errors among them
target_compile_definitions(nlohmann_json::nlohmann_json INTERFACE JSON_USE_IMPLICIT_CONVERSIONS=0)
find_package(spdlog REQUIRED)
find_package(CLI11 REQUIRED)
find_package(simdjson REQUIRED)
find_library(MIMALLOC mimalloc REQUIRED)

find_library(XXHASH xxhash REQUIRED)
find_path(XXHASH_INCLUDE xxhash.h REQUIRED)
add_library(xxhash UNKNOWN IMPORTED)
set_target_properties(xxhash PROPERTIES IMPORTED_LOCATION ${XXHASH} INTERFACE_INCLUDE_DIRECTORIES ${XXHASH_INCLUDE})

find_library(QRENCODE qrencode REQUIRED)
find_path(QRENCODE_INCLUDE qrencode.h REQUIRED)
add_library(qrencode UNKNOWN IMPORTED)
set_target_properties(qrencode PROPERTIES
  IMPORTED_LOCATION ${QRENCODE} INTERFACE_INCLUDE_DIRECTORIES ${QRENCODE_INCLUDE})

# sd-daemon: what a service tells systemd. Without systemd it does nothing.
find_library(SYSTEMD systemd REQUIRED)
find_path(SYSTEMD_INCLUDE systemd/sd-daemon.h REQUIRED)
add_library(libsystemd UNKNOWN IMPORTED)
set_target_properties(libsystemd PROPERTIES
  IMPORTED_LOCATION ${SYSTEMD} INTERFACE_INCLUDE_DIRECTORIES ${SYSTEMD_INCLUDE})

# Debian's prometheus-cpp config names a civetweb that is not packaged with it; the core library is all we use.
find_path(PROMETHEUS_INCLUDE prometheus/registry.h REQUIRED)
find_library(PROMETHEUS_CORE prometheus-cpp-core REQUIRED)
add_library(prometheus-cpp::core UNKNOWN IMPORTED)
set_target_properties(prometheus-cpp::core PROPERTIES
  IMPORTED_LOCATION ${PROMETHEUS_CORE} INTERFACE_INCLUDE_DIRECTORIES ${PROMETHEUS_INCLUDE})

# Asio and Beast, compiled once.
find_path(BOOST_INCLUDE boost/asio.hpp REQUIRED)
file(STRINGS ${BOOST_INCLUDE}/boost/version.hpp boost_version REGEX "#define BOOST_VERSION ")
string(REGEX MATCH "[0-9]+" boost_version "${boost_version}")
if(boost_version LESS 108100)
  message(FATAL_ERROR "Boost 1.81 or later is needed, found ${boost_version}")
endif()
add_library(pocketfleet_boost STATIC cmake/boost.cpp)
target_include_directories(pocketfleet_boost SYSTEM PUBLIC ${BOOST_INCLUDE})
target_compile_definitions(pocketfleet_boost PUBLIC
  BOOST_ASIO_SEPARATE_COMPILATION BOOST_BEAST_SEPARATE_COMPILATION BOOST_ASIO_NO_DEPRECATED)
# Beast 345 asserts (basic_parser.ipp, n >= 5) where a client sends a last chunk's line end in two parts. Without the
# assertion it reports an error, as it should; with it anybody could end a build that has assertions.
target_compile_definitions(pocketfleet_boost PRIVATE BOOST_DISABLE_ASSERTS)
target_link_libraries(pocketfleet_boost PUBLIC Threads::Threads OpenSSL::SSL)
set_target_properties(pocketfleet_boost PROPERTIES CXX_CLANG_TIDY "")
