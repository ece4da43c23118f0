// The files of a run folder, and errors of writing them.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <optional>
#include <thread>

#include "engine/io/atomic_file.h"
#include "mblm/config/block_config.h"
#include "mblm/config/yaml.h"
#include "tests/system_calls.h"
#include "tests/temporary_folder.h"
#include "train/best_checkpoints.h"
#include "train/run_folder.h"

namespace {

// File systems that refuse links: these functions replace those of the C library in this program.
bool refuses_symbolic_links = false, refuses_hard_links = false;

int refuse() {
  errno = EPERM;
  return -1;
}

}  // namespace

extern "C" int symlink(const char* to, const char* path) noexcept {
  return refuses_symbolic_links ? refuse() : static_cast<int>(syscall(SYS_symlinkat, to, AT_FDCWD, path));
}
extern "C" int link(const char* from, const char* to) noexcept {
  return refuses_hard_links ? refuse() : static_cast<int>(syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0));
}

namespace mblm::testing {
namespace {

IoConfig io_in(const std::filesystem::path& folder) {
  IoConfig io;
  io.name_model = "tiny";
  io.output_dir = folder.string();
  io.dataset_id = "files";
  io.dataset_dir = "text";
  return io;
}

std::vector<std::string> names_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

TEST_CASE("rows have the package's columns, and their numbers parse to the same values") {
  const LossRow loss{.timestamp = "2024-01-31 12:00:00.000001",
                     .elements_seen = 8192,
                     .kind = "train",
                     .epoch = 1,
                     .batch = 2,
                     .cum_batch = 30,
                     .loss = 0.1,
                     .lr = 0.001,
                     .grad_norm = 0.75,
                     .bytes_per_second = 61234.5,
                     .smoothed_loss = 0.2};
  CHECK(to_csv(loss) == "0,2024-01-31 12:00:00.000001,8192,train,1,2,30,0.1,0.001,-1,-1,0.75,61234.5,0.2\n");
  CHECK(to_csv(LossRow{.timestamp = "t", .kind = "test", .loss = 1.0 / 3}) == "0,t,-1,test,-1,-1,-1,0.3333333333333333,-1,-1,-1,-1,-1,-1\n");
  TimeMemoryRow time{.cum_batch = 5, .num_items = 4, .kind = "train", .fw_time = 0.25, .bw_time = 0.5, .allocated = 1.5, .total = 8};
  CHECK(to_csv(time) == "5,4,train,0.25,0.5,1.5,0,0,0,8\n");
  time.bw_time.reset();
  CHECK(to_csv(time) == "5,4,train,0.25,,1.5,0,0,0,8\n");
}

TEST_CASE("lines are appended to a file, and a full disk is an error") {
  const TemporaryFolder folder;
  AppendFile(folder / "log").append("one\n");
  AppendFile file(folder / "log");
  file.append("two\n");
  file.append("");
  CHECK(read_file(folder / "log") == "one\ntwo\n");
  CHECK(message_of<FileError>([] { AppendFile("/dev/full").append("x"); }) == "/dev/full: cannot be written: No space left on device");
  CHECK(message_of<FileError>([&] { AppendFile(folder / "no/log"); }) ==
        (folder / "no/log").string() + ": cannot be written: No such file or directory");
}

TEST_CASE("a file is truncated after a number of lines") {
  const TemporaryFolder folder;
  AppendFile file(folder.write("log", "one\ntwo\nthr"));
  CHECK(message_of<FileError>([&] { file.keep_lines(3); }) == (folder / "log").string() + ": expected at least 3 lines, found 2");
  CHECK(read_file(folder / "log") == "one\ntwo\nthr");
  file.keep_lines(2);
  file.append("three\n");
  file.flush();
  CHECK(read_file(folder / "log") == "one\ntwo\nthree\n");
  file.keep_lines(0);
  CHECK(read_file(folder / "log").empty());
}

TEST_CASE("tables are truncated to the counted rows") {
  const TemporaryFolder folder;
  RunFolder run(io_in(folder.path()), "1");
  for (const double loss : {3.0, 2.0, 1.0}) run.write(LossRow{.timestamp = "t", .kind = "train", .loss = loss});
  run.write(TimeMemoryRow{.kind = "train"});
  CHECK(run.rows().loss == 3);
  CHECK(run.rows().time_memory == 1);
  for (const char* left : {"config.yaml.tmp12-3", "state/state_1.safetensors.tmp7-1", "checkpoints/step_1.safetensors.tmp99-12"})
    folder.write(std::string("tiny_1/") + left, "half a file");
  folder.write("tiny_1/notes.tmpl", "mine");
  run.go_back_to({.loss = 1, .time_memory = 0});
  CHECK(run.rows().loss == 1);
  CHECK(read_file(run.path() / "loss.csv") == std::string(loss_header) + "0,t,-1,train,-1,-1,-1,3,-1,-1,-1,-1,-1,-1\n");
  CHECK(read_file(run.path() / "timemem.csv") == time_memory_header);
  CHECK(names_in(run.path()) == std::vector<std::string>{"checkpoints", "loss.csv", "notes.tmpl", "state", "timemem.csv", "train.log"});
  CHECK(names_in(run.states()) == std::vector<std::string>{"lock"});
  CHECK(names_in(run.checkpoints()).empty());
}

TEST_CASE("the loss table of an earlier version gets the new columns when its run is resumed") {
  const TemporaryFolder folder;
  const std::string old_header = "gpu_rank,timestamp,elements_seen,kind,epoch,batch,cum_batch,loss,lr,avg_grad,avg_grad_clipped\n";
  const std::string row = "0,t,4,train,0,0,0,3,0.1,-1,-1";
  RunFolder run(io_in(folder.path()), "1");
  for (int i = 0; i < 2; ++i) run.write(LossRow{});
  write_file(run.path() / "loss.csv", old_header + row + "\n" + row + "\n" + row + "\n");
  run.go_back_to({.loss = 2, .time_memory = 0});
  CHECK(read_file(run.path() / "loss.csv") == std::string(loss_header) + row + ",-1,-1,-1\n" + row + ",-1,-1,-1\n");
  run.write(LossRow{.timestamp = "t", .kind = "test", .loss = 1, .smoothed_loss = 2});
  CHECK(read_file(run.path() / "loss.csv").ends_with("-1\n0,t,-1,test,-1,-1,-1,1,-1,-1,-1,-1,-1,2\n"));
  run.go_back_to({.loss = 3, .time_memory = 0});
  CHECK(read_file(run.path() / "loss.csv").ends_with("-1\n0,t,-1,test,-1,-1,-1,1,-1,-1,-1,-1,-1,2\n"));
}

TEST_CASE("the run id is the job id, the config's run id, or the time") {
  IoConfig io;
  const std::chrono::system_clock::time_point start{std::chrono::milliseconds(1700000000900)};
  CHECK(run_id_of(io, "", start) == "1700000000");
  io.run_id = "mine";
  CHECK(run_id_of(io, "", start) == "mine");
  CHECK(run_id_of(io, "job7", start) == "job7");
  CHECK(message_of<ConfigError>([&] { run_id_of(io, "a/b", start); }) == "JOB_ID: expected a valid part of a folder name, got \"a/b\"");
  io.run_id = "";
  CHECK(message_of<ConfigError>([&] { run_id_of(io, "", start); }) == "io.run_id: expected a valid part of a folder name, got \"\"");
}

TEST_CASE("a run folder must be new") {
  const TemporaryFolder folder;
  const IoConfig io = io_in(folder / "deep/runs");
  std::optional<RunFolder> opened(std::in_place, io, "1");
  const RunFolder& run = *opened;
  CHECK(run.path() == folder / "deep/runs/tiny_1");
  CHECK(names_in(run.path()) == std::vector<std::string>{"checkpoints", "loss.csv", "state", "timemem.csv", "train.log"});
  CHECK(read_file(run.path() / "loss.csv") == loss_header);
  CHECK(read_file(run.path() / "timemem.csv") == time_memory_header);
  const std::string path = run.path().string(), at_work = concat_text("process ", ::getpid());
  CHECK(message_of<FileError>([&] { RunFolder(io, "1"); }) == path + ": the run folder already exists and is in use by " + at_work);
  CHECK(message_of<FileError>([&] { RunFolder again{std::filesystem::path(path)}; }) == path + ": expected a run folder, config.yaml is missing");
  write_file(path + "/config.yaml", "");
  CHECK(message_of<FileError>([&] { RunFolder again{std::filesystem::path(path)}; }) ==
        path + ": the run is in use by " + at_work);
  opened.reset();
  CHECK(message_of<FileError>([&] { RunFolder(io, "1"); }) ==
        path + ": the run folder already exists; set another io.run_id, or resume the run with mblm resume");
  const std::string file = folder.write("file", "x").string();
  CHECK(message_of<FileError>([&] { RunFolder(io_in(file), "1"); }).rfind(file + ": cannot create the output folder: ", 0) == 0);
  CHECK(message_of<FileError>([&] { RunFolder(io_in(file + "/sub"), "1"); }).rfind(file + "/sub: cannot create the output folder: ", 0) == 0);
  CHECK(message_of<FileError>([&] { RunFolder(io_in("/proc"), "1"); }).rfind("/proc/tiny_1: cannot create the run folder: ", 0) == 0);
}

TEST_CASE("a run folder that cannot be completed is removed, with the folders around it") {
  const TemporaryFolder folder;
  const IoConfig io = io_in(folder / "deep/runs");
  const auto start = [&] { RunFolder run(io, "1"); };
  for (int fails_at = 1; fails_at <= 5; ++fails_at) {  // deep, runs, the run, state, checkpoints
    CAPTURE(fails_at);
    int calls = 0;
    const HookedSystemCalls hooked({.mkdir = [&] { return ++calls == fails_at ? ENOSPC : 0; }});
    CHECK(message_of<FileError>(start).ends_with(": No space left on device"));
    CHECK(calls == fails_at);
    CHECK(names_in(folder.path()).empty());
  }
  {
    const HookedSystemCalls hooked({.lock = [](int) { return EIO; }});
    CHECK(message_of<FileError>(start) == (folder / "deep/runs/tiny_1/state/lock").string() + ": cannot be locked: Input/output error");
    CHECK(names_in(folder.path()).empty());
  }
  std::filesystem::create_directories(folder / "deep/runs");
  {
    const HookedSystemCalls hooked({.lock = [](int) { return EIO; }});
    CHECK_THROWS_AS(start(), FileError);
  }
  CHECK(names_in(folder / "deep/runs").empty());
  start();
  CHECK(names_in(folder / "deep/runs") == std::vector<std::string>{"tiny_1"});
}

TEST_CASE("a folder that a killed program left before its config counts as new") {
  const TemporaryFolder folder;
  const IoConfig io = io_in(folder.path());
  folder.write("tiny_1/state/lock", "1\n");
  folder.write("tiny_1/loss.csv", std::string(loss_header) + "half a r");
  {
    RunFolder run(io, "1");
    CHECK(read_file(run.path() / "loss.csv") == loss_header);
    CHECK(names_in(run.path()) == std::vector<std::string>{"checkpoints", "loss.csv", "state", "timemem.csv", "train.log"});
  }
  std::filesystem::create_directory(folder / "tiny_2");  // not made by a run
  CHECK(message_of<FileError>([&] { RunFolder(io, "2"); }).find("the run folder already exists; set another") != std::string::npos);
  for (const char* other : {"tiny_1/checkpoints/step_1.safetensors", "tiny_1/state/state_1.safetensors", "tiny_1/notes", "tiny_1/config.yaml"}) {
    CAPTURE(other);
    folder.write(other, "mine");
    CHECK(message_of<FileError>([&] { RunFolder(io, "1"); }).find("the run folder already exists; set another") != std::string::npos);
    CHECK(read_file(folder / other) == "mine");
    std::filesystem::remove(folder / other);
  }
}

TEST_CASE("asking for the holder of a lock does not disturb the process that takes it") {
  const TemporaryFolder folder;
  const std::filesystem::path file = folder.write("lock", "");
  std::atomic<bool> stop = false;
  std::thread prober([&] {
    while (!stop) RunLock::holder(file);
  });
  for (int i = 0; i < 2000; ++i) CHECK_NOTHROW(RunLock(file, folder.path()));
  stop = true;
  prober.join();
  CHECK(RunLock::holder(file).empty());
  const RunLock lock(file, folder.path());
  CHECK(lock.warning().empty());
  CHECK(RunLock::holder(file) == std::to_string(::getpid()));
  CHECK(message_of<FileError>([&] { RunLock(file, folder.path()); }) == concat_text(folder.path().string(), ": the run is in use by process ", ::getpid()));
}

TEST_CASE("a run continues with warnings on a file system without locks and flushing") {
  const TemporaryFolder folder;
  const std::string path = (folder / "tiny_1").string();
  const HookedSystemCalls hooked({.fsync = [](int) { return EINVAL; }, .lock = [](int) { return ENOLCK; }});
  RunFolder run(io_in(folder.path()), "1");
  CHECK(run.warnings() == std::vector<std::string>{
                              path + ": the file system has no locks (No locks available): two processes that use this run at the same time damage it",
                              path + ": the file system cannot flush files to disk: a power failure may damage the newest states and checkpoints"});
  run.write(LossRow{.timestamp = "t", .kind = "train", .loss = 1});
  CHECK_NOTHROW(run.flush());
  CHECK_NOTHROW(write_file_atomically(run.path() / "file", "x"));
}

TEST_CASE("a file system with locks and flushing causes no warnings, and a flush that fails is an error") {
  const TemporaryFolder folder;
  RunFolder run(io_in(folder.path()), "1");
  CHECK(run.warnings().empty());
  const HookedSystemCalls hooked({.fsync = [](int) { return EIO; }});
  CHECK(message_of<FileError>([&] { run.flush(); }) == (run.path() / "loss.csv").string() + ": cannot be written to disk: Input/output error");
}

TEST_CASE("a table that is too short leaves the other one unchanged") {
  const TemporaryFolder folder;
  RunFolder run(io_in(folder.path()), "1");
  for (const double loss : {3.0, 2.0}) run.write(LossRow{.timestamp = "t", .kind = "train", .loss = loss});
  const std::string before = read_file(run.path() / "loss.csv");
  CHECK(message_of<FileError>([&] { run.go_back_to({.loss = 1, .time_memory = 1}); }) ==
        (run.path() / "timemem.csv").string() + ": expected at least 2 lines, found 1");
  CHECK(read_file(run.path() / "loss.csv") == before);
}

TEST_CASE("each line of the log starts with the time") {
  const TemporaryFolder folder;
  RunFolder run(io_in(folder.path()), "1");
  run.log("first");
  run.log("second");
  const std::string text = read_file(run.path() / "train.log");
  REQUIRE(text.size() == 2 * 27 + std::string("first\nsecond\n").size());
  CHECK(text.substr(26, 7) == " first\n");
  CHECK(text.substr(4, 1) == "-");
  CHECK(text.substr(19, 1) == ".");
  CHECK(text.substr(text.size() - 8) == " second\n");
}

TEST_CASE("the best checkpoints are kept, with a link to the best") {
  const TemporaryFolder folder;
  BestCheckpoints best(folder.path(), 2);
  const auto add = [&](double loss, std::int64_t micro_step) {
    best.add({loss, micro_step}, [&](const std::filesystem::path& path) { folder.write(path.filename(), std::to_string(loss)); });
  };
  const auto linked = [&] { return std::filesystem::read_symlink(folder / "best.safetensors").string(); };
  add(3, 1);
  CHECK(linked() == "step_000000001.safetensors");
  CHECK(read_file(folder / "best.safetensors") == std::to_string(3.0));
  add(4, 2);
  CHECK(linked() == "step_000000001.safetensors");
  add(2, 30);
  CHECK(linked() == "step_000000030.safetensors");
  add(3, 31);  // equal to the worst kept one
  add(5, 32);
  CHECK(names_in(folder.path()) == std::vector<std::string>{"best.safetensors", "step_000000001.safetensors", "step_000000030.safetensors"});
  add(2, 33);  // equal to the best: ranked after it
  CHECK(names_in(folder.path()) == std::vector<std::string>{"best.safetensors", "step_000000030.safetensors", "step_000000033.safetensors"});
  REQUIRE(best.list().size() == 2);
  CHECK(best.list()[0].micro_step == 30);
  CHECK(best.list()[1].micro_step == 33);
  CHECK(linked() == "step_000000030.safetensors");
}

TEST_CASE("the best checkpoints of a state are restored without missing files") {
  const TemporaryFolder folder;
  for (const char* name : {"step_000000001.safetensors", "step_000000005.safetensors", "step_000000009.safetensors", "other"}) folder.write(name, name);
  BestCheckpoints best(folder.path(), 3);
  best.restore({{1, 5}, {2, 7}, {3, 1}});
  REQUIRE(best.list().size() == 2);
  CHECK(best.list()[0].micro_step == 5);
  CHECK(best.list()[1].micro_step == 1);
  best.remove_others();
  CHECK(names_in(folder.path()) ==
        std::vector<std::string>{"best.safetensors", "other", "step_000000001.safetensors", "step_000000005.safetensors"});
  CHECK(read_file(folder / "best.safetensors") == "step_000000005.safetensors");
}

TEST_CASE("an old checkpoint that cannot be removed is reported, and the others are removed") {
  const TemporaryFolder folder;
  BestCheckpoints best(folder.path(), 1);
  const auto save = [&](const std::filesystem::path& path) { folder.write(path.filename(), "x"); };
  best.add({2, 5}, save);
  for (const char* name : {"step_000000001.safetensors", "step_000000002.safetensors/inner", "step_000000003.safetensors"}) folder.write(name, "");
  const std::string remains = (folder / "step_000000002.safetensors").string() + ": cannot be removed: Directory not empty";
  CHECK(message_of<FileError>([&] { best.remove_others(); }) == remains);
  CHECK(names_in(folder.path()) == std::vector<std::string>{"best.safetensors", "step_000000002.safetensors", "step_000000005.safetensors"});
  std::filesystem::remove(folder / "step_000000005.safetensors");
  folder.write("step_000000005.safetensors/inner", "");
  CHECK(message_of<FileError>([&] { best.add({1, 6}, save); }) == (folder / "step_000000005.safetensors").string() + ": cannot be removed: Directory not empty");
  REQUIRE(best.list().size() == 1);  // no longer lists the file that was to be removed
  CHECK(best.list()[0].micro_step == 6);
}

TEST_CASE("a checkpoint that cannot be saved does not change the others") {
  const TemporaryFolder folder;
  BestCheckpoints best(folder.path(), 1);
  best.add({2, 1}, [&](const std::filesystem::path& path) { folder.write(path.filename(), "two"); });
  CHECK_THROWS_AS(best.add({1, 2}, [](const std::filesystem::path&) { throw FileError("full"); }), FileError);
  CHECK(best.list().size() == 1);
  CHECK(best.list()[0].micro_step == 1);
  CHECK(read_file(folder / "best.safetensors") == "two");
  BestCheckpoints none(folder / "none", 0);
  CHECK_NOTHROW(none.add({1, 2}, [](const std::filesystem::path&) { throw FileError("not asked for"); }));
}

TEST_CASE("config.yaml contains the config and a summary that is ignored when it is read") {
  const TemporaryFolder folder;
  RunFolder run(io_in(folder.path()), "1");
  RunConfig config;
  config.model.seq_lens = {16};
  config.model.hidden_dims = {8};
  config.model.num_layers = {1};
  config.model.blocks = {std::make_shared<TransformerConfig>()};
  config.io = io_in(folder.path());
  config.input_seq_len = 16;
  run.write_config(config, {.parameter_count = 12, .devices = {"a \"fast\" one"}, .next_batch_index = 3, .training_start = "2024-01-31T12:00:00.000001", .error = "a: b\n# c"});
  const std::string text = read_file(run.path() / "config.yaml");
  CHECK(text.rfind(to_yaml(config), 0) == 0);
  CHECK(text.substr(to_yaml(config).size()) ==
        "summary:\n  parameter_count: 12\n  num_workers: 1\n  devices: [\"a \\\"fast\\\" one\"]\n"
        "  best_checkpoint: null\n  next_epoch_index: 0\n  next_batch_index: 3\n"
        "  training_start: \"2024-01-31T12:00:00.000001\"\n  training_end: null\n  error: \"a: b\\n# c\"\n");
  const YamlValue written = parse_yaml(text, "config.yaml"), &summary = *written.find("summary");
  CHECK(to_integer(*summary.find("parameter_count")) == 12);
  CHECK(summary.find("devices")->items.at(0).text == "a \"fast\" one");
  CHECK(summary.find("training_end")->kind == YamlValue::Kind::Null);
  CHECK(summary.find("error")->text == "a: b\n# c");
  CHECK(names_in(run.path()) == std::vector<std::string>{"checkpoints", "config.yaml", "loss.csv", "state", "timemem.csv", "train.log"});
}

TEST_CASE("on a file system without links the best checkpoint is a hard link or a copy, with one warning") {
  for (const bool without_hard_links : {false, true}) {
    CAPTURE(without_hard_links);
    const TemporaryFolder folder;
    std::vector<std::string> warnings;
    BestCheckpoints best(folder.path(), 1, [&](const std::string& warning) { warnings.push_back(warning); });
    const auto add = [&](double loss, std::int64_t micro_step) {
      best.add({loss, micro_step}, [&](const std::filesystem::path& path) { folder.write(path.filename(), std::to_string(loss)); });
      CHECK(read_file(folder / "best.safetensors") == std::to_string(loss));
      CHECK_FALSE(std::filesystem::is_symlink(folder / "best.safetensors"));
      CHECK(std::filesystem::hard_link_count(folder / "best.safetensors") == (without_hard_links ? 1 : 2));
    };
    refuses_symbolic_links = true;
    refuses_hard_links = without_hard_links;
    add(3, 1);
    add(2, 5);
    best.remove_others();
    refuses_symbolic_links = refuses_hard_links = false;
    CHECK(names_in(folder.path()) == std::vector<std::string>{"best.safetensors", "step_000000005.safetensors"});
    CHECK(warnings == std::vector<std::string>{(folder / "best.safetensors").string() + ": a " + (without_hard_links ? "copy" : "hard link") +
                                               ", since the file system has no symbolic links (Operation not permitted)"});
  }
}

TEST_CASE("the last checkpoint is the best one if there is no other") {
  const TemporaryFolder folder;
  BestCheckpoints best(folder.path(), 1);
  const auto save_last = [&](const char* content) {
    best.save_last([&](const std::filesystem::path& path) { folder.write(path.filename(), content); });
    CHECK(read_file(folder / "last.safetensors") == content);
  };
  save_last("first");
  CHECK(std::filesystem::read_symlink(folder / "best.safetensors") == "last.safetensors");
  best.add({2, 1}, [&](const std::filesystem::path& path) { folder.write(path.filename(), "best"); });
  save_last("second");
  best.remove_others();
  CHECK(read_file(folder / "best.safetensors") == "best");
}

}  // namespace mblm::testing
