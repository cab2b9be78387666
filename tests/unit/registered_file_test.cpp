// The phones that have joined, as the gateway keeps them.
#include "pocketfleet/app/registered_file.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace pocketfleet {
namespace {

class registered_file_test : public testing::Test {
 protected:
  ~registered_file_test() override { std::filesystem::remove(file); }
  auto read(const std::string& text) {
    std::ofstream(file) << text;
    return read_registered(file);
  }

  const std::string file =
      (std::filesystem::temp_directory_path() / ("registered-" + std::to_string(::getpid()))).string();
};

TEST_F(registered_file_test, reads_what_it_has_written) {
  phone_config plain;
  plain.id = "pf-a";
  plain.name = "a";
  plain.host = "10.0.0.1";
  phone_config changed = plain;
  changed.id = changed.name = "pf-b";
  changed.engine = engine_kind::ollama;
  changed.weight = 1000;
  changed.max_concurrency = 64;
  const auto text = render_registered({plain, changed});
  EXPECT_EQ(text.find("weight"), text.rfind("weight")) << "only where it was changed";
  const auto got = read(text);
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_EQ(*got, (std::vector{plain, changed}));
}

TEST_F(registered_file_test, refuses_numbers_that_no_phone_may_have) {
  const std::string begin = R"({"phones":[{"id":"pf-a","name":"a","host":"10.0.0.1","port":1)";
  EXPECT_TRUE(read(begin + "}]}"));
  for (const char* wrong :
       {R"("weight":0)", R"("weight":1001)", R"("weight":"2")", R"("max_concurrency":65)"})
    EXPECT_FALSE(read(begin + "," + wrong + "}]}")) << wrong;
}

}  // namespace
}  // namespace pocketfleet
