// The program as a user runs it: commands, output streams and exit statuses.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <sstream>
#include <thread>

#include "engine/error.h"
#include "mblm/version.h"
#include "tests/clevr_run.h"
#include "tests/run_program.h"
#include "tests/tiny_run.h"

namespace mblm::testing {
namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }
std::int64_t lines(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

// Runs a training and returns the folder that it printed.
std::string train(const std::string& config, const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments{"train", config};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const ProgramResult result = run_program(arguments);
  INFO(result.err);
  REQUIRE(result.status == 0);
  REQUIRE(lines(result.out) == 1);
  return result.out.substr(0, result.out.size() - 1);
}

// A saved model with random parameters.
struct SavedModel {
  TemporaryFolder folder;
  std::string path = folder / "model.safetensors";
  explicit SavedModel(const char* model = tiny_model) { save_tiny_model(path, model); }
};

ProgramResult generated(const SavedModel& model, std::vector<std::string> more, const std::string& input = {}) {
  more.insert(more.begin(), {"generate", model.path});
  ProgramResult result = run_program(more, input);
  INFO(result.err);
  CHECK(result.status == 0);
  CHECK(result.err.empty());
  return result;
}

void wait_for_file(const std::string& path, RunningProgram& program) {
  for (int i = 0; i < 3000 && !std::filesystem::exists(path) && !program.ended(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  REQUIRE(std::filesystem::exists(path));
}

// Starts a run that would last for hours and sends it a signal after its first checkpoint.
void check_stop(int signal, const char* name) {
  const TemporaryFolder folder;
  RunningProgram program({"train", prepare_tiny_run(folder), "train.target_elements=1_000_000_000"});
  wait_for_file(folder / "runs/tiny_1/checkpoints/best.safetensors", program);
  program.send(signal);
  const ProgramResult result = program.wait();
  INFO(result.err);
  CHECK(result.status == 128 + signal);
  CHECK(result.out.empty());
  CHECK(contains(result.err, concat_text("mblm: stopped by ", name, " after step ")));
  CHECK(run_program({"generate", folder / "runs/tiny_1", "--tokens", "3"}).out.size() == 3);
}

}  // namespace

TEST_CASE("help and version") {
  const ProgramResult version = run_program({"--version"});
  CHECK(version.status == 0);
  CHECK(version.out.starts_with(concat_text("mblm ", MBLM_VERSION, "\n")));
  for (const char* option : {"\ncompiler: ", "\nprocessor: ", "\noneDNN: ", "\nCUDA: ", "\nMPI: "}) CHECK(contains(version.out, option));
  CHECK(version.err.empty());
  for (const std::vector<std::string>& command : {std::vector<std::string>{}, {"train"}, {"resume"}, {"eval"}, {"generate"}, {"embed"}, {"info"}, {"convert"}, {"plot"}}) {
    std::vector<std::string> arguments = command;
    arguments.push_back("--help");
    const ProgramResult help = run_program(arguments);
    CHECK(help.status == 0);
    CHECK(contains(help.out, command.empty() ? "generate" : "Usage: mblm " + command.front()));
    CHECK(help.err.empty());
  }
}

TEST_CASE("help that cannot be written is an error") {
  const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  REQUIRE(full >= 0);
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"--help"}, {"--version"}, {"help"}, {"help", "train"}, {"train", "--help"},
                                                    {"help", "--man"}, {"help", "--bash-completion"}, {"config", "--fields"}}) {
    const ProgramResult result = RunningProgram(arguments, {}, full).wait();
    CHECK(result.status == 1);
    CHECK(result.err == "mblm: standard output: cannot write: No space left on device\n");
  }
  close(full);
}

TEST_CASE("a wrong command line exits with status 2 and one line") {
  using Arguments = std::vector<std::string>;
  for (const Arguments& arguments : {Arguments{}, {"fly"}, {"train"}, {"train", "--fast", "x.yaml"}, {"generate"}, {"generate", "m", "--tokens", "many"},
                                     {"generate", "m", "--top-p", "1.5"}, {"generate", "m", "--format", "hex"}, {"generate", "m", "--prompt", "a", "-"},
                                     {"generate", "m", "--json", "--format", "ids"}, {"generate", "m", "--temperature", "-1"},
                                     {"eval", "m", "--split", "whole"}, {"eval", "m", "--threads", "0"}, {"eval", "m", "--device", "tpu"},
                                     {"embed"}, {"embed", "m", "f", "-o", "hidden.txt"}, {"info"}, {"resume"}, {"resume", "runs/a", "--tokens", "3"}, {"plot"}, {"plot", "runs/a", "--out", "curves.pdf"}}) {
    const ProgramResult result = run_program(arguments);
    INFO(result.err);
    CHECK(result.status == 2);
    CHECK(result.out.empty());
    CHECK(result.err.rfind("mblm: ", 0) == 0);
    CHECK(lines(result.err) == 1);
  }
}

TEST_CASE("a run trains, is evaluated and generates") {
  const TemporaryFolder folder;
  const std::string config = prepare_tiny_run(folder), run = train(config);
  CHECK(run == folder / "runs/tiny_1");
  for (const char* file : {"config.yaml", "loss.csv", "timemem.csv", "train.log", "checkpoints/best.safetensors"})
    CHECK(std::filesystem::file_size(std::filesystem::path(run) / file) > 0);

  const ProgramResult table = run_program({"eval", run});
  CHECK(table.status == 0);
  CHECK(contains(table.out, "bits per byte"));
  const ProgramResult json = run_program({"eval", run, "--split", "validation", "--json"});
  CHECK(json.status == 0);
  CHECK(json.err.empty());
  CHECK(contains(json.out, "\"bits_per_byte\":"));
  CHECK(run_program({"eval", run, "--data", folder / "text", "--split", "validation", "--json"}).out == json.out);
  // A checkpoint alone: its config names no data, and the length is the model's context.
  const std::string file = run + "/checkpoints/best.safetensors";
  CHECK(run_program({"eval", file}).status == 1);
  CHECK(contains(run_program({"eval", file, "--data", folder / "text"}).out, "bits per byte"));
  CHECK(run_program({"generate", run, "--prompt", "the"}).out == run_program({"generate", file, "--prompt", "the"}).out);
}

TEST_CASE("the curves of runs are drawn as text, SVG, PNG and a page") {
  const TemporaryFolder folder;
  const std::string run = train(prepare_tiny_run(folder)), svg = folder / "curves.svg", png = folder / "curves.png", page = folder / "run.html";
  const ProgramResult text = run_program({"plot", run});
  INFO(text.err);
  CHECK(text.status == 0);
  CHECK(contains(text.out, "Bits per byte"));
  CHECK(contains(text.out, "tiny_1"));
  CHECK(run_program({"plot", run, "--text"}).out == text.out);
  CHECK(run_program({"plot", run, run, "--out", svg}).out.empty());
  CHECK(contains(read_file(svg), "Learning rate"));
  const ProgramResult picture = run_program({"plot", run, "--out", png});
  if (contains(run_program({"--version"}).out, "cairo (.png of mblm plot): yes")) {
    CHECK(picture.status == 0);
    CHECK(read_file(png).starts_with("\x89PNG"));
  } else {
    CHECK(picture.status == 1);
    CHECK(picture.err == "mblm: " + png + ": this program was built without cairo, which .png needs; use .svg\n");
    CHECK_FALSE(std::filesystem::exists(png));
  }
  CHECK(run_program({"plot", run, "--html", page}).status == 0);
  CHECK(contains(read_file(page), "target_elements: 64"));
  CHECK(contains(read_file(page), "class=\"made\""));
  for (const std::string& bad : {(folder / "text").string(), (folder / "none").string()}) {
    const ProgramResult result = run_program({"plot", run, bad, "--out", folder / "none.svg"});
    CHECK(result.status == 1);
    CHECK(result.err == "mblm: " + bad + ": expected a run's folder, loss.csv is missing\n");
    CHECK_FALSE(std::filesystem::exists(folder / "none.svg"));
  }
}

TEST_CASE("data that is not text has no perplexity per word") {
  const TemporaryFolder folder;
  const std::string run = train(prepare_tiny_run(folder));
  const auto evaluated = [&](const std::string& content, std::vector<std::string> more = {}) {
    folder.write("data", content);
    std::vector<std::string> arguments{"eval", run, "--data", folder / "data", "--split", "test"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProgramResult result = run_program(arguments);
    INFO(result.err);
    CHECK(result.status == 0);
    CHECK(contains(result.out, more.empty() ? "bits per byte" : "bits_per_byte"));
    return contains(result.out, "word");
  };
  std::string noise, greek;
  for (std::uint32_t i = 0, x = 1; i < 4000; ++i, x = x * 1664525 + 1013904223) noise += static_cast<char>(x >> 24);
  while (greek.size() < 4000) greek += "\xce\xb8\xce\xac\xce\xbb\xce\xb1\xcf\x83\xcf\x83\xce\xb1, ";
  CHECK(evaluated(words(4000)));
  CHECK(evaluated(words(4000), {"--json"}));
  CHECK(evaluated(greek));
  CHECK_FALSE(evaluated(noise));
  CHECK_FALSE(evaluated(noise, {"--json"}));
  CHECK_FALSE(evaluated(std::string(4000, 'A')));  // one word
  CHECK_FALSE(evaluated(words(3600) + noise));     // the split counts, not the file
}

TEST_CASE("a masked language model trains, is evaluated and described, and does not generate") {
  const TemporaryFolder folder;
  prepare_tiny_run(folder);
  const std::string model =
      "  mask_token_id: 256\n"
      "  mblm_config:\n"
      "    {num_tokens: 258, pad_token_id: 257, hidden_dims: [16, 16], seq_lens: [8, 4], num_layers: [1, 1],\n"
      "     block: {attn_head_dims: 8, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: fixed}}\n";
  std::string text = replaced(tiny_config(folder), tiny_model, model);
  text = replaced(replaced(text, "dataset_id: files", "dataset_id: pg19masked"), "batch_size: 4", "batch_size: 4\n  masking_proba: 0.15");
  folder.write("masked.yaml", text);
  const std::string run = train(folder / "masked.yaml"), file = run + "/checkpoints/best.safetensors";
  CHECK(contains(run_program({"eval", run}).out, "accuracy"));
  const ProgramResult json = run_program({"eval", run, "--split", "validation", "--json"});
  CHECK(json.status == 0);
  CHECK(contains(json.out, "\"accuracy\":"));
  CHECK_FALSE(contains(json.out, "perplexity"));
  // The same bytes given with --data are masked at the same positions.
  CHECK(run_program({"eval", run, "--data", folder / "text", "--split", "validation", "--json"}).out == json.out);
  for (const std::string& subject : std::vector<std::string>{run, file, folder / "masked.yaml"})
    CHECK(contains(run_program({"info", subject}).out, "masked language model: mask token 256"));
  const ProgramResult generated = run_program({"generate", run, "--prompt", "the"});
  CHECK(generated.status == 1);
  CHECK(generated.out.empty());
  CHECK(generated.err == "mblm: generate: expected a model that predicts the next byte, got a masked language model\n");
  CHECK(run_program({"eval", file, "--data", folder / "text"}).err ==
        "mblm: " + file + ": not a run's folder, whose config gives the masking probability (train.masking_proba)\n");
}

TEST_CASE("answers to questions are counted by kind of question") {
  const TemporaryFolder folder;
  const std::string run = train(prepare_clevr_run(folder));
  CHECK(contains(read_file(run + "/train.log"), concat_text(" of ", clevr_questions, " answers correct\n")));
  CHECK(contains(read_file(run + "/train.log"), ", expected \""));  // in the samples
  const ProgramResult table = run_program({"eval", run, "--split", "validation"});
  CHECK(table.status == 0);
  for (const char* row : {"question              answers  correct  accuracy\n", "exists                      8 ", "compare_attribute           8 ",
                          "count                       8 ", "query_attribute            16 ", "all                        40 "})
    CHECK(contains(table.out, row));
  CHECK_FALSE(contains(table.out, "perplexity"));
  CHECK_FALSE(contains(table.out, "compare_integer"));
  const ProgramResult json = run_program({"eval", run, "--split", "validation", "--json"});
  CHECK(json.status == 0);
  CHECK(contains(json.out, "\"questions\":{\"answers\":40,\"correct\":"));
  CHECK(contains(json.out, "\"by_kind\":{\"compare_attribute\":{\"answers\":8,\"correct\":"));
  CHECK_FALSE(contains(json.out, "perplexity"));
  write_clevr(folder, "other");  // read with the arguments of the run
  CHECK(run_program({"eval", run, "--split", "validation", "--data", folder / "other", "--json"}).out == json.out);
  CHECK(run_program({"eval", run}).err == "mblm: " + (folder / "data").string() + ": expected a test split, there is none; give another --split\n");
}

TEST_CASE("field overrides on the command line, and JOB_ID") {
  const TemporaryFolder folder;
  const std::string config = prepare_tiny_run(folder);
  const std::string run = train(config, {"io.run_id=two", "train.target_elements=8", "params.num_layers=[1,2]", "--threads", "1"});
  CHECK(run == folder / "runs/tiny_two");
  const std::string saved = read_file(run + "/config.yaml");
  CHECK(contains(saved, "target_elements: 8"));
  CHECK(run_program({"info", run}).status == 0);
  setenv("JOB_ID", "77", 1);
  CHECK(train(config, {"train.target_elements=8"}) == folder / "runs/tiny_77");
  unsetenv("JOB_ID");
}

TEST_CASE("the same seed trains the same model with any number of threads") {
  const TemporaryFolder folder;
  const std::string config = prepare_tiny_run(folder);
  const auto weights = [&](const char* id, const char* threads, const char* seed) {
    const std::string run = train(config, {concat_text("io.run_id=", id), concat_text("train.seed=", seed), "--threads", threads});
    return run_program({"generate", run, "--format", "ids", "--tokens", "24"}).out + run_program({"eval", run, "--json"}).out.substr(run.size() + 12);
  };
  const std::string first = weights("a", "1", "5");
  CHECK(weights("b", "2", "5") == first);
  CHECK(weights("c", "2", "6") != first);
}

TEST_CASE("train, eval, generate and embed in bfloat16, with checkpoints for either precision") {
  const TemporaryFolder folder;
  const std::string config = prepare_tiny_run(folder);
  const std::string narrow = train(config, {"--precision", "bfloat16"}), wide = train(config, {"io.run_id=2", "train.precision=float32"});
  CHECK(contains(read_file(narrow + "/config.yaml"), "precision: bfloat16"));
  CHECK(read_file(narrow + "/checkpoints/best.safetensors").size() == read_file(wide + "/checkpoints/best.safetensors").size());
  CHECK(read_file(narrow + "/checkpoints/best.safetensors") != read_file(wide + "/checkpoints/best.safetensors"));
  // A processor without bfloat16 products is noted, once per command.
  const std::string devices = run_program({"info", "devices"}).out;
  const bool gains = contains(devices.substr(0, devices.find('\n')), "bfloat16 is faster than float32");
  const auto notes = [](const std::string& err) {
    const std::string note = "mblm: bfloat16 is not faster than float32 on this processor";
    const std::size_t at = err.find(note);
    return at == std::string::npos ? 0 : contains(err.substr(at + 1), note) ? 2 : 1;
  };
  for (const std::string precision : {"float32", "bfloat16"}) {
    const ProgramResult trained = run_program({"train", config, "io.run_id=" + precision, "train.precision=" + precision, "--device", "cpu"});
    CHECK(trained.status == 0);
    CHECK(notes(trained.err) == (precision == "bfloat16" && !gains ? 1 : 0));
  }
  std::vector<std::string> evaluations;
  for (const std::string precision : {"float32", "bfloat16"}) {
    const ProgramResult result = run_program({"eval", narrow, "--precision", precision, "--device", "cpu", "--json"});
    CHECK(result.status == 0);
    CHECK(notes(result.err) == (precision == "bfloat16" && !gains ? 1 : 0));
    evaluations.push_back(result.out);
    CHECK(run_program({"generate", wide, "--precision", precision, "--tokens", "5"}).out.size() == 5);
    CHECK(run_program({"embed", wide, "--precision", precision}, "some text").status == 0);
  }
  CHECK(evaluations[0] != evaluations[1]);
  const ProgramResult wrong = run_program({"eval", narrow, "--precision", "float16"});
  CHECK(wrong.status == 2);
  CHECK(contains(wrong.err, "float16"));
}

TEST_CASE("an interrupted run finishes its step and keeps its checkpoints") {
  check_stop(SIGINT, "SIGINT");
  check_stop(SIGTERM, "SIGTERM");
  check_stop(SIGHUP, "SIGHUP");
  check_stop(SIGUSR1, "SIGUSR1");
}

TEST_CASE("the same seed generates the same bytes, another seed different ones") {
  const SavedModel model;
  const std::vector<std::string> options{"--prompt", "the sea", "--tokens", "40", "--temperature", "1", "--seed"};
  const auto with_seed = [&](const char* seed) {
    std::vector<std::string> all = options;
    all.push_back(seed);
    return generated(model, all).out;
  };
  CHECK(with_seed("3").size() == 40);
  CHECK(with_seed("3") == with_seed("3"));
  CHECK(with_seed("3") != with_seed("4"));
}

TEST_CASE("the prompt may come from the command line, a file or standard input") {
  const SavedModel model;
  model.folder.write("prompt", "sea\n");
  const std::string expected = generated(model, {"--prompt", "sea\n"}).out;
  CHECK(expected.size() == 28);  // a context of 32
  CHECK(generated(model, {"--prompt-file", model.folder / "prompt"}).out == expected);
  CHECK(generated(model, {"-"}, "sea\n").out == expected);
  CHECK(generated(model, {}).out.size() == 32);
}

TEST_CASE("raw, ids and JSON output agree") {
  const SavedModel model;
  const std::vector<std::string> same{"--prompt", "a", "--tokens", "12", "--count", "3", "--seed", "9"};
  const auto as = [&](std::vector<std::string> more) {
    more.insert(more.begin(), same.begin(), same.end());
    return generated(model, more).out;
  };
  const std::string raw = as({}), ids = as({"--format", "ids"}), json = as({"--json"});
  CHECK(raw.size() == 36);
  CHECK(lines(ids) == 3);
  CHECK(lines(json) == 3);
  std::istringstream numbers(ids);
  for (const char byte : raw) {
    int id = -1;
    numbers >> id;
    CHECK(id == static_cast<unsigned char>(byte));
  }
  CHECK(json.rfind("{\"prompt\":\"a\",\"ids\":[", 0) == 0);
  CHECK(raw.substr(0, 12) != raw.substr(12, 12));  // each continuation has its own random numbers
}

TEST_CASE("stop and ban") {
  const SavedModel model;
  const std::string first = generated(model, {"--format", "ids", "--tokens", "1"}).out;
  const std::string id = first.substr(0, first.size() - 1);
  CHECK(generated(model, {"--format", "ids", "--tokens", "20", "--stop-id", id}).out == first);
  CHECK(generated(model, {"--format", "ids", "--tokens", "1", "--ban", id}).out != first);
}

TEST_CASE("generation ends without a message when the pipe is closed") {
  const SavedModel model;
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  RunningProgram program({"generate", model.path, "--tokens", "100000"}, {}, ends[1]);
  close(ends[1]);
  char byte = 0;
  CHECK(read(ends[0], &byte, 1) == 1);  // bytes arrive during generation
  close(ends[0]);
  const ProgramResult result = program.wait();
  CHECK(result.status == 0);
  CHECK(result.err.empty());
}

TEST_CASE("info") {
  const TemporaryFolder folder;
  const std::string config = prepare_tiny_run(folder);
  save_tiny_model(folder / "model.safetensors", tiny_model);
  const ProgramResult of_config = run_program({"info", config}), of_model = run_program({"info", folder / "model.safetensors"});
  CHECK(of_config.status == 0);
  CHECK(contains(of_config.out, "mamba2"));
  CHECK(contains(of_config.out, "transformer"));
  CHECK(of_model.status == 0);
  CHECK(contains(of_model.out, "transformer"));
  const ProgramResult wider = run_program({"info", config, "params.hidden_dims=[64,32]", "train.batch_size=5", "io.output_dir=elsewhere"});
  CHECK(wider.status == 0);
  CHECK(wider.out != of_config.out);
  CHECK(contains(wider.out, "backward pass of 5 x "));
  CHECK(contains(run_program({"info", config, "train.batchsize=5"}).err, "train.batchsize"));
  CHECK(run_program({"info", "devices", "train.batch_size=5"}).err == "mblm: FIELD=VALUE: expected only with a configuration (.yaml), got train.batch_size=5\n");
  const ProgramResult devices = run_program({"info", "devices"}), kernels = run_program({"info", "kernels"});
  CHECK(devices.status == 0);
  CHECK(devices.out.rfind("cpu", 0) == 0);
  CHECK(kernels.status == 0);
  CHECK(contains(kernels.out, "rms_norm_forward"));
  CHECK(contains(kernels.out, "float32"));
}

}  // namespace mblm::testing
