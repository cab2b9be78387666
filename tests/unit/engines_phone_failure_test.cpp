// Responses of phones other than 200.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pocketfleet/engines/codec.hpp"

namespace pocketfleet {
namespace {

using testing::HasSubstr;

TEST(phone_failure, says_what_a_status_means) {
  struct row {
    int status;
    const char* body;
    errc code;
    int passed_on;
  };
  const char* ollama_busy =
      R"({"error":"server busy, please try again.  maximum pending requests exceeded"})";
  const char* llama_loading =
      R"({"error":{"message":"Loading model","type":"unavailable_error","code":503}})";
  const std::vector<row> rows{
      {400, R"({"error":"\"m\" does not support thinking"})", errc::unsupported, 0},
      {400,
       R"({"error":{"code":400,"message":"request (5001 tokens) exceeds","type":"exceed_context_size_error"}})",
       errc::rejected, 400},
      {401, R"({"error":{"message":"Invalid API Key","type":"authentication_error","code":401}})",
       errc::phone_error, 0},
      {403, "", errc::phone_error, 0},
      {404, R"({"error":"model 'x' not found"})", errc::model_missing, 0},
      {408, "", errc::phone_busy, 0},
      {413, "", errc::rejected, 413},
      {422, "", errc::rejected, 422},
      {425, "", errc::phone_busy, 0},
      {429, "", errc::phone_busy, 0},
      {500, R"({"error":"model requires more system memory than is available"})", errc::phone_error, 0},
      {500, R"({"error":"option \"num_predict\" must be of type integer"})", errc::rejected, 400},
      {500, "", errc::phone_error, 0},
      {501, R"({"error":"This server does not support embeddings. Start it with --embeddings"})",
       errc::rejected, 501},
      {502, "<html>", errc::phone_error, 0},
      {503, ollama_busy, errc::phone_busy, 0},
      {503, llama_loading, errc::phone_loading, 0},
      {503, "", errc::phone_busy, 0},
      {504, "", errc::phone_error, 0},
      {599, "", errc::phone_error, 0},
      {201, "", errc::bad_response, 0},
      {204, "", errc::bad_response, 0},
      {302, "", errc::bad_response, 0},
      {304, "", errc::bad_response, 0},
  };
  for (const auto& r : rows) {
    const error e = phone_failure(r.status, r.body);
    EXPECT_EQ(e.code, r.code) << r.status << " " << r.body;
    if (r.code == errc::rejected) {
      EXPECT_EQ(e.status, r.passed_on) << r.status << " " << r.body;
    }
    EXPECT_FALSE(e.message.empty()) << r.status;
  }
}

TEST(phone_failure, passes_the_phones_own_words_on_where_they_are_for_the_client) {
  EXPECT_EQ(phone_failure(400, R"({"error":"\"m\" does not support thinking"})").message,
            "think: \"m\" does not support thinking");
  EXPECT_EQ(phone_failure(400, R"({"error":{"message":"too long"}})").message, "too long");
  EXPECT_THAT(phone_failure(404, R"({"error":"model 'x' not found"})").message, HasSubstr("'x'"));
}

TEST(phone_failure, a_body_of_any_kind_is_no_trouble) {
  for (const std::string body : {"", "{", "null", "[]", "{\"error\":7}", "{\"error\":{\"message\":[]}}",
                                 "<html>\xff", "{\"error\":\"cut of"}) {
    for (const int status : {400, 404, 500, 503})
      EXPECT_FALSE(phone_failure(status, body).message.empty()) << status << body;
  }
}

}  // namespace
}  // namespace pocketfleet
