// Runs a fuzz target over the files of folders, without libFuzzer and with any compiler:
//
//     fuzz_replay_NAME FOLDER...
//
// What the target finds broken ends the program; the file is named before it is run.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int main(int count, char** arguments) {
  namespace fs = std::filesystem;
  std::vector<fs::path> files;
  for (int i = 1; i < count; ++i) {
    std::error_code unreadable;
    for (const auto& entry : fs::directory_iterator(arguments[i], unreadable)) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
    if (unreadable) {
      std::fprintf(stderr, "%s: %s\n", arguments[i], unreadable.message().c_str());
      return 1;
    }
  }
  std::sort(files.begin(), files.end());
  for (const auto& file : files) {
    std::printf("%s\n", file.filename().c_str());
    std::fflush(stdout);
    std::ifstream in(file, std::ios::binary);
    const std::vector<char> text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    if (!in.is_open() || in.bad()) {
      std::fprintf(stderr, "%s: cannot be read\n", file.c_str());
      return 1;
    }
    // In memory of its own, exactly as long as it is: AddressSanitizer sees a byte read too far.
    const std::vector<std::uint8_t> bytes(text.begin(), text.end());
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  std::printf("%zu inputs\n", files.size());
  return files.empty() ? 1 : 0;
}
