// Bad input of every kind: the program prints one line that names the cause, exits with status 1 and writes nothing.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "engine/io/safetensors.h"
#include "tests/clevr_run.h"
#include "tests/png_file.h"
#include "tests/run_program.h"
#include "tests/tiny_run.h"

namespace mblm::testing {
namespace {

// The program must fail. Its one line, or for a config its lines, one per wrong field, must contain all of `parts`.
void check_refused(const TemporaryFolder& folder, const std::vector<std::string>& arguments, const std::vector<std::string>& parts,
                   const std::string& input = {}) {
  const std::vector<std::string> before = listing(folder.path());
  const ProgramResult result = run_program(arguments, input);
  INFO("error: ", result.err);
  CHECK(result.status == 1);
  CHECK(result.out.empty());
  std::istringstream lines(result.err);
  std::size_t count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    CHECK(line.starts_with("mblm: "));
    CHECK((count == 0 || line.find(".yaml:") != std::string::npos));
  }
  CHECK(count >= 1);
  for (const std::string& part : parts) {
    CAPTURE(part);
    CHECK(result.err.find(part) != std::string::npos);
  }
  CHECK(listing(folder.path()) == before);
}

// Trains with a valid configuration in which `from` is replaced by `to`.
void check_config_refused(const std::string& from, const std::string& to, const std::vector<std::string>& parts) {
  const TemporaryFolder folder;
  const std::string config = prepare_tiny_run(folder);
  folder.write("config.yaml", replaced(tiny_config(folder), from, to));
  CAPTURE(to);
  check_refused(folder, {"train", config}, parts);
}

// Generation from a file with these bytes.
void check_checkpoint_refused(const std::string& bytes, const std::vector<std::string>& parts) {
  const TemporaryFolder folder;
  const std::string path = folder / "model.safetensors";
  folder.write("model.safetensors", bytes);
  std::vector<std::string> all = parts;
  all.push_back(path);
  check_refused(folder, {"generate", path, "--tokens", "1"}, all);
}

std::string checkpoint_bytes() {
  const TemporaryFolder folder;
  save_tiny_model(folder / "model.safetensors", tiny_model);
  return read_file(folder / "model.safetensors");
}

std::string with_header_length(std::string bytes, std::uint64_t length) {
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes;
}

}  // namespace

TEST_CASE("missing files and files of a wrong kind") {
  const TemporaryFolder folder;
  folder.write("empty.yaml", "");
  folder.write("empty.safetensors", "");
  folder.write("notes.txt", "no model");
  std::filesystem::create_directory(folder / "bare");
  for (const char* command : {"train", "info"}) {
    check_refused(folder, {command, folder / "none.yaml"}, {folder / "none.yaml"});
    check_refused(folder, {command, folder / "empty.yaml"}, {folder / "empty.yaml"});
  }
  check_refused(folder, {"train", folder / "bare"}, {folder / "bare"});
  for (const char* command : {"generate", "info"}) {
    check_refused(folder, {command, folder / "none.safetensors"}, {folder / "none.safetensors"});
    check_refused(folder, {command, folder / "empty.safetensors"}, {folder / "empty.safetensors"});
    check_refused(folder, {command, folder / "bare"}, {folder / "bare"});
    check_refused(folder, {command, folder / "notes.txt"}, {folder / "notes.txt"});
  }
  save_tiny_model(folder / "model.safetensors", tiny_model);
  check_refused(folder, {"generate", folder / "model.safetensors", "--prompt-file", folder / "none"}, {folder / "none"});
  check_refused(folder, {"generate", folder / "model.safetensors", "--prompt-file", folder / "bare"}, {folder / "bare"});
}

TEST_CASE("missing, empty and too short data") {
  const TemporaryFolder folder;
  const std::string config = prepare_tiny_run(folder);
  std::filesystem::create_directory(folder / "bare");
  std::filesystem::create_directories(folder / "hollow/train/deep");
  folder.write("empty", "");
  folder.write("short", "too short for a sequence");
  const std::string none = (folder / "none").string();
  check_refused(folder, {"train", config, "io.dataset_dir=" + none},
                {"mblm: io.dataset_dir: expected a file or a folder, " + none + " does not exist; set it on the command line: io.dataset_dir=PATH\n"});
  check_refused(folder, {"train", config, "io.dataset_dir=no/such"}, {"no/such does not exist in " + std::filesystem::current_path().string() + "; "});
  for (const char* data : {"bare", "hollow", "empty", "short"})
    check_refused(folder, {"train", config, "io.dataset_dir=" + (folder / data).string()}, {folder / data});
  save_tiny_model(folder / "model.safetensors", tiny_model);
  check_refused(folder, {"eval", folder / "model.safetensors", "--data", folder / "none"}, {folder / "none"});
}

TEST_CASE("files that a text folder leaves out are reported once") {
  const TemporaryFolder folder;
  const std::string config = prepare_tiny_run(folder), text = (folder / "text").string();
  std::filesystem::rename(folder / "text/train", folder / "text/all");  // one tree, not folders of splits
  folder.write("text/deep/down/none.txt", "");
  const ProgramResult result = run_program({"train", config});
  INFO(result.err);
  CHECK(result.status == 0);
  const std::string warning = "mblm: warning: " + text + ": 1 skipped (empty), e.g. " + text + "/deep/down/none.txt\n";
  const std::size_t at = result.err.find(warning);
  CHECK(at != std::string::npos);
  CHECK(result.err.find("left out", at + warning.size()) == std::string::npos);
  const ProgramResult eval = run_program({"eval", folder / "runs/tiny_1"});
  CHECK(eval.status == 0);
  CHECK(eval.err.starts_with(warning + "mblm: " + text + ": bytes "));
  CHECK(std::count(eval.err.begin(), eval.err.end(), '\n') == 2);
}

TEST_CASE("an empty name of the data") {
  const TemporaryFolder folder;
  check_refused(folder, {"train", prepare_tiny_run(folder), "io.dataset_dir="}, {"io.dataset_dir: expected a file or a folder, got an empty name; "});
}

TEST_CASE("invalid fields that contain line feeds, or that the data or the start check") {
  const TemporaryFolder folder;
  const std::string config = prepare_tiny_run(folder);
  const auto check = [&](const std::string& field, const std::string& error) {
    const ProgramResult result = run_program({"train", config, field});
    CHECK(result.status == 1);
    CHECK(result.err == "mblm: " + error + "\n");
  };
  check("io.dataset_args={a: 1, b: 2}", "io.dataset_args: expected none for data set files, got \"a: 1?b: 2?\"");
  check("io.dataset_id=a\nb", "io.dataset_id: expected one of clevr, files, pg19, pg19masked, got \"a?b\"");
  check("io.run_id=a\n/b", "io.run_id: expected a valid part of a folder name, got \"a?/b\"");
  check("train.batch_size=010", "command line: train.batch_size: expected an integer of at least 1 without leading zeros, got 010");
  check("resume={checkpoint_file: none.pth}", "resume.checkpoint_file: expected a checkpoint, none.pth does not exist");
}

TEST_CASE("a missing split") {
  for (const char* split : {"train", "validation"}) {
    const TemporaryFolder folder;
    const std::string config = prepare_tiny_run(folder), missing = (folder / "text" / split).string();
    std::filesystem::remove_all(missing);
    check_refused(folder, {"train", config, "io.dataset_id=pg19"}, {missing + ": expected a file or a folder, there is none"});
  }
}

TEST_CASE("invalid questions and images") {
  const TemporaryFolder folder;
  const std::string config = prepare_clevr_run(folder), data = (folder / "data").string();
  const auto refused_with = [&](const std::string& name, const std::string& content, const std::string& message) {
    const std::string good = read_file(folder / name);
    folder.write(name, content);
    check_refused(folder, {"train", config}, {(folder / name).string() + ": " + message});
    folder.write(name, good);
  };
  const std::string json = read_file(folder / "data/questions/CLEVR_val_questions.json");
  for (const char* file : {"data/questions/CLEVR_train_questions.json", "data/questions/CLEVR_val_questions.json"})
    refused_with(file, json.substr(0, json.size() / 2), "damaged JSON at byte ");
  for (const std::string image : {"data/images/train/a.png", "data/images/val/a.png"}) {
    refused_with(image, "GIF89a", "expected a PNG image, found another file format");
    refused_with(image, png_file({.depth = 16}, "123456"), "expected an image with up to 8 bits per channel, found 16");
    refused_with(image, png_file({.width = 20000, .height = 20000}, ""), "expected an image of at most 16777216 pixels, found 20000 x 20000");
  }
  check_refused(folder, {"train", config, "params.input_seq_len=16"}, {"question 3: expected a sample of at most input_seq_len 16 ids, found 23"});
  check_refused(folder, {"train", config, "io.dataset_args={target_mode: a, qiqa_loss_mask: [1], colour: 3}"}, {"io.dataset_args"});
  std::filesystem::remove(folder / "data/images/train/a.png");
  check_refused(folder, {"train", config}, {data + "/images/train/a.png: cannot be read: No such file or directory"});
  std::filesystem::remove_all(folder / "data/questions");
  check_refused(folder, {"train", config}, {data + "/questions/CLEVR_train_questions.json: cannot be read: No such file or directory"});
}

TEST_CASE("invalid configurations") {
  check_config_refused("batch_size: 4", "batch_size: 4: 5", {"config.yaml"});
  check_config_refused("train:\n", "train: [\n", {"config.yaml"});
  check_config_refused("batch_size: 4", "batch_sise: 4", {"config.yaml:", "batch_sise"});
  check_config_refused("batch_size: 4", "batch_size: 4\n  batch_size: 8", {"config.yaml:", "batch_size"});
  check_config_refused("  dataset_id: files\n", "", {"config.yaml", "dataset_id"});
  check_config_refused("batch_size: 4", "batch_size: four", {"config.yaml:", "train.batch_size", "four"});
  check_config_refused("batch_size: 4", "batch_size: 1.5", {"config.yaml:", "train.batch_size", "1.5"});
  check_config_refused("batch_size: 4", "batch_size: 0", {"config.yaml:", "train.batch_size", "0"});
  check_config_refused("hidden_dims: [16, 16]", "hidden_dims: wide", {"config.yaml:", "params.hidden_dims", "wide"});
  check_config_refused("seq_lens: [8, 4]", "seq_lens: [8, 4, 2]", {"config.yaml:", "seq_lens"});
  check_config_refused("num_layers: [1, 1]", "num_layers: [1]", {"config.yaml:", "num_layers"});
  check_config_refused("attn_head_dims: 8", "attn_head_dims: 7", {"config.yaml:", "attn_head_dims", "7"});
  check_config_refused("hidden_dims: [16, 16]", "hidden_dims: [16, 15]", {"config.yaml:", "hidden_dims", "15"});
  check_config_refused("dataset_id: files", "dataset_id: filed", {"filed"});
  check_config_refused("- {d_state: 8,", "- {block_type: lstm, d_state: 8,", {"config.yaml:", "block[0].block_type", "lstm"});
}

TEST_CASE("invalid fields on the command line") {
  const TemporaryFolder folder;
  const std::string config = prepare_tiny_run(folder);
  check_refused(folder, {"train", config, "train.batch_sise=4"}, {"batch_sise"});
  check_refused(folder, {"train", config, "train.batch_size=four"}, {"train.batch_size", "four"});
  check_refused(folder, {"train", config, "train.batch_size"}, {"train.batch_size"});
  check_refused(folder, {"train", config, "--device", "cuda:97"}, {"cuda:97"});
}

TEST_CASE("ids outside the vocabulary") {
  const TemporaryFolder folder;
  const std::string config = prepare_tiny_run(folder);
  check_refused(folder, {"train", config, "params.num_tokens=100"}, {"100"});
  save_tiny_model(folder / "model.safetensors", fixed_model);
  check_refused(folder, {"generate", folder / "model.safetensors", "--prompt", "caf\xC3\xA9"}, {"128", "195"});
  check_refused(folder, {"generate", folder / "model.safetensors", "--ban", "128"}, {"128"});
  check_refused(folder, {"generate", folder / "model.safetensors", "--stop-id", "128"}, {"128"});
}

TEST_CASE("a prompt beyond a fixed context") {
  const TemporaryFolder folder;
  save_tiny_model(folder / "model.safetensors", fixed_model);
  check_refused(folder, {"generate", folder / "model.safetensors", "--prompt", "seventeen letters"}, {"16", "17"});
  check_refused(folder, {"generate", folder / "model.safetensors", "--tokens", "17"}, {"16", "17"});
  check_refused(folder, {"generate", folder / "model.safetensors", "--tokens", "3", "-"}, {"16", "200"}, std::string(200, 'a'));
}

TEST_CASE("a model that does not fit into memory") {
  const TemporaryFolder folder;
  const std::string config = prepare_tiny_run(folder);
  check_refused(folder, {"train", config, "params.hidden_dims=[1_000_000_000,16]"}, {"params.hidden_dims", "1000000000"});
  check_refused(folder, {"train", config, "params.hidden_dims=[2_000_000,16]"}, {"memory"});
}

TEST_CASE("an invalid output folder") {
  const TemporaryFolder folder;
  const std::string config = prepare_tiny_run(folder);
  folder.write("occupied", "a file");
  check_refused(folder, {"train", config, "io.output_dir=" + (folder / "occupied").string()}, {folder / "occupied"});
  std::filesystem::create_directories(folder / "runs/tiny_1");
  check_refused(folder, {"train", config}, {folder / "runs/tiny_1"});  // the run's folder exists already
  const std::string longer(300, 'a');
  check_refused(folder, {"train", config, "io.output_dir=" + (folder / "new/deep").string(), "io.name_model=" + longer}, {longer, "cannot create the run folder: "});
  check_refused(folder, {"train", config, "io.output_dir=" + (folder / "new").string() + "/" + longer}, {longer, "cannot create the output folder: "});
  check_refused(folder, {"train", config, "io.output_dir=/proc/runs"}, {"/proc/runs: cannot create the output folder: "});  // also for root
}

TEST_CASE("truncated checkpoints and invalid headers") {
  const std::string good = checkpoint_bytes();
  for (const std::size_t size : {std::size_t{7}, std::size_t{8}, std::size_t{100}, good.size() / 2, good.size() - 1}) check_checkpoint_refused(good.substr(0, size), {});
  check_checkpoint_refused(good + "x", {});
  check_checkpoint_refused("PK\x03\x04" + good, {});  // the magic of another format
  for (const std::uint64_t length : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{good.size()}, std::uint64_t{1} << 40, ~std::uint64_t{0}})
    check_checkpoint_refused(with_header_length(good, length), {});
}

TEST_CASE("checkpoints whose tensors do not match the model") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.safetensors";
  save_tiny_model(path, tiny_model);
  const auto with_tensors = [&](const std::function<void(std::vector<NamedTensor>&)>& change, const std::vector<std::string>& parts) {
    const TemporaryFolder other;
    const SafetensorsFile file(path);
    std::vector<NamedTensor> tensors;
    for (const std::string& name : file.names()) tensors.push_back({name, file.tensor(name)});
    change(tensors);
    write_safetensors(other / "changed.safetensors", tensors, file.metadata());
    check_refused(other, {"generate", other / "changed.safetensors"}, parts);
  };
  const SafetensorsFile file(path);
  const std::string name = file.names().front();
  with_tensors([](auto& tensors) { tensors.erase(tensors.begin()); }, {"changed.safetensors", name});
  with_tensors([](auto& tensors) { tensors.push_back({"surplus", tensors.front().tensor}); }, {"changed.safetensors", "surplus"});
  with_tensors([](auto& tensors) { tensors.front().tensor = zeros(Shape{3, 5}, DType::Float32); }, {"changed.safetensors", name, "(3, 5)"});
  with_tensors([](auto& tensors) { tensors.front().tensor = zeros(tensors.front().tensor.shape(), DType::Int64); }, {"changed.safetensors", name, "int64"});
  write_safetensors(folder / "bare.safetensors", {{"a", zeros(Shape{2}, DType::Float32)}});
  check_refused(folder, {"generate", folder / "bare.safetensors"}, {"bare.safetensors", "config"});
}

}  // namespace mblm::testing
