# How everything is compiled. Debian 12's g++ 12 is the reference; clang 16 is used for clang-tidy only.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

find_program(CCACHE ccache)
if(CCACHE AND NOT POCKETFLEET_TIDY)
  # Precompiled headers need ccache to look past the time stamps that GCC stores in them.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${CCACHE})
endif()

add_library(pocketfleet_flags INTERFACE)
target_compile_options(pocketfleet_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wold-style-cast -Wimplicit-fallthrough -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12, optimising, takes the inlined operators new and delete of Asio's coroutine frames for a pair that does not match.
  target_compile_options(pocketfleet_flags INTERFACE -Wno-mismatched-new-delete)
endif()

add_compile_options(-fstack-protector-strong)
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  add_compile_options(-fstack-clash-protection -fcf-protection)
  add_compile_definitions(_FORTIFY_SOURCE=2)
  add_link_options(-pie -Wl,-z,relro,-z,now)
  set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1 -DNDEBUG")
elseif(NOT POCKETFLEET_SANITIZE AND NOT POCKETFLEET_TIDY)
  add_compile_definitions(_GLIBCXX_ASSERTIONS)
  set(CMAKE_CXX_FLAGS_DEBUG "-O0 -g1")
endif()
if(POCKETFLEET_SANITIZE)
  set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g1 -fno-omit-frame-pointer")
  add_compile_options(-fsanitize=${POCKETFLEET_SANITIZE})
  add_link_options(-fsanitize=${POCKETFLEET_SANITIZE})
  if(POCKETFLEET_SANITIZE MATCHES "thread")
    add_compile_options(-Wno-tsan)  # g++ says that atomic_thread_fence is not modelled; Asio uses it
  else()
    # g++ 12 with AddressSanitizer sees uninitialised members in coroutine frames that are not.
    add_compile_options(-fno-sanitize-recover=all -Wno-maybe-uninitialized)
  endif()
endif()

if(POCKETFLEET_TIDY)
  find_program(CLANG_TIDY NAMES clang-tidy-19 clang-tidy-16 REQUIRED)
  set(CMAKE_CXX_CLANG_TIDY ${CLANG_TIDY} --quiet --extra-arg=-Wno-unknown-warning-option)
endif()
