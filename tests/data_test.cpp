// The plain text data sets: their sequences, and errors for invalid files.
#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <numeric>
#include <set>
#include <thread>

#include "engine/error.h"
#include "engine/random.h"
#include "tests/small_model.h"
#include "tests/system_calls.h"
#include "tests/temporary_folder.h"
#include "train/data/byte_scan.h"
#include "train/data/byte_stream.h"
#include "train/data/dataset.h"

namespace mblm::testing {
namespace {

std::string sequence(const Dataset& dataset, std::int64_t epoch, std::int64_t index) {
  const std::vector<std::int64_t> ids = read_batch(dataset, {epoch, index, 1}).ids.to_vector<std::int64_t>();
  return std::string(ids.begin(), ids.end());
}

// All sequences of epoch 0, concatenated.
std::string all_of(const Dataset& dataset) {
  std::string text;
  for (std::int64_t i = 0; i < dataset.size(0); ++i) text += sequence(dataset, 0, i);
  return text;
}

std::unique_ptr<Dataset> make(const char* id, const std::filesystem::path& path, Split split, std::int64_t length) {
  return DatasetRegistry().make(id, {.path = path, .split = split, .length = length});
}

std::string words_of_text(std::size_t size) {
  std::string text;
  for (int i = 0; text.size() < size; ++i) text += std::to_string(i) + " words ";
  return text.substr(0, size);
}

std::string counting(std::size_t size) {
  std::string text(size, '\0');
  std::iota(text.begin(), text.end(), '\0');
  return text;
}

}  // namespace

TEST_CASE("a stream concatenates the files in byte order of their paths") {
  const TemporaryFolder folder;
  folder.write("b.txt", "bb");
  folder.write("a.txt", "a");
  folder.write("B.txt", "BBB");
  folder.write("10.txt", "1");
  folder.write("9.txt", "9999");
  folder.write("9.empty", "");
  std::filesystem::create_directory(folder / "no_file_in_it");
  const ByteStream stream(folder.path());
  CHECK(stream.size() == 11);
  for (std::int64_t begin = 0; begin <= 11; ++begin) {
    for (std::int64_t end = begin; end <= 11; ++end) {
      std::vector<std::uint8_t> bytes(static_cast<std::size_t>(end - begin));
      stream.read(begin, bytes);
      CHECK(std::string(bytes.begin(), bytes.end()) == std::string("19999BBBabb").substr(static_cast<std::size_t>(begin), bytes.size()));
    }
  }
  std::vector<std::uint8_t> beyond(2);
  CHECK_THROWS_AS(stream.read(10, beyond), ValueError);
  CHECK(stream.describe(7) == (folder / "B.txt").string() + ": offset 2");
}

TEST_CASE("a stream includes subfolders and reports skipped files") {
  const TemporaryFolder folder, elsewhere;
  folder.write("b.txt", "4");
  folder.write("a/z/deep.txt", "1");
  folder.write("a/z.txt", "0");
  folder.write("a_first", "3");
  folder.write("a/zz", "2");
  folder.write("a/.hidden", ".");
  folder.write("a/none", "");
  folder.write("c/none", "");
  folder.write(".git/index", "not read");
  elsewhere.write("linked", "5");
  std::filesystem::create_directory_symlink(elsewhere.path(), folder / "c/link");
  REQUIRE(::mkfifo((folder / "c/pipe").c_str(), 0600) == 0);
  const ByteStream stream(folder.path());
  std::string text(static_cast<std::size_t>(stream.size()), ' ');
  stream.read(0, std::span(reinterpret_cast<std::uint8_t*>(text.data()), text.size()));
  CHECK(text == "012345");
  const std::string path = folder.path().string();
  CHECK(stream.warnings() == std::vector<std::string>{path + ": 2 skipped (empty), e.g. " + path + "/a/none",
                                                      path + ": 1 skipped (hidden file), e.g. " + path + "/a/.hidden",
                                                      path + ": 1 skipped (hidden folder), e.g. " + path + "/.git",
                                                      path + ": 1 skipped (not a regular file), e.g. " + path + "/c/pipe"});
  CHECK(ByteStream(folder / "a/z").warnings().empty());
  CHECK(ByteStream(folder / "a/.hidden").size() == 1);  // named itself
  CHECK(ByteStream(folder / ".git").size() == 8);
  folder.write("dots/.a", "1");
  CHECK(message_of<FileError>([&] { ByteStream(folder / "dots"); }) == path + "/dots: expected files, the folder contains none that are not hidden");
}

TEST_CASE("a stream rejects cyclic links") {
  const TemporaryFolder folder;
  folder.write("a/b/file", "text");
  std::filesystem::create_directory_symlink(folder / "a", folder / "a/b/back");
  const std::string link = (folder / "a/b/back").string(), outer = (folder / "a").string();
  CHECK(message_of<FileError>([&] { ByteStream(folder.path()); }) == link + ": expected a folder, got a link to " + outer + ", which contains it");
  std::filesystem::remove(link);
  std::filesystem::create_symlink("nowhere", link);
  CHECK(message_of<FileError>([&] { ByteStream(folder.path()); }) == link + ": cannot be read: No such file or directory");
}

TEST_CASE("a stream can have more files than a process can open") {
  const TemporaryFolder folder;
  std::string expected;
  for (int i = 100; i < 200; ++i) {
    folder.write(std::to_string(i), std::string(3, static_cast<char>(i)));
    expected += std::string(3, static_cast<char>(i));
  }
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  rlimit few = before;
  few.rlim_cur = 32;
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
  std::string text;
  const std::string message = message_of<FileError>([&] {
    const ByteStream stream(folder.path());
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(stream.size()));
    stream.read(0, bytes);
    text.assign(bytes.begin(), bytes.end());
  });
  ::setrlimit(RLIMIT_NOFILE, &before);
  CHECK(message == "(nothing was thrown)");
  CHECK(text == expected);
}

TEST_CASE("threads read a stream at the same time") {
  const TemporaryFolder folder;
  constexpr int files = 12, threads = 4;
  std::string text;
  for (int i = 0; i < files; ++i) {
    const std::string part = counting(static_cast<std::size_t>(90 + i));
    folder.write(concat_text("file", 10 + i), part);
    text += part;
  }
  const ByteStream stream(folder.path());
  // Each read waits, within the system call, until all threads have arrived there.
  std::atomic<int> arrived = 0;
  std::atomic<bool> alone = false;
  {
    const HookedSystemCalls hooked({.pread = [&](int) {
      ++arrived;
      for (const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20); arrived < threads && !alone;) {
        std::this_thread::yield();
        if (std::chrono::steady_clock::now() > end) alone = true;
      }
      return 0;
    }});
    std::vector<std::thread> readers;
    for (int i = 0; i < threads; ++i)
      readers.emplace_back([&, i] {
        std::vector<std::uint8_t> bytes(10);
        stream.read(i / 2 * 100, bytes);  // two threads in the same file
      });
    for (std::thread& reader : readers) reader.join();
  }
  CHECK_FALSE(alone);
  // Many threads read all files, more than stay open, in different orders.
  std::atomic<int> wrong = 0;
  std::vector<std::thread> readers;
  for (int i = 0; i < threads; ++i)
    readers.emplace_back([&, i] {
      std::vector<std::uint8_t> bytes(50);
      for (std::size_t read = 0; read < 2000; ++read) {
        const std::size_t at = (read * (2 * static_cast<std::size_t>(i) + 1) * 37) % (text.size() - bytes.size());
        stream.read(static_cast<std::int64_t>(at), bytes);
        wrong += text.compare(at, bytes.size(), std::string(bytes.begin(), bytes.end())) != 0;
      }
    });
  for (std::thread& reader : readers) reader.join();
  CHECK(wrong == 0);
}

TEST_CASE("a folder that cannot be read to its end is reported") {
  const TemporaryFolder folder;
  folder.write("train/a", "0123456789");
  int calls = 0;
  const HookedSystemCalls hooked({.readdir = [&] { return ++calls > 2 ? EIO : 0; }});
  CHECK(message_of<FileError>([&] { make("pg19", folder.path(), Split::Train, 4); }) == (folder / "train").string() + ": cannot be read: Input/output error");
}

TEST_CASE("files: the end of a file, or of a folder with files only, is for validation and test") {
  const TemporaryFolder folder;
  const std::string text = counting(250);  // 5 %: 12 bytes
  folder.write("one/all.bin", text);
  folder.write("two/1", text.substr(0, 230));
  folder.write("two/2", text.substr(230));
  for (const std::filesystem::path& path : {folder / "one/all.bin", folder / "one", folder / "two"}) {
    CAPTURE(path);
    CHECK(all_of(*make("files", path, Split::Train, 2)) == text.substr(0, 226));
    CHECK(all_of(*make("files", path, Split::Test, 2)) == text.substr(226, 12));
    CHECK(all_of(*make("files", path, Split::Validation, 2)) == text.substr(238));
  }
}

TEST_CASE("files: a folder with train/ has its splits in subfolders") {
  const TemporaryFolder folder;
  folder.write("data/train/x", "train");
  folder.write("data/validation/x", "valid");
  folder.write("data/ignored", "ignored");
  CHECK(all_of(*make("files", folder / "data", Split::Train, 5)) == "train");
  CHECK(all_of(*make("files", folder / "data", Split::Validation, 5)) == "valid");
  CHECK(make("files", folder / "data", Split::Test, 5) == nullptr);
  folder.write("data/test/x", "test!");
  CHECK(all_of(*make("files", folder / "data", Split::Test, 5)) == "test!");
}

TEST_CASE("the validation folder may be called valid or val") {
  for (const char* id : {"files", "pg19"}) {
    for (const char* name : {"validation", "valid", "val"}) {
      const TemporaryFolder folder;
      folder.write("train/x", counting(40));
      folder.write(std::string(name) + "/x", "validation");
      folder.write("test/x", "test");
      CHECK(all_of(*make(id, folder.path(), Split::Validation, 10)) == "validation");
      CHECK(make(id, folder.path(), Split::Validation, 10)->describe() == "10 bytes: " + (folder.path() / name / "x").string());
    }
    const TemporaryFolder folder;
    folder.write("train/x", counting(40));
    CHECK_THROWS_WITH_AS(make(id, folder.path(), Split::Validation, 10), ((folder / "validation").string() + ": expected a file or a folder, there is none").c_str(),
                         FileError);
  }
  const TemporaryFolder folder;
  folder.write("a", counting(60));
  folder.write("b", counting(40));
  CHECK(make("files", folder.path(), Split::Train, 10)->describe() == "90 bytes: 0 to 90 of the 100 of 2 files of " + folder.path().string());
  CHECK(make("files", folder.path(), Split::Validation, 5)->describe() == "5 bytes: 95 to 100 of the 100 of 2 files of " + folder.path().string());
}

TEST_CASE("each epoch starts a byte later, and each worker has its own part") {
  const TemporaryFolder folder;
  folder.write("train/x", counting(43));
  DatasetRequest request{.path = folder.path(), .length = 4, .worker = 1, .workers = 2};
  const auto second = DatasetRegistry().make("pg19", request);  // bytes 21 to 42
  CHECK(second->size(0) == 5);
  CHECK(second->size(1) == 5);
  CHECK(second->size(2) == 4);
  CHECK(second->size(4) == 5);
  CHECK(sequence(*second, 0, 0) == counting(43).substr(21, 4));
  CHECK(sequence(*second, 3, 1) == counting(43).substr(21 + 3 + 4, 4));
  CHECK(sequence(*second, 7, 1) == sequence(*second, 3, 1));
  CHECK_THROWS_AS(sequence(*second, 2, 4), ValueError);
}

TEST_CASE("a shuffled epoch contains each sequence once, in its own order") {
  const TemporaryFolder folder;
  folder.write("train/x", counting(200));
  const auto dataset = make("pg19", folder.path(), Split::Train, 2);
  std::vector<std::vector<std::int64_t>> orders;
  for (const std::uint32_t epoch : {0u, 2u}) {
    std::vector<std::int64_t> first_bytes;
    for (std::int64_t first = 0; first < 99; first += 3) {
      const Batch batch = read_batch(*dataset, {epoch, first, 3, RandomKey{7, site_of("shuffle"), epoch}});
      CHECK(batch.ids.shape() == Shape{3, 2});
      CHECK_FALSE(batch.loss_mask.defined());
      for (int row = 0; row < 3; ++row) first_bytes.push_back(batch.ids.host_data<std::int64_t>()[row * 2]);
    }
    CHECK(std::set<std::int64_t>(first_bytes.begin(), first_bytes.end()).size() == 99);
    CHECK_FALSE(std::is_sorted(first_bytes.begin(), first_bytes.end()));
    orders.push_back(first_bytes);
  }
  CHECK(orders[0] != orders[1]);
  const Batch in_order = read_batch(*dataset, {1, 4, 2});
  CHECK(in_order.ids.to_vector<std::int64_t>() == std::vector<std::int64_t>{9, 10, 11, 12});
  CHECK_THROWS_AS(read_batch(*dataset, {0, 98, 3}), ValueError);
}

TEST_CASE("invalid data is reported") {
  const TemporaryFolder folder;
  const std::string root = folder.path().string();
  const auto message = [&](const char* id, const std::string& path, std::int64_t length) {
    return message_of<FileError>([&] { make(id, path, Split::Train, length); });
  };
  CHECK(message("pg19", root, 4) == root + "/train: expected a file or a folder, there is none");
  CHECK(message("files", root + "/no", 4) == root + "/no: expected a file or a folder, there is none");
  std::filesystem::create_directory(folder / "train");
  CHECK(message("pg19", root, 4) == root + "/train: expected files, the folder contains none");
  folder.write("train/a", "");
  CHECK(message("pg19", root, 4) == root + "/train: expected at least 4 bytes of text for one sequence, found 0");
  folder.write("train/b", "abc");
  CHECK(message("pg19", root, 4) == root + "/train: expected at least 4 bytes of text for one sequence, found 3");
  CHECK(make("pg19", root, Split::Train, 3)->size(0) == 1);
  CHECK(message("files", folder.write("short", counting(79)).string(), 74) ==
        root + "/short: expected at least 74 bytes of text for one sequence, found 73 in the train part");
}

TEST_CASE("a file that cannot be read, or is truncated while in use, is reported") {
  const TemporaryFolder folder;
  const std::filesystem::path text = folder.write("train/text", "0123456789");
  std::filesystem::create_symlink("nowhere", folder / "train/zlink");
  const std::string link = (folder / "train/zlink").string();
  CHECK(message_of<FileError>([&] { make("pg19", folder.path(), Split::Train, 4); }) == link + ": cannot be read: No such file or directory");
  std::filesystem::remove(link);
  const auto dataset = make("pg19", folder.path(), Split::Train, 4);
  CHECK(sequence(*dataset, 0, 1) == "4567");
  std::filesystem::resize_file(text, 6);
  CHECK(sequence(*dataset, 0, 0) == "0123");
  CHECK(message_of<FileError>([&] { sequence(*dataset, 0, 1); }) ==
        text.string() + ": expected 10 bytes, found 6: the file was truncated while in use");
}

TEST_CASE("a byte outside the vocabulary is reported with its place") {
  const TemporaryFolder folder;
  folder.write("train/a", "abc");
  folder.write("train/b", "defgh");
  const auto open = [&](std::int64_t num_tokens) { return DatasetRegistry().make("pg19", {.path = folder.path(), .length = 4, .num_tokens = num_tokens}); };
  CHECK(sequence(*open('i'), 0, 1) == "efgh");
  CHECK(message_of<ValueError>([&] { open('g'); }) == (folder / "train/b").string() + ": offset 3: expected bytes below num_tokens 103, found 103");
}

TEST_CASE("the registry accepts custom data sets") {
  struct Ones : Dataset {
    std::int64_t size(std::int64_t) const override { return 5; }
    std::int64_t length() const override { return 3; }
    SequenceParts parts() const override { return {.loss_mask = true}; }
    void read(std::int64_t, std::int64_t index, const Sequence& out) const override {
      std::fill(out.ids.begin(), out.ids.end(), index);
      std::fill(out.loss_mask.begin(), out.loss_mask.end(), 0.5f);
    }
  };
  DatasetRegistry registry;
  registry.add("ones", [](const DatasetRequest& request) { return request.split == Split::Train ? std::make_unique<Ones>() : nullptr; });
  CHECK(registry.ids() == std::vector<std::string>{"clevr", "files", "ones", "pg19", "pg19masked"});
  const auto dataset = registry.make("ones", {});
  const Batch batch = read_batch(*dataset, {0, 3, 2});
  CHECK(batch.ids.to_vector<std::int64_t>() == std::vector<std::int64_t>{3, 3, 3, 4, 4, 4});
  CHECK(batch.loss_mask.to_vector<float>() == std::vector<float>(6, 0.5f));
  CHECK(registry.make("ones", {.split = Split::Test}) == nullptr);
  CHECK_THROWS_AS(registry.make("ones", {.split = Split::Validation}), Error);
  CHECK_THROWS_AS(registry.add("pg19", {}), ValueError);
  CHECK(message_of<ConfigError>([&] { registry.make("pg20", {}); }) == "io.dataset_id: expected one of clevr, files, ones, pg19, pg19masked, got \"pg20\"");
  const DatasetRequest with_arguments{.arguments = std::make_shared<const std::string>("x: 1")};
  CHECK(message_of<ConfigError>([&] { registry.make("files", with_arguments); }) == "io.dataset_args: expected none for data set files, got \"x: 1\"");
}

TEST_CASE("a part of a file says which part it is, and all of it can be read") {
  const TemporaryFolder folder;
  const std::string text = counting(200), path = folder.write("data", text).string();
  CHECK(make("files", path, Split::Test, 2)->extent() == path + ": bytes 180 to 189 of 200");
  CHECK(make("files", path, Split::All, 2)->extent().empty());
  CHECK(all_of(*make("files", path, Split::All, 2)) == text);
  for (const char* split : {"train", "validation", "test"}) folder.write(std::string("splits/") + split + "/a", split);
  CHECK(make("files", folder / "splits", Split::Test, 2)->extent().empty());
  for (const char* id : {"files", "pg19"}) CHECK(all_of(*make(id, folder / "splits", Split::All, 1)) == "testtrainvalidation");
}

TEST_CASE("a fingerprint changes with the bytes and their number, not with times or names of folders") {
  const TemporaryFolder folder;
  const auto fingerprint = [&](const char* name, const std::string& text, std::int64_t worker = 0) {
    folder.write(concat_text(name, "/train/a"), text.substr(0, 700));
    folder.write(concat_text(name, "/train/b"), text.substr(700));
    DatasetRequest request{.path = folder / name, .split = Split::Train, .length = 32, .worker = worker, .workers = 2};
    return DatasetRegistry().make("files", request)->fingerprint();
  };
  const std::string text = words_of_text(2000);
  const std::string first = fingerprint("one", text);
  CHECK(fingerprint("two", text) == first);
  CHECK(fingerprint("two", text, 1) != first);
  for (const std::size_t at : {0, 500, 999}) {
    std::string other = text;
    other[at] ^= 1;
    CHECK(fingerprint("two", other) != first);
  }
  CHECK(fingerprint("two", text + "more") != first);
  // Any other data set: samples of its sequences.
  struct Numbers : Dataset {
    std::int64_t offset;
    explicit Numbers(std::int64_t first_id) : offset(first_id) {}
    std::int64_t size(std::int64_t) const override { return 1000; }
    std::int64_t length() const override { return 2; }
    void read(std::int64_t, std::int64_t index, const Sequence& out) const override {
      require<FileError>(index != 0, "unreadable");  // is no error here
      std::fill(out.ids.begin(), out.ids.end(), index + offset);
    }
  };
  CHECK(Numbers(0).fingerprint() == Numbers(0).fingerprint());
  CHECK(Numbers(0).fingerprint() != Numbers(1).fingerprint());
}

TEST_CASE("a scan of a large text reads blocks that include its ends") {
  const TemporaryFolder folder;
  const std::string path = folder.write("data", "first").string();
  std::filesystem::resize_file(path, static_cast<std::uintmax_t>(2 * longest_scan));  // zeros, without disk space
  std::ofstream(path, std::ios::binary | std::ios::app) << "last";
  const ByteStream stream(path);
  const ByteScan scan = scan_bytes(stream, 0, stream.size());
  CHECK(scan.bytes == longest_scan);
  CHECK(scan.counts['f'] == 1);
  CHECK(scan.counts['l'] == 1);
  CHECK(scan.share_of(0) == doctest::Approx(1));
  CHECK(scan.share_of(256) == 0);
  const ByteScan small = scan_bytes(stream, 1, 5);
  CHECK(small.bytes == 4);
  CHECK(small.share_of('s') == 0.25);
}

TEST_CASE("a batch knows whether a byte counts in the loss") {
  const TemporaryFolder folder;
  const ModelConfig model = config_of("[1, 4]", "[8, 8]", "[1, 1]", "{attn_head_dims: 8, attn_num_heads: 1, attn_use_rot_embs: true}");
  const auto has_loss = [&](std::vector<std::int64_t> ids, std::vector<float> weights) {
    struct One : Dataset {
      std::vector<std::int64_t> ids;
      std::vector<float> weights;
      std::int64_t size(std::int64_t) const override { return 1; }
      std::int64_t length() const override { return std::ssize(ids); }
      SequenceParts parts() const override { return {.loss_mask = !weights.empty()}; }
      void read(std::int64_t, std::int64_t, const Sequence& out) const override {
        std::copy(ids.begin(), ids.end(), out.ids.begin());
        std::copy(weights.begin(), weights.end(), out.loss_mask.begin());
      }
    } one;
    one.ids = std::move(ids);
    one.weights = std::move(weights);
    return read_batch(one, {0, 0, 1}, model).has_loss;
  };
  const std::int64_t pad = model.pad_token_id;
  CHECK(has_loss({1, 2, 3}, {}));
  CHECK(has_loss({pad, pad, 3}, {}));
  CHECK_FALSE(has_loss({pad, pad, pad}, {}));
  CHECK_FALSE(has_loss({1, 2, pad}, {0, 0, 1}));
  CHECK(has_loss({1, 2, pad}, {0, 0.5, 1}));
}

}  // namespace mblm::testing
