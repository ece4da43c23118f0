#include "program/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <utility>

#include "engine/device_name.h"
#include "engine/error.h"
#include "program/command_table.h"
#include "program/number_option.h"

namespace mblm {
namespace {

std::string alternatives(const std::vector<std::string>& values) {
  std::string text;
  for (const std::string& value : values) text += (text.empty() ? "" : "|") + value;
  return text;
}

// The values of an option, which help and completion also read (program/option_text.h).
CLI::Validator one_of(const std::vector<std::string>& values) {
  const auto check = [values](const std::string& text) {
    if (std::find(values.begin(), values.end(), text) != values.end()) return std::string();
    std::string expected;
    for (const std::string& value : values) expected += (expected.empty() ? "" : " or ") + value;
    return concat_text("expected ", expected, ", got ", text);
  };
  return CLI::Validator(check, alternatives(values));
}

// An option whose file cannot be a standard stream: it is written in one piece, or read twice.
CLI::Validator no_stream() {
  return CLI::Validator([](const std::string& name) { return name == "-" ? std::string("expected the name of a file, got -") : std::string(); }, "");
}

void add_compute_options(CLI::App& app, ComputeOptions& options) {
  const auto device = [](const std::string& name) { return parse_device(name) ? std::string() : concat_text("expected ", device_forms, ", got ", name); };
  app.add_option("--device", options.device, concat_text(device_forms, "; auto uses a GPU if there is one"))->check(CLI::Validator(device, "auto|cpu|cuda"))->type_name("DEVICE");
  app.add_option("--precision", options.precision, "precision of products and activations, float32 or bfloat16; default: that of the device, float32 on a CPU")
      ->check(one_of({"float32", "bfloat16"}))->type_name("P");
  add_number(app, "--threads", options.threads, "number of CPU threads; does not change results", {1, 4096})->type_name("N");
}

void add_model(CLI::App& app, ModelArgument& argument, const char* name = "MODEL") {
  app.add_option(name, argument.model, "a run's folder (its best checkpoint), a .safetensors file, or a .pth file of the Python package")->required();
  app.add_option("--config", argument.config, "configuration of the model (YAML), for a file that contains none")->type_name("CONFIG");
}

void add_train(CLI::App& train, TrainCommand& command) {
  train.add_option("CONFIG", command.config, "configuration file (YAML)")->required();
  train.add_option("FIELD=VALUE", command.overrides, "override a field: train.batch_size=8, io.output_dir=runs, params.num_layers=[2,4]");
  train.add_flag("--dry-run", command.dry_run, "check the config, the data and the memory, print what the run would do, and write nothing");
  add_compute_options(train, command.compute);
  train.footer(
      "Shows progress on standard error and prints the run's folder on standard output at the end. Ctrl-C finishes the current\n"
      "step and saves the full state, from which `mblm resume` continues; a second Ctrl-C ends the program at once. So do\n"
      "SIGTERM, SIGHUP and SIGUSR1.\n"
      "Environment variables: JOB_ID names the run, MBLM_LOG=debug shows more messages, NO_COLOR turns colours off.\n\n"
      "  mblm train configs/quickstart.yaml io.dataset_dir=my_text train.seed=1\n");
}

void add_resume(CLI::App& resume, ResumeCommand& command) {
  resume.add_option("RUN", command.run, "the run's folder")->required();
  resume.add_option("FIELD=VALUE", command.overrides, "set a field that may change: train.target_elements=12_000_000, train.save_state_every=60");
  resume.add_flag("--accept-changed-data", command.accept_changed_data, "resume although the training data changed since the run began");
  add_compute_options(resume, command.compute);
  resume.footer(
      "The checkpoints and loss.csv (except its times) are the same as those of an uninterrupted run. Fields that decide what\n"
      "is computed keep their values. These may change: train.target_elements, max_steps and epochs; train.device, save_state_every,\n"
      "on_nonfinite and cuda_graphs; io.dataset_dir, log_train_loss_amount, enabled_loss_log_for_gpus, description and tensorboard.\n\n"
      "A greater length extends the run, also a finished one: from its last state on, the learning rate is that of a run with the new\n"
      "length, with the warm-up steps that the run had.\n\n"
      "  mblm resume runs/quickstart_1\n  mblm resume runs/quickstart_1 train.target_elements=12_000_000\n");
}

void add_eval(CLI::App& eval, EvalCommand& command) {
  add_model(eval, command.model);
  eval.add_option("--data", command.data, "a file, or a folder with train/, validation/ and test/; default: the data of the run.\n"
      "Of a file or any other folder, test is the second to last twentieth, validation the last")->type_name("DIR");
  eval.add_option("--split", command.split, "train, validation, test or all")->check(one_of({"train", "validation", "test", "all"}))->type_name("SPLIT")
      ->capture_default_str();
  eval.add_flag("--json", command.json, "print one JSON object instead of a table");
  add_compute_options(eval, command.compute);
  eval.footer("  mblm eval runs/quickstart_1 --split validation\n  mblm eval model.safetensors --data my_text --json\n");
}

void add_prompt_options(CLI::App& app, GenerateCommand& command) {
  CLI::Option* text = app.add_option("--prompt", command.prompt, "text to continue")->type_name("TEXT");
  CLI::Option* file = app.add_option("--prompt-file", command.prompt_file, "file to continue, all of its bytes")->type_name("F")->excludes(text);
  app.add_option_function<std::string>("INPUT", [&command](const std::string&) { command.prompt_from_input = true; }, "-: continue the bytes of standard input")
      ->check(CLI::Validator([](const std::string& word) {
        return word == "-" ? std::string() : "expected - for standard input, got " + word + "; a text to continue follows --prompt";
      }, "-"))->type_name("")->excludes(text)->excludes(file);
}

void add_sampling_options(CLI::App& app, SamplingOptions& sampling) {
  add_number(app, "--temperature", sampling.temperature, "below 1 favours likely bytes, above 1 unlikely ones; 0 always takes the likeliest", {0, 1e6})
      ->type_name("T");
  add_number(app, "--top-k", sampling.top_k, "sample from the K likeliest bytes only; 0: all")->type_name("K");
  add_number(app, "--top-p", sampling.top_p, "sample from the likeliest bytes that together have probability P", {0, 1, true})->type_name("P");
  add_number(app, "--min-p", sampling.min_p, "sample from bytes with at least P times the probability of the likeliest", {0, 1})->type_name("P");
  add_number(app, "--repetition-penalty", sampling.repetition_penalty, "above 1 disfavours bytes that the text already contains", {1e-6, 1e6})
      ->type_name("R");
  add_numbers(app, "--ban", sampling.banned, "never generate this id; may be repeated")->type_name("ID");
  add_numbers(app, "--stop-id", sampling.stop, "stop after this id; may be repeated")->type_name("ID");
  add_number(app, "--seed", sampling.seed, "random seed; the same seed gives the same bytes")->type_name("S");
}

void add_generate(CLI::App& generate, GenerateCommand& command) {
  add_model(generate, command.model);
  add_prompt_options(generate, command);
  add_number(generate, "--tokens", command.tokens, "bytes to generate; default: until the model's context is full")->type_name("N");
  add_sampling_options(generate, command.sampling);
  generate.add_option("--stop", command.stop_texts, "stop before this text, which is not written; may be repeated")->type_name("TEXT")->take_all()->expected(1);
  add_number(generate, "--count", command.count, "number of continuations, each with its own random numbers", {1, 1 << 30})->type_name("N");
  CLI::Option* format = generate.add_option("--format", command.format, "text (UTF-8, invalid bytes shown as U+FFFD), raw (the bytes) or ids (decimal\n"
      "numbers); default: text on a terminal, raw elsewhere")->check(one_of({"text", "raw", "ids"}))->type_name("F");
  CLI::Option* json = generate.add_flag("--json", command.json, "print one JSON object per continuation: prompt, ids, text, timings")->excludes(format);
  generate.add_flag("--logprobs", command.logprobs, "with --json: the log-probability of each id, in nats, without sampling options")->needs(json);
  generate.add_option("--save-state", command.save_state, "save the state after the prompt, for --load-state")->type_name("F")->check(no_stream());
  generate.add_option("--load-state", command.load_state, "continue from a saved state; the prompt follows it")->type_name("F")->check(no_stream());
  add_compute_options(generate, command.compute);
  generate.footer(
      "Writes the generated bytes as they come, without the prompt. The formats text and ids end each continuation with a\n"
      "line feed. On a terminal without a prompt, each line that is typed is a prompt of its own; an empty line continues\n"
      "nothing, and Ctrl-D ends.\n\n"
      "  mblm generate runs/quickstart_1 --prompt 'In the beginning' --tokens 400\n"
      "  mblm generate model.safetensors - --temperature 0 < prompt.txt > continued.bin\n");
}

void add_score(CLI::App& score, ScoreCommand& command) {
  add_model(score, command.model);
  score.add_option("FILE", command.files, "files to score, each from its start; - or none: standard input");
  score.add_flag("--per-byte", command.per_byte, "print a line for each byte: offset, byte (decimal) and bits");
  score.add_option("--html", command.html, "write a page that colours each byte by its bits")->type_name("F")->check(no_stream());
  score.add_flag("--json", command.json, "print one JSON object instead of a table; with --per-byte one more per byte before it");
  add_compute_options(score, command.compute);
  score.footer(
      "Reads files of any length in constant memory, except for the keys and values of a Transformer as the first stage. A file\n"
      "that exceeds a fixed context is scored in windows that do not overlap, each from the start token.\n\n"
      "  mblm score runs/quickstart_1 book.txt letter.txt\n"
      "  mblm score model.safetensors book.txt --html book.html\n");
}

void add_compress(CLI::App& compress, CompressCommand& command) {
  add_model(compress, command.model);
  compress.add_option("FILE", command.file, "file to compress; -: standard input")->required();
  compress.add_option("-o,--output", command.output, "file to write")->required()->type_name("OUT")->check(no_stream());
  add_number(compress, "--streams", command.streams, "parts that are decompressed together: faster, and a little larger", {1, 256})->type_name("N");
  add_compute_options(compress, command.compute);
  compress.footer(
      "The result can only be decompressed with the same model, build of mblm, kind of processor or GPU, and --precision.\n\n"
      "  mblm compress runs/quickstart_1 book.txt -o book.mblm --streams 16\n");
}

void add_decompress(CLI::App& decompress, DecompressCommand& command) {
  add_model(decompress, command.model);
  decompress.add_option("FILE", command.file, "file that mblm compress wrote")->required()->check(no_stream());
  decompress.add_option("-o,--output", command.output, "file to write")->required()->type_name("OUT")->check(no_stream());
  add_compute_options(decompress, command.compute);
  decompress.footer(
      "Checks the file first and the content last. After an error nothing is written.\n\n"
      "  mblm decompress runs/quickstart_1 book.mblm -o book.txt\n");
}

void add_embed(CLI::App& embed, EmbedCommand& command) {
  const auto output = [](const std::string& name) {
    return name.ends_with(".safetensors") || name.ends_with(".npy") ? std::string{} : "expected a name that ends in .safetensors or .npy, got " + name;
  };
  add_model(embed, command.model);
  embed.add_option("FILE", command.file, "file to read, all of its bytes; default: standard input");
  embed.add_option("-o,--output", command.output, ".safetensors file (tensor `hidden_states`) or .npy file; default: .npy on standard output")
      ->check(output)
      ->type_name("F");
  add_compute_options(embed, command.compute);
  embed.footer(
      "Writes float32 vectors, bytes x width: the input of the logits. Vector t depends on bytes 0 to t.\n\n"
      "  mblm embed runs/quickstart_1 text.txt -o text.npy\n"
      "  echo 'In the beginning' | mblm embed model.safetensors > hidden.npy\n");
}

void add_info(CLI::App& info, InfoCommand& command) {
  info.add_option("WHAT", command.subject.model, "a configuration (.yaml), a run's folder, a .safetensors or .pth file, `devices` or `kernels`")
      ->required();
  info.add_option("FIELD=VALUE", command.overrides, "override a field of a configuration: params.num_layers=[2,4]");
  info.add_flag("--json", command.json, "print one JSON object instead of text");
  info.add_option("--config", command.subject.config, "configuration of the model (YAML), for a file that contains none")->type_name("CONFIG");
  info.footer("  mblm info configs/quickstart.yaml params.num_layers=[2,4]\n  mblm info devices\n");
}

void add_convert(CLI::App& convert, ConvertCommand& command) {
  add_model(convert, command.from, "FROM");
  const auto has_ending = [](const std::string& name) {
    return name.ends_with(".safetensors") || name.ends_with(".pth") ? std::string() : "expected a .safetensors or .pth file, got " + name;
  };
  convert.add_option("TO", command.to, "a .safetensors file, or a .pth file for the Python package")->required()->check(has_ending)->type_name("");
  convert.add_option("--layout", command.layout,
      "package version that the .pth file is for: 0.4.2 (default, newest), or 0.4.1 for older versions")
      ->check(one_of({"0.4.1", "0.4.2"}))->type_name("VERSION");
  convert.footer("  mblm convert checkpoint.pth model.safetensors --config config.yaml\n  mblm convert runs/quickstart_1 checkpoint.pth --layout 0.4.1\n");
}

void add_serve(CLI::App& serve, ServeCommand& command) {
  add_model(serve, command.model);
  add_number(serve, "--port", command.port, "port; 0: a free one", {0, 65535})->type_name("P")->capture_default_str();
  serve.add_option("--host", command.host, "address to listen on; any other than the default requires --api-key-file")->type_name("H")->capture_default_str();
  serve.add_option("--api-key-file", command.api_key_file, "file with the key that clients must send (Authorization: Bearer KEY)")->type_name("F");
  const auto limit = [&](const char* name, std::int64_t& value, std::int64_t low, std::int64_t high, const char* unit, const char* text) {
    add_number(serve, name, value, text, {low, high})->type_name(unit)->capture_default_str();
  };
  limit("--max-body", command.max_body, 1, 1 << 30, "BYTES", "largest body of a request");
  limit("--max-tokens", command.max_tokens, 1, 1 << 30, "N", "largest max_tokens of a request, in bytes to generate");
  limit("--max-rows", command.max_rows, 1, 1 << 16, "N", "continuations computed at the same time");
  limit("--max-queue", command.max_queue, 0, 1 << 20, "N", "continuations that wait; beyond it requests get status 429");
  limit("--max-connections", command.max_connections, 1, 1 << 16, "N", "open connections; beyond it they get status 503");
  limit("--timeout", command.timeout, 1, 1 << 20, "SECONDS", "longest time of a completion");
  limit("--receive-timeout", command.receive_timeout, 1, 1 << 20, "SECONDS", "longest time to receive a request, and for a client to take nothing of its answer");
  add_compute_options(serve, command.compute);
  serve.footer(
      "Prints the address on standard output once it accepts requests. SIGTERM and Ctrl-C refuse new completions and finish the\n"
      "others; a second one ends the program at once. MBLM_LOG=debug shows each request.\n\n"
      "  mblm serve runs/quickstart_1\n"
      "  curl http://127.0.0.1:8080/v1/completions -d '{\"prompt\": \"In the beginning\", \"max_tokens\": 100}'\n");
}

void add_plot(CLI::App& plot, PlotCommand& command) {
  const auto is_picture = [](const std::string& name) {
    return name.ends_with(".svg") || name.ends_with(".png") ? std::string() : "expected a name that ends in .svg or .png, got " + name;
  };
  plot.add_option("RUN", command.runs, "folders of runs, also of the Python package")->required();
  plot.add_option("-o,--out", command.out, "write the figure to this .svg or .png file")->check(is_picture)->type_name("F");
  plot.add_flag("--text", command.text, "draw with characters on standard output; the default without --out and --html");
  plot.add_option("--html", command.html, "write one page with the curves, the results, the sample texts and the config")->type_name("F")->check(no_stream());
  plot.footer(
      "Draws training and validation losses in bits per byte against the bytes seen, the learning rate, the gradient norm and the\n"
      "throughput. Also draws runs that are in progress.\n\n"
      "  mblm plot runs/quickstart_1\n  mblm plot runs/base_1 runs/wide_1 --out curves.svg\n");
}

void add_help(CLI::App& help, HelpCommand& command) {
  help.add_option("COMMAND", command.command, "the command to explain; default: all commands");
  CLI::Option* completion = help.add_flag("--bash-completion", command.bash_completion, "print the completion script for bash");
  help.add_flag("--man", command.man_page, "print the man page")->excludes(completion);
  help.footer("  mblm help train\n  source <(mblm help --bash-completion)\n  mblm help --man | man -l -\n");
}

void add_config(CLI::App& config, ConfigCommand& command) {
  config.add_option("FIELD=VALUE", command.overrides, "set a field: train.epochs=5");
  config.add_option("--size", command.size, "small (2 million parameters), medium (21) or large (360); default: by the device and the amount of data")
      ->check(one_of({"small", "medium", "large"}))->type_name("SIZE");
  config.add_option("--data", command.data, "the data to fit the config to: a file, or a folder")->type_name("DIR");
  config.add_flag("--fields", command.fields, "print a page about all fields instead");
  config.footer(
      "Prints a complete config with a comment on every field. Length, batch size and model fit this machine's memory and the data.\n\n"
      "  mblm config --data my_text > config.yaml\n  mblm train config.yaml\n");
}

template <class C>
CommandEntry entry(const char* name, const char* summary, void (*declare)(CLI::App&, C&)) {
  return {name, summary, [declare](CLI::App& app, Command& command) { declare(app, command.emplace<C>()); }};
}

}  // namespace

const std::vector<CommandEntry>& command_table() {
  static const std::vector<CommandEntry> table{
      entry("config", "Print a complete config to start from", add_config),
      entry("train", "Train a model from a configuration file", add_train),
      entry("resume", "Resume a stopped run, or train a finished one longer", add_resume),
      entry("eval", "Compute loss and bits per byte over a split of a data set", add_eval),
      entry("generate", "Continue a text byte by byte", add_generate),
      entry("score", "Compute the bits per byte of files", add_score),
      entry("compress", "Compress a file with the model's predictions, without loss", add_compress),
      entry("decompress", "Restore a file that mblm compress wrote", add_decompress),
      entry("serve", "Answer completion requests over HTTP, with a page to try", add_serve),
      entry("embed", "Compute the hidden states of bytes, one vector per byte", add_embed),
      entry("info", "Describe a configuration, a model or this machine", add_info),
      entry("plot", "Draw the curves of runs", add_plot),
      entry("convert", "Convert a checkpoint; the file extensions give the formats", add_convert),
      entry("help", "Explain the commands", add_help),
  };
  return table;
}

}  // namespace mblm
