// mblm score, compress and decompress as a user runs them, and the page of score.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "engine/io/file.h"
#include "program/score_page.h"
#include "tests/run_program.h"
#include "tests/tiny_run.h"

namespace mblm::testing {
namespace {

using Arguments = std::vector<std::string>;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

struct Setup {
  TemporaryFolder folder;
  std::string model = folder / "model.safetensors";
  explicit Setup(const char* config = tiny_model) { save_tiny_model(model, config); }

  ProgramResult run(Arguments arguments, const std::string& input = {}) const {
    arguments.insert(arguments.begin() + 1, model);
    return run_program(arguments, input);
  }
  std::string output(const Arguments& arguments, const std::string& input = {}) const {
    const ProgramResult result = run(arguments, input);
    INFO(result.err);
    CHECK(result.status == 0);
    CHECK(result.err.empty());
    return result.out;
  }
  nlohmann::json json(const Arguments& arguments, const std::string& input = {}) const { return nlohmann::json::parse(output(arguments, input)); }
  // One line that contains `part`, nothing on standard output, and no new file.
  void refused(const Arguments& arguments, const std::string& part, const std::string& input = {}) const {
    const std::vector<std::string> before = listing(folder.path());
    const ProgramResult result = run(arguments, input);
    INFO(result.err);
    CHECK(result.status == 1);
    CHECK(result.out.empty());
    CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
    CHECK(result.err.starts_with("mblm: "));
    CHECK(contains(result.err, part));
    CHECK(listing(folder.path()) == before);
  }
};

// The cells of a page in order, as "text" of each <b class=...>.
std::string without_tags(const std::string& html) {
  std::string text;
  bool in_tag = false;
  for (const char c : html) {
    if (c == '<') in_tag = true;
    if (!in_tag) text += c;
    if (c == '>') in_tag = false;
  }
  return text;
}

std::string page_of(const TemporaryFolder& folder, const std::string& content, double bits = 1.5, const std::string& name = "f") {
  ScorePage page(folder / "page.html", "m");
  page.begin_file(name);
  for (const char c : content) page.add(static_cast<std::uint8_t>(c), bits);
  page.end_file("");
  page.commit();
  const std::string html = read_file(folder / "page.html");
  const std::size_t begin = html.find("<section>"), end = html.find("</section>");
  REQUIRE(end != std::string::npos);
  return html.substr(begin, end - begin);
}

}  // namespace

TEST_CASE("score: files, their total and standard input, in every form") {
  const Setup setup;
  const std::string a = setup.folder.write("a", words(5000)), b = setup.folder.write("b", std::string(300, '\0') + "\xff\xfe"), empty = setup.folder.write("empty", "");
  const nlohmann::json all = setup.json({"score", a, b, empty, "--json"}), alone = setup.json({"score", b, "--json"});
  const std::int64_t a_bytes = std::ssize(read_file(a));
  CHECK(all["bytes"] == a_bytes + 302);
  CHECK(all["files"].size() == 3);
  CHECK(all["files"][1]["bits_per_byte"] == alone["bits_per_byte"]);  // each file begins anew
  CHECK(all["files"][1]["file"] == b);
  CHECK(all["files"][1]["bytes"] == 302);
  CHECK(all["files"][2]["bits_per_byte"].is_null());
  const double a_bits = all["files"][0]["bits_per_byte"], b_bits = alone["bits_per_byte"], total = all["bits_per_byte"];
  CHECK(total == doctest::Approx((a_bits * static_cast<double>(a_bytes) + b_bits * 302) / static_cast<double>(a_bytes + 302)).epsilon(1e-12));
  CHECK(b_bits > 1);  // byte 0 is the model's padding id
  CHECK(setup.json({"score", "--json"}, read_file(b))["bits_per_byte"] == alone["bits_per_byte"]);
  CHECK(setup.json({"score", "-", "--json", "--threads", "1"}, read_file(b))["files"][0]["file"] == "standard input");
  CHECK(setup.json({"score", empty, "--json"})["bits_per_byte"].is_null());

  std::istringstream table(setup.output({"score", a, empty, b}));
  std::string heading, name;
  std::getline(table, heading);
  CHECK(heading == "bits per byte          bytes  file");
  std::string bits;
  std::int64_t bytes = 0;
  std::vector<std::string> names;
  while (table >> bits >> bytes >> name) names.push_back(bits + " " + std::to_string(bytes) + " " + name);
  REQUIRE(names.size() == 4);
  CHECK(names[1] == "- 0 " + empty);
  CHECK(names[3].ends_with(" " + std::to_string(a_bytes + 302) + " total"));
  CHECK(std::abs(std::stod(names[0]) - a_bits) < 1e-5);
}

TEST_CASE("score: the bits of each byte add up to the total") {
  const Setup setup;
  const std::string file = setup.folder.write("text", words(4500));
  const nlohmann::json json = setup.json({"score", file, "--json"});
  const double expected = json["bits_per_byte"].get<double>() * json["bytes"].get<double>();
  std::istringstream lines(setup.output({"score", file, "--per-byte"}));
  const std::string text = read_file(file);
  double sum = 0, bits = 0;
  std::int64_t count = 0, offset = 0;
  int byte = 0;
  std::vector<std::string> remarks;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("#")) {
      remarks.push_back(line);
      continue;
    }
    REQUIRE(std::sscanf(line.c_str(), "%ld %d %lf", &offset, &byte, &bits) == 3);
    REQUIRE(offset == count);
    REQUIRE(byte == static_cast<unsigned char>(text[static_cast<std::size_t>(count)]));
    sum += bits;
    ++count;
  }
  CHECK(count == std::ssize(text));
  CHECK(sum == doctest::Approx(expected).epsilon(1e-5));
  CHECK(remarks.size() == 3);
  CHECK(remarks[1] == "# " + file);

  std::istringstream objects(setup.output({"score", file, "--per-byte", "--json"}));
  sum = 0;
  count = 0;
  nlohmann::json object;
  for (std::string line; std::getline(objects, line);) {
    object = nlohmann::json::parse(line);
    if (!object.contains("offset")) break;
    CHECK(object["offset"] == count++);
    sum += object["bits"].get<double>();
  }
  CHECK(count == std::ssize(text));
  CHECK(sum == doctest::Approx(expected).epsilon(1e-9));
  CHECK(object == json);
}

TEST_CASE("score: a file beyond a fixed context is scored in windows, and the output says so") {
  const Setup setup(fixed_model);  // 16 bytes, 128 ids
  const std::string text = words(40).substr(0, 40), file = setup.folder.write("text", text), page = setup.folder / "page.html";
  const std::string remark = "scored in 3 windows that do not overlap, each from the start token: the fixed context is 16 bytes";
  CHECK(contains(setup.output({"score", file, "--html", page}), "# " + file + ": " + remark + "\n"));
  CHECK(contains(read_file(page), "<p>" + remark + "</p>"));
  const ProgramResult result = setup.run({"score", file, "--json"});
  CHECK(result.err == "mblm: " + file + ": " + remark + "\n");
  const nlohmann::json whole = nlohmann::json::parse(result.out);
  CHECK(whole["files"][0]["windows"] == 3);
  CHECK(whole["files"][0]["window_bytes"] == 16);
  double bits = 0;
  for (std::size_t begin = 0; begin < 40; begin += 16) {
    const nlohmann::json part = setup.json({"score", "--json"}, text.substr(begin, 16));
    CHECK(!part["files"][0].contains("windows"));
    bits += part["bits_per_byte"].get<double>() * part["bytes"].get<double>();
  }
  CHECK(whole["bits_per_byte"].get<double>() * 40 == doctest::Approx(bits).epsilon(1e-12));
}

TEST_CASE("score: the whole page; nothing is written after an error") {
  const Setup setup;
  const std::string file = setup.folder.write("<b>&'\"", "Caf\xc3\xa9 <script>alert(1)</script>\n\xff\tend"), page = setup.folder / "page.html";
  setup.output({"score", file, "--html", page});
  const std::string html = read_file(page);
  CHECK(html.starts_with("<!DOCTYPE html>"));
  CHECK(html.ends_with("</html>\n"));
  CHECK(contains(html, "&lt;b&gt;&amp;&#39;&quot;</h2>"));
  CHECK(!contains(html, "<script>alert"));
  CHECK(!contains(html, "http"));  // nothing is loaded
  const Setup few(fixed_model);
  const std::string bad = few.folder.write("bad", words(5000).substr(0, 4999) + "\x80");
  few.refused({"score", bad, "--html", few.folder / "page.html"}, bad + ": offset 4999: expected a byte below 128, the number of ids of the model, found 128");
}

TEST_CASE("score: files that cannot be read") {
  const Setup setup;
  const std::string file = setup.folder.write("a", "abc");
  setup.refused({"score", file, setup.folder / "missing"}, (setup.folder / "missing").string() + ": cannot be read: ");
  setup.refused({"score", setup.folder.path()}, "expected a file, found a folder");
  setup.refused({"score", file, "--html", setup.folder / "missing/page.html"}, "cannot create the file");
  setup.refused({"score", file, "--html", file}, "--html: expected another file than those to score, got " + file);
}

TEST_CASE("page: text is shown as characters, each byte with its bits") {
  const TemporaryFolder folder;
  // Few bytes that are no characters: more of them would show the content as numbers.
  const std::string plain = "\n" + std::string(500, 'x');
  const std::string text = page_of(folder, "a<&\n\tb\r\x7f\x01 \xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xe2\x80\xae\xff\xc3" + plain);
  CHECK(contains(text, ">a</b><b class=c3>&lt;</b><b class=c3>&amp;</b><b class=c3>↵</b></p>"));
  CHECK(contains(text, ">→\t</b>"));
  CHECK(contains(text, ">␍</b><b class=c3>␡</b><b class=c3>␁</b><b class=c3> </b>"));
  CHECK(contains(text, "<b data-n=2 style='background:linear-gradient(90deg,#fedd83 0 50%,#fedd83 0 100%)'>é</b>"));
  CHECK(contains(text, ">€</b>"));
  CHECK(contains(text, "<b data-n=4"));
  CHECK(contains(text, ">U+202e</b>"));  // would turn the direction of the text
  CHECK(contains(text, "<b class='c3 x'>ff</b><b class='c3 x'>c3</b>"));
  CHECK(contains(text, "data-o=0 data-b='1.50 1.50 1.50 1.50'"));
  CHECK(contains(text, "data-o=4 "));
  for (const auto& [bits, level] : {std::pair{0.0, 0}, {0.3, 1}, {5.9, 6}, {6.0, 7}, {11.0, 9}, {40.0, 9}})
    CHECK(contains(page_of(folder, "a", bits), "<b class=c" + std::to_string(level) + ">a</b>"));
}

TEST_CASE("page: binary content is shown as numbers, and long content in rows of its own") {
  const TemporaryFolder folder;
  std::string binary;
  for (int i = 0; i < 10000; ++i) binary += static_cast<char>(i * 7 % 256);
  const std::string page = page_of(folder, binary);
  CHECK(contains(page, "<p class='r h' data-o=0 "));
  CHECK(contains(page, "<b class=c3>00</b><b class=c3>07</b>"));
  CHECK(contains(page, "data-o=9984 "));
  CHECK(!contains(page, "data-o=9983 "));
  // Characters that the parts of the content split, over many rows.
  std::string text;
  while (text.size() < 9000) text += "h\xc3\xa9\xe2\x82\xacllo ";
  const std::string long_text = without_tags(page_of(folder, text));
  std::string shown;
  for (const char c : long_text)
    if (c != '\n') shown += c;
  CHECK(shown.starts_with(text));
  // The curve has at most 512 points.
  CHECK(contains(page, "<polyline"));
  const std::string points = page.substr(page.find("points='"));
  CHECK(std::count(points.begin(), points.end(), ',') <= 512);
  CHECK(std::count(points.begin(), points.end(), ',') > 250);
}

TEST_CASE("page: well-formed UTF-8 is recognized") {
  for (const char* text : {"a", "\x7f", "\xc2\x80", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"}) CHECK(utf8_character(text) == std::string(text).size());
  for (const char* text : {"", "\x80", "\xc1\xbf", "\xc3", "\xc3(", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xe2\x82", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80"})
    CHECK(utf8_character(text) == 0);
}

TEST_CASE("profile: means over equal intervals, at most 512") {
  Profile profile;
  for (int i = 0; i < 512; ++i) profile.add(i);
  CHECK(profile.interval() == 1);
  CHECK(profile.means().size() == 512);
  CHECK(profile.means()[511] == 511);
  for (int i = 512; i < 1025; ++i) profile.add(i);
  CHECK(profile.interval() == 4);
  CHECK(profile.means().size() == 257);
  CHECK(profile.means()[1] == 5.5);
  CHECK(profile.means()[256] == 1024);
}

TEST_CASE("compress and decompress: files return, from a pipe too, for any number of threads and streams") {
  const Setup setup;
  const std::string packed = setup.folder / "packed", back = setup.folder / "back";
  std::string binary;
  for (int i = 0; i < 700; ++i) binary += static_cast<char>(i * i * 31 >> 3);
  for (const std::string& content : {std::string(), std::string("x"), words(3000), binary}) {
    const std::string file = setup.folder.write("content", content);
    for (const Arguments& more : {Arguments{}, {"--streams", "7"}, {"--threads", "1"}, {"--precision", "bfloat16"}}) {
      Arguments arguments{"compress", file, "-o", packed};
      arguments.insert(arguments.end(), more.begin(), more.end());
      CHECK(setup.run(arguments).status == 0);
      std::filesystem::remove(back);
      arguments = {"decompress", packed, "-o", back};
      if (more.size() > 0 && more[0] == "--precision") arguments.insert(arguments.end(), more.begin(), more.end());
      if (more.size() > 0 && more[0] == "--threads") arguments.insert(arguments.end(), {"--threads", "3"});
      const ProgramResult result = setup.run(arguments);
      INFO(result.err);
      CHECK(result.status == 0);
      CHECK(result.out.empty());
      CHECK(read_file(back) == content);
    }
    CHECK(setup.output({"compress", "-", "-o", setup.folder / "piped"}, content).empty());
    CHECK(setup.output({"decompress", setup.folder / "piped", "-o", back}).empty());
    CHECK(read_file(back) == content);
  }
}

TEST_CASE("score and compress: a named pipe is read to its end") {
  const Setup setup;
  const std::string content = words(3000), file = setup.folder.write("content", content), pipe = setup.folder / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  const auto run_with_pipe = [&](const Arguments& arguments) {
    std::thread writer([&] {
      const FileDescriptor out(::open(pipe.c_str(), O_WRONLY | O_CLOEXEC));
      CHECK(write_all(out.number(), content.data(), content.size()) == content.size());
    });
    const std::string output = setup.output(arguments);
    writer.join();
    return output;
  };
  CHECK(replaced(run_with_pipe({"score", pipe}), pipe, file) == setup.output({"score", file}));
  run_with_pipe({"compress", pipe, "-o", setup.folder / "piped"});
  setup.output({"compress", file, "-o", setup.folder / "packed"});
  CHECK(read_file(setup.folder / "piped") == read_file(setup.folder / "packed"));
  setup.refused({"decompress", pipe, "-o", setup.folder / "back"}, pipe + ": expected a file, found a device or pipe");  // does not wait for a writer
}

TEST_CASE("compress: the file is as large as the score says") {
  const Setup setup;
  const std::string file = setup.folder.write("text", words(60000)), packed = setup.folder / "packed";
  const nlohmann::json score = setup.json({"score", file, "--json"});
  const double bytes = score["bits_per_byte"].get<double>() * score["bytes"].get<double>() / 8;
  setup.output({"compress", file, "-o", packed});
  const auto size = static_cast<double>(std::filesystem::file_size(packed));
  CHECK(size > bytes);
  CHECK(size < bytes * 1.001 + 80);  // the header
}

TEST_CASE("decompress: a wrong model and other files are refused in one line; nothing is written") {
  const Setup setup;
  const std::string file = setup.folder.write("content", words(500)), packed = setup.folder / "packed", back = setup.folder / "back";
  setup.output({"compress", file, "-o", packed});
  setup.refused({"decompress", file, "-o", back}, file + ": expected a file that mblm compress wrote");
  setup.refused({"decompress", setup.folder / "missing", "-o", back}, "missing: cannot be read: ");
  setup.refused({"decompress", setup.folder.path(), "-o", back}, "found a folder");
  setup.refused({"compress", setup.folder / "missing", "-o", back}, "missing: cannot be read: ");
  setup.refused({"decompress", packed, "-o", setup.folder.path()}, "expected a file, found a folder");
  const Setup other(fixed_model);
  other.refused({"decompress", packed, "-o", other.folder / "back"}, packed + ": compressed with another model");
  std::string damaged = read_file(packed);
  damaged[damaged.size() / 2] ^= 4;
  const std::string changed = setup.folder.write("changed", damaged);
  setup.refused({"decompress", changed, "-o", back}, changed + ": damaged: the file was cut or changed");
}

TEST_CASE("compress: a signal ends it and removes the unfinished file") {
  const Setup setup;
  const std::string file = setup.folder.write("content", words(30'000'000));
  const std::size_t files = setup.folder.count();
  for (const int signal : {SIGINT, SIGTERM}) {
    RunningProgram program({"compress", setup.model, file, "-o", setup.folder / "packed"});
    for (int i = 0; i < 3000 && setup.folder.count() == files && !program.ended(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    std::this_thread::sleep_for(std::chrono::milliseconds(100));  // the scope of the signal begins before the file
    program.send(signal);
    const ProgramResult result = program.wait();
    CHECK(result.status == 128 + signal);
    CHECK(result.err == std::string("mblm: stopped by ") + (signal == SIGINT ? "SIGINT" : "SIGTERM") + "; no file was written\n");
    CHECK(setup.folder.count() == files);
  }
}

TEST_CASE("score, compress and decompress: help and wrong command lines") {
  for (const char* command : {"score", "compress", "decompress"}) {
    const ProgramResult help = run_program({command, "--help"});
    CHECK(help.status == 0);
    CHECK(contains(help.out, std::string("Usage: mblm ") + command));
  }
  for (const Arguments& arguments : {Arguments{"score"}, {"compress", "m", "f"}, {"compress", "m", "-o", "f"}, {"compress", "m", "f", "-o", "g", "--streams", "0"},
                                     {"compress", "m", "f", "-o", "g", "--streams", "257"}, {"decompress", "m", "f"}, {"decompress", "m", "f", "-o", "g", "--streams", "2"},
                                     {"compress", "m", "f", "-o", "-"}, {"decompress", "m", "f", "-o", "-"}, {"decompress", "m", "-", "-o", "g"}, {"score", "m", "f", "--html", "-"}}) {
    const ProgramResult result = run_program(arguments);
    CHECK(result.status == 2);
    CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  }
}

}  // namespace mblm::testing
