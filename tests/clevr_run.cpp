#include "tests/clevr_run.h"

#include "engine/error.h"
#include "tests/png_file.h"
#include "tests/tiny_run.h"

namespace mblm::testing {
namespace {

std::string questions_json() {
  constexpr const char* answers[] = {"yes", "no", "3", "cylinder", "large"};
  constexpr const char* functions[] = {"exist", "equal_color", "count", "query_shape", "query_size"};
  std::string list;
  for (std::int64_t i = 0; i < clevr_questions; ++i) {
    list += concat_text(i == 0 ? "" : ", ", R"({"question": "q)", i * 7 % 40, R"(?", "answer": ")", answers[i % 5],
                        R"(", "image_filename": "a.png", "program": [{"function": ")", functions[i % 5], "\"}]}");
  }
  return R"({"questions": [)" + list + "]}";
}

}  // namespace

void write_clevr(const TemporaryFolder& folder, const std::string& name) {
  for (const std::string split : {"train", "val"}) {
    folder.write(name + "/questions/CLEVR_" + split + "_questions.json", questions_json());
    folder.write(name + "/images/" + split + "/a.png", png_file({}, "\x01\x02\x03"));
  }
}

std::string prepare_clevr_run(const TemporaryFolder& folder) {
  write_clevr(folder, "data");
  const std::string text = (folder / "text").string(), data = (folder / "data").string();
  const std::string arguments = "  dataset_args: {target_mode: a, qiqa_loss_mask: [0, 0, 0, 1], eom_token_id: 129}\n";
  folder.write("config.yaml", replaced(replaced(tiny_config(folder), text, data), "dataset_id: files\n", "dataset_id: clevr\n" + arguments));
  return folder / "config.yaml";
}

}  // namespace mblm::testing
