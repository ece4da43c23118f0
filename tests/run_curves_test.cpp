// mblm plot: reading the curves of runs, axes, and drawings.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numbers>
#include <string>

#include "engine/error.h"
#include "program/chart.h"
#include "program/figure.h"
#include "program/run_page.h"
#include "program/text_chart.h"
#include "tests/temporary_folder.h"

namespace mblm::testing {
namespace {

const std::string config_text = "params: {input_seq_len: 10}\ntrain: {target_elements_strategy: batch}\nsummary: {num_workers: 2}\n";
const std::string header = "gpu_rank,timestamp,elements_seen,kind,epoch,batch,cum_batch,loss,lr,avg_grad,avg_grad_clipped";
const std::string new_header = header + ",grad_norm,bytes_per_second,smoothed_loss\n";

std::filesystem::path run_in(const TemporaryFolder& folder, const std::string& name, const std::string& table, const std::string& config = config_text) {
  folder.write(name + "/config.yaml", config);
  folder.write(name + "/loss.csv", table);
  return folder / name;
}

std::string old_row(int elements, const char* kind, double loss, const char* second = "01.500000", int rank = 0) {
  return concat_text(rank, ",2024-01-31 12:00:", second, ",", elements, ",", kind, ",0,1,1,", loss, ",0.001,-1,-1\n");
}

RunCurves example() {
  RunCurves run{.folder = "runs/a<b", .name = "a<b"};
  for (int i = 0; i <= 100; ++i) {
    const double x = i * 1e5;
    run.training.push_back({x, 8 * std::exp(-i / 30.0) + 2 + 0.2 * std::sin(i)});
    run.smoothed.push_back({x, 8 * std::exp(-i / 30.0) + 2});
    run.learning_rate.push_back({x, 1e-3});
    run.bytes_per_second.push_back({x, 61e3});
  }
  run.validation = {{1e6, 8}, {5e6, 3.6}, {1e7, 2.4}};
  run.test = 2.5;
  return run;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::size_t widest_line(const std::string& text) {
  std::size_t widest = 0, width = 0;
  for (const char c : text) {
    width = c == '\n' ? 0 : width + ((c & 0xc0) != 0x80);  // characters of UTF-8
    widest = std::max(widest, width);
  }
  return widest;
}

}  // namespace

TEST_CASE("the curves of a run are read from its tables") {
  const TemporaryFolder folder;
  const double ln2 = std::numbers::ln2;
  const RunCurves run = read_run_curves(run_in(folder, "run", new_header + "0,t,1,train,0,0,0,4,0.001,-1,-1,-1,100,-1\n0,t,2,train,0,1,1,nan,0.002,-1,-1,0.5,200,3\n"
                                                              "0,t,2,valid,0,1,1,2,-1,-1,-1,-1,-1,-1\n0,t,-1,test,-1,-1,-1,1,-1,-1,-1,-1,-1,-1\n0,t,3,tra"));
  CHECK(run.name == "run");
  REQUIRE(run.training.size() == 2);
  CHECK(run.training[0].x == 20);  // bytes of two workers
  CHECK(run.training[0].y == doctest::Approx(4 / ln2));
  CHECK(std::isnan(run.training[1].y));
  REQUIRE(run.smoothed.size() == 1);
  CHECK(run.smoothed[0].y == doctest::Approx(3 / ln2));
  REQUIRE(run.validation.size() == 1);
  CHECK(run.validation[0].x == 40);
  REQUIRE(run.gradient_norm.size() == 1);
  CHECK(run.gradient_norm[0].y == 0.5);
  CHECK(run.bytes_per_second[1].y == 200);
  CHECK(run.learning_rate[1].y == 0.002);
  CHECK(*run.test == doctest::Approx(1 / ln2));
}

TEST_CASE("tables of earlier versions and of the Python package are read") {
  const TemporaryFolder folder;
  std::string table = header + "\n" + old_row(1, "train", 4) + old_row(1, "train", 2, "01.600000", 1) + old_row(3, "train", 2, "03.500000") +
                      old_row(3, "valid", 1, "09.000000") + old_row(5, "train", 2, "19.000000") + old_row(7, "train", 2, "20.000000");
  for (std::size_t at = 0; (at = table.find('\n', at)) != std::string::npos; at += 2) table.insert(at, "\r");  // as Python's csv module
  const RunCurves run = read_run_curves(run_in(folder, "run", table));
  REQUIRE(run.training.size() == 4);
  CHECK(run.training[0].y == doctest::Approx(3 / std::numbers::ln2));  // the mean over the workers
  CHECK(run.gradient_norm.empty());
  CHECK(run.smoothed.size() == 4);
  REQUIRE(run.bytes_per_second.size() == 2);  // not over the validation
  CHECK(run.bytes_per_second[0].y == doctest::Approx(20));
  CHECK(run.bytes_per_second[1].y == doctest::Approx(40));
  const RunCurves sequence = read_run_curves(run_in(folder, "bytes", table, "params: {input_seq_len: 10}\ntrain: {target_elements_strategy: sequence}\n"));
  CHECK(sequence.training[1].x == 3);
}

TEST_CASE("a folder that is not a run's is one clear error") {
  const TemporaryFolder folder;
  const auto error = [&](const std::filesystem::path& path) { return message_of<FileError>([&] { read_run_curves(path); }); };
  CHECK(error(folder / "none") == (folder / "none").string() + ": expected a run's folder, loss.csv is missing");
  const auto table = [&](const std::string& text) { return run_in(folder, "run", text); };
  const std::string file = (folder / "run/loss.csv").string();
  CHECK(error(table("")) == file + ":1: expected the header of a loss table, with a column elements_seen, found \"\"");
  CHECK(contains(error(table("a,b\n")), "with a column elements_seen, found \"a,b\""));
  CHECK(error(table(new_header)) == file + ": there are no losses yet");
  CHECK(error(table(header + "\n0,1\n")) == file + ":2: expected 11 fields, found 2");
  CHECK(error(table(header + "\n0,t,1,train,0,0,0,high,0,0,0\n")) == file + ":2: loss: expected a number, found \"high\"");
  for (const char* elements : {"nan", "inf", "1e300", "-5", ""})
    CHECK(error(table(concat_text(header, "\n0,t,", elements, ",train,0,0,0,1,0,0,0\n"))) ==
          concat_text(file, ":2: elements_seen: expected a number from 0 to 2^63, found \"", elements, "\""));
  CHECK(error(run_in(folder, "run", new_header, "params: {}\n")) == (folder / "run/config.yaml").string() + ": params.input_seq_len: expected a number of at least 1");
}

TEST_CASE("runs with extreme values are drawn") {
  const TemporaryFolder folder;
  for (const char* value : {"nan", "inf", "-inf", "1e308", "-1e308", "5e-324", "0", "-3"}) {
    CAPTURE(value);
    std::string table = new_header;
    for (const char* other : {value, "1", value})
      table += concat_text("0,t,", table.size(), ",train,0,0,0,", other, ",", other, ",0,0,", other, ",", other, ",", other, "\n0,t,", table.size(), ",valid,0,0,0,", other,
                           ",-1,-1,-1,-1,-1,-1\n");
    const std::vector<RunCurves> runs{read_run_curves(run_in(folder, "run", table))};
    CHECK(contains(text_charts(runs, {.width = 60}), "bytes seen"));
    const std::string page = run_page(runs), svg = page.substr(0, page.find("</svg>"));
    CHECK_FALSE(contains(svg, "nan"));
    CHECK_FALSE(contains(svg, "inf"));
  }
}

TEST_CASE("axes contain all values and have round ticks") {
  const Axis bytes = linear_axis(0, 2.4e6, 6, Unit::Bytes);
  REQUIRE(bytes.ticks.size() == 5);
  CHECK(bytes.ticks[0].label == "0");
  CHECK(bytes.ticks[1].label == "0.5 MB");
  CHECK(bytes.ticks[4].label == "2 MB");
  CHECK(bytes.place(1.2e6) == doctest::Approx(0.5));
  CHECK(linear_axis(0, 6e-5, 4, Unit::None).ticks[1].label == "2e-5");
  const Axis norms = logarithmic_axis(0.05, 300, 5, Unit::None);
  CHECK(norms.ticks.size() <= 5);
  CHECK(norms.ticks.size() >= 3);
  CHECK(norms.place(0.05) == 0);
  CHECK(norms.place(300) == doctest::Approx(1));
  for (const double value : {0.0, 1e-3, -2.0, 1e12}) {  // a single value
    const Axis axis = linear_axis(value, value, 5, Unit::None);
    CHECK(axis.place(value) > -1e-9);
    CHECK(axis.place(value) < 1 + 1e-9);
    CHECK(axis.ticks.size() <= 5);
    CHECK(axis.ticks.size() >= 1);
  }
  for (int decades = 1; decades < 40; ++decades) {
    const std::size_t count = logarithmic_axis(0.7, 0.9 * std::pow(10.0, decades), 4, Unit::None).ticks.size();
    CHECK(count >= 1);
    CHECK(count <= 5);
  }
}

TEST_CASE("the throughput of a long run is averaged over time") {
  RunCurves run = example();
  run.bytes_per_second.clear();
  for (int i = 0; i <= 1200; ++i) run.bytes_per_second.push_back({i * 10.0, i % 2 == 0 ? 100.0 : 300.0});
  const Curve speed = charts_of({run})[3].series.at(0).points;
  REQUIRE(speed.size() == 60);
  CHECK(speed.back().x == 12000);
  for (const CurvePoint& point : speed) CHECK(point.y == doctest::Approx(150));  // 20 bytes in 1/10 + 1/30 seconds
}

TEST_CASE("a long curve keeps its peaks when it is reduced") {
  Curve curve;
  for (int i = 0; i < 10000; ++i) curve.push_back({i * 1.0, i == 4321 ? 100.0 : i == 777 ? -100.0 : std::sin(i)});
  const Curve few = reduced(curve, linear_axis(0, 10000, 5, Unit::None), 50);
  CHECK(few.size() <= 102);
  const auto has = [&](double x) { return std::any_of(few.begin(), few.end(), [x](const CurvePoint& point) { return point.x == x; }); };
  CHECK(has(4321));
  CHECK(has(777));
}

TEST_CASE("the figure is an SVG with all labels and escaped names") {
  const std::vector<RunCurves> runs{example(), example()};
  const FigureSize size = figure_size(runs);
  const auto canvas = make_svg_canvas(size.width, size.height);
  draw_figure(*canvas, runs);
  const std::string svg = canvas->finish();
  for (const char* part : {"<svg xmlns=", "Bits per byte", "Learning rate", "Gradient norm", "Throughput", "not recorded", "bytes seen", "runs/a&lt;b", "validation", "10 MB",
                           "60 kB/s", "</svg>"}) {
    CAPTURE(part);
    CHECK(contains(svg, part));
  }
  CHECK_FALSE(contains(svg, "a<b"));
  CHECK_FALSE(contains(svg, "nan"));
  CHECK(contains(svg, run_colour(1)));
}

TEST_CASE("text for pages is escaped and valid") {
  CHECK(xml_text("<a href=\"&\">\n") == "&lt;a href=&quot;&amp;&quot;&gt;\n");
  CHECK(xml_text("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80") == "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
  for (const char* bad : {"\x01", "\xff", "\xc3", "\xc0\xaf", "\xed\xa0\x80", "\xf5\x80\x80\x80"}) CHECK(contains(xml_text(bad), "\xef\xbf\xbd"));
}

TEST_CASE("the text charts fit the width, in braille and in ASCII") {
  for (const std::size_t width : {30, 60, 80, 132})
    for (const bool unicode : {false, true}) {
      const std::string one = text_charts({example()}, {.width = width, .unicode = unicode});
      CAPTURE(one);
      CHECK(widest_line(one) <= width);
      CHECK(contains(one, "Bits per byte\n"));
      CHECK(contains(one, "Gradient norm: not recorded"));
      CHECK(contains(one, "o validation"));
      CHECK(contains(one, "\xe2\xa0") == unicode);
      CHECK(std::all_of(one.begin(), one.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; }) != unicode);
    }
  const std::string two = text_charts({example(), example()}, {.width = 80});
  CHECK(contains(two, "bbbb"));  // drawn over the same curve of a
  CHECK(contains(two, "B validation"));
  CHECK_FALSE(contains(two, "\x1b["));
  CHECK(contains(text_charts({example(), example()}, {.width = 80, .colours = true}), "\x1b[33m"));
}

TEST_CASE("the locale's environment decides on UTF-8") {
  const auto with = [](const char* all, const char* lang) {
    all == nullptr ? unsetenv("LC_ALL") : setenv("LC_ALL", all, 1);
    unsetenv("LC_CTYPE");
    setenv("LANG", lang, 1);
    return locale_is_utf8();
  };
  CHECK(with(nullptr, "en_US.UTF-8"));
  CHECK(with("", "de_DE.utf8"));
  CHECK_FALSE(with("C", "en_US.UTF-8"));
  CHECK_FALSE(with(nullptr, ""));
  unsetenv("LC_ALL");
}

TEST_CASE("the page of a run contains its curves, samples, warnings and config") {
  const TemporaryFolder folder;
  RunCurves run = read_run_curves(run_in(folder, "run", header + "\n" + old_row(1, "train", 4) + old_row(2, "train", 3)));
  CHECK(contains(run_page({run}), "input_seq_len: 10"));
  folder.write("run/train.log",
               "2024-01-31 12:00:00.123456 micro-step 5: sample after \"the \\\"<sea>\\\"\": \"was\\n\\xc3\\xa4 calm\"\n"
               "2024-01-31 12:00:01.123456 warning: the loss is stuck\n2024-01-31 12:00:02.123456 micro-step 9: sample after \"x\": \"y\\");
  const std::string page = run_page({run});
  CHECK(contains(page, "<svg"));
  CHECK(contains(page, "<span class=\"given\">the &quot;&lt;sea&gt;&quot;</span><span class=\"made\">was\n\xc3\xa4 calm</span>"));
  CHECK(contains(page, "<pre>warning: the loss is stuck"));
  CHECK(page.find("micro-step 9") < page.find("micro-step 5"));
  CHECK_FALSE(contains(page, "http://www.w3.org/1999"));
  CHECK_FALSE(contains(page, "src="));
}

}  // namespace mblm::testing
