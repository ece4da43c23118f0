#include "program/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <utility>

#include "engine/device_name.h"
#include "engine/error.h"

namespace mblm {
namespace {

constexpr std::int64_t many = std::int64_t{1} << 62;

// A number's bounds, which the help text of most options need not tell.
template <class T>
CLI::Validator between(T low, T high) {
  return CLI::Range(low, high).description("");
}

CLI::Validator one_of(std::vector<std::string> values) { return CLI::IsMember(std::move(values)).description(""); }

void add_compute_options(CLI::App& app, ComputeOptions& options) {
  const auto device = [](const std::string& name) { return parse_device(name) ? std::string() : concat_text("expected ", device_forms, ", got ", name); };
  app.add_option("--device", options.device, concat_text(device_forms, "; auto takes a GPU when there is one"))->check(device)->type_name("DEVICE");
  app.add_option("--precision", options.precision, "of the matrix products: float32 or bfloat16; else that of the device, float32 on a CPU")
      ->check(one_of({"float32", "bfloat16"}))->type_name("P");
  app.add_option("--threads", options.threads, "threads on the CPU; results do not depend on it")->check(between(1, 4096))->type_name("N");
}

void add_model(CLI::App& app, ModelArgument& argument, const char* name = "MODEL") {
  app.add_option(name, argument.model, "a run's folder (its best checkpoint), a .safetensors file, or a .pth file of the Python package")->required();
  app.add_option("--config", argument.config, "the model's configuration, YAML, for a file that carries none")->type_name("CONFIG");
}

void add_train(CLI::App& app, TrainCommand& command) {
  CLI::App* train = app.add_subcommand("train", "Train a model as a configuration file says");
  train->add_option("CONFIG", command.config, "the configuration, YAML")->required();
  train->add_option("FIELD=VALUE", command.overrides, "replaces a field: train.batch_size=8, io.output_dir=runs, params.num_layers=[2,4]");
  add_compute_options(*train, command.compute);
  train->footer(
      "Shows its progress on standard error and prints the run's folder on standard output when it is done. Ctrl-C finishes\n"
      "the running step and saves the full state, from which `mblm resume` goes on; a second one ends at once. JOB_ID in the\n"
      "environment names the run, MBLM_LOG=debug shows more, NO_COLOR shows no colours.\n\n"
      "  mblm train configs/quickstart.yaml io.dataset_dir=my_text train.seed=1\n");
}

void add_resume(CLI::App& app, ResumeCommand& command) {
  CLI::App* resume = app.add_subcommand("resume", "Go on with a run that was stopped, from its last full state");
  resume->add_option("RUN", command.run, "the run's folder")->required();
  resume->add_option("FIELD=VALUE", command.overrides, "replaces a field that may change: train.save_state_every=60, train.on_nonfinite=skip");
  add_compute_options(*resume, command.compute);
  resume->footer(
      "Ends with the same checkpoints and the same loss.csv, but for its times, as the run without a stop. Fields that decide\n"
      "what is computed keep their values; these may change: train.device, save_state_every, on_nonfinite and cuda_graphs,\n"
      "io.dataset_dir, log_train_loss_amount, enabled_loss_log_for_gpus, description and tensorboard.\n\n"
      "  mblm resume runs/quickstart_1\n");
}

void add_eval(CLI::App& app, EvalCommand& command) {
  CLI::App* eval = app.add_subcommand("eval", "Loss and bits per byte over a split of a data set");
  add_model(*eval, command.model);
  eval->add_option("--data", command.data, "a file, or a folder with train/, validation/ and test/; else what the run was trained on")->type_name("DIR");
  eval->add_option("--split", command.split, "train, validation or test")->check(one_of({"train", "validation", "test"}))->type_name("SPLIT")
      ->capture_default_str();
  eval->add_flag("--json", command.json, "one JSON object instead of a table");
  add_compute_options(*eval, command.compute);
  eval->footer("  mblm eval runs/quickstart_1 --split validation\n  mblm eval model.safetensors --data my_text --json\n");
}

void add_prompt_options(CLI::App& app, GenerateCommand& command) {
  CLI::Option* text = app.add_option("--prompt", command.prompt, "text to continue")->type_name("TEXT");
  CLI::Option* file = app.add_option("--prompt-file", command.prompt_file, "file whose bytes are continued, all of them")->type_name("F")->excludes(text);
  app.add_option_function<std::string>("INPUT", [&command](const std::string&) { command.prompt_from_input = true; }, "-: continue the bytes of standard input")
      ->check(one_of({"-"}))->type_name("")->excludes(text)->excludes(file);
}

void add_sampling_options(CLI::App& app, SamplingOptions& sampling) {
  app.add_option("--temperature", sampling.temperature, "below 1 likely bytes gain, above 1 they lose; 0 always takes the likeliest")
      ->check(between(0.0, 1e6))->type_name("T")->capture_default_str();
  app.add_option("--top-k", sampling.top_k, "only the K likeliest; 0: all")->check(between(std::int64_t{0}, many))->type_name("K")->capture_default_str();
  app.add_option("--top-p", sampling.top_p, "only the likeliest that together have this probability")->check(between(1e-300, 1.0))->type_name("P")
      ->capture_default_str();
  app.add_option("--min-p", sampling.min_p, "only those with this share of the likeliest one's probability")->check(between(0.0, 1.0))->type_name("P")
      ->capture_default_str();
  app.add_option("--repetition-penalty", sampling.repetition_penalty, "above 1, what stands in the text already loses")->check(between(1e-6, 1e6))
      ->type_name("R")->capture_default_str();
  app.add_option("--ban", sampling.banned, "never this id; may be given again")->type_name("ID")->take_all()->expected(1);
  app.add_option("--stop", sampling.stop, "end after this id; may be given again")->type_name("ID")->take_all()->expected(1);
  app.add_option("--seed", sampling.seed, "the same seed gives the same bytes")->type_name("S")->capture_default_str();
}

void add_generate(CLI::App& app, GenerateCommand& command) {
  CLI::App* generate = app.add_subcommand("generate", "Continue a text byte by byte");
  add_model(*generate, command.model);
  add_prompt_options(*generate, command);
  generate->add_option("--tokens", command.tokens, "bytes to generate; else until the model's context is full")->check(between(std::int64_t{0}, many))
      ->type_name("N");
  add_sampling_options(*generate, command.sampling);
  generate->add_option("--count", command.count, "continuations, each with random numbers of its own")->check(between(1, 1 << 30))->type_name("N")
      ->capture_default_str();
  CLI::Option* format = generate->add_option("--format", command.format, "text (UTF-8; what is none shows as U+FFFD), raw (the bytes) or ids (decimal\n"
      "numbers); else text on a terminal and raw elsewhere")->check(one_of({"text", "raw", "ids"}))->type_name("F");
  generate->add_flag("--json", command.json, "one line per continuation: prompt, ids, text")->excludes(format);
  add_compute_options(*generate, command.compute);
  generate->footer(
      "Writes what is generated, without the prompt, as it comes. text and ids end each continuation with a line feed.\n\n"
      "  mblm generate runs/quickstart_1 --prompt 'In the beginning' --tokens 400\n"
      "  mblm generate model.safetensors - --temperature 0 < prompt.txt > continued.bin\n");
}

void add_embed(CLI::App& app, EmbedCommand& command) {
  const auto output = [](const std::string& name) {
    return name.ends_with(".safetensors") || name.ends_with(".npy") ? std::string{} : "expected a name that ends in .safetensors or .npy, got " + name;
  };
  CLI::App* embed = app.add_subcommand("embed", "Hidden states of bytes, one vector per byte");
  add_model(*embed, command.model);
  embed->add_option("FILE", command.file, "the bytes, all of them; else those of standard input");
  embed->add_option("-o,--output", command.output, "a .safetensors (tensor `hidden_states`) or .npy file; else .npy on standard output")
      ->check(output)
      ->type_name("F");
  add_compute_options(*embed, command.compute);
  embed->footer(
      "Vector t is what the model makes of bytes 0 to t, before the logits: bytes x width, float32.\n\n"
      "  mblm embed runs/quickstart_1 text.txt -o text.npy\n"
      "  echo 'In the beginning' | mblm embed model.safetensors > hidden.npy\n");
}

void add_info(CLI::App& app, InfoCommand& command) {
  CLI::App* info = app.add_subcommand("info", "What a configuration or a model is, or what this machine offers");
  info->add_option("WHAT", command.subject.model, "a configuration (.yaml), a run's folder, a .safetensors or .pth file, `devices` or `kernels`")
      ->required();
  info->add_option("FIELD=VALUE", command.overrides, "replaces a field of a configuration: params.num_layers=[2,4]");
  info->add_option("--config", command.subject.config, "the model's configuration, YAML, for a file that carries none")->type_name("CONFIG");
  info->footer("  mblm info configs/quickstart.yaml params.num_layers=[2,4]\n  mblm info devices\n");
}

void add_convert(CLI::App& app, ConvertCommand& command) {
  CLI::App* convert = app.add_subcommand("convert", "Turn a checkpoint into one of another form, by the endings of the names");
  add_model(*convert, command.from, "FROM");
  const auto has_ending = [](const std::string& name) {
    return name.ends_with(".safetensors") || name.ends_with(".pth") ? std::string() : "expected a .safetensors or .pth file, got " + name;
  };
  convert->add_option("TO", command.to, "a .safetensors file, or a .pth file for the Python package")->required()->check(has_ending)->type_name("");
  convert->add_option("--layout", command.layout,
      "the package's version that a .pth file is for: 0.4.2, the newest (the default), or 0.4.1 for those before it")
      ->check(CLI::IsMember({"0.4.1", "0.4.2"}))->type_name("VERSION");
  convert->footer("  mblm convert checkpoint.pth model.safetensors --config config.yaml\n  mblm convert runs/quickstart_1 checkpoint.pth --layout 0.4.1\n");
}

// CLI11's message may have several lines.
std::string one_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

}  // namespace

std::variant<Command, int> parse_command_line(int count, const char* const* arguments) {
  TrainCommand train;
  ResumeCommand resume;
  EvalCommand eval;
  GenerateCommand generate;
  EmbedCommand embed;
  InfoCommand info;
  ConvertCommand convert;
  CLI::App app("Multiscale byte language models: train, evaluate, generate.", "mblm");
  app.set_version_flag("--version", "mblm " MBLM_VERSION);
  app.require_subcommand(1);
  add_train(app, train);
  add_resume(app, resume);
  add_eval(app, eval);
  add_generate(app, generate);
  add_embed(app, embed);
  add_info(app, info);
  add_convert(app, convert);
  app.footer("`mblm COMMAND --help` tells what a command takes.\n");
  try {
    app.parse(count, arguments);
  } catch (const CLI::Success& done) {  // --help, --version
    return app.exit(done, std::cout, std::cerr);
  } catch (const CLI::ParseError& wrong) {
    const auto used = app.get_subcommands();
    std::cerr << "mblm: " << one_line(wrong.what()) << " (see mblm " << (used.empty() ? "" : used.front()->get_name() + " ") << "--help)\n";
    return 2;
  }
  const std::string& name = app.get_subcommands().front()->get_name();
  if (name == "train") return Command(train);
  if (name == "resume") return Command(resume);
  if (name == "eval") return Command(eval);
  if (name == "generate") return Command(generate);
  if (name == "embed") return Command(embed);
  if (name == "convert") return Command(convert);
  return Command(info);
}

}  // namespace mblm
