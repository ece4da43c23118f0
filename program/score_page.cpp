#include "program/score_page.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "engine/error.h"

namespace mblm {
namespace {

constexpr std::size_t sample_bytes = 4096;      // decide between text and binary
constexpr std::size_t write_bytes = 1 << 16;    // of the page at once
constexpr std::int64_t longest_row = 512;       // bytes of a line of text
constexpr std::size_t hex_row = 32;             // bytes of a row of numbers
constexpr std::size_t most_intervals = 512;

// Levels of colour: the bits where each begins, and its background. Dark ones have white text.
struct Level {
  double from;
  const char* colour;
};
constexpr std::array<Level, 10> levels{{{0, "#ffffff"}, {0.25, "#fff8dc"}, {0.5, "#feeeb0"}, {1, "#fedd83"}, {2, "#febf5a"}, {3, "#fd9d46"}, {4, "#fb7536"},
                                        {6, "#e8432c"}, {8, "#bd1633"}, {11, "#700f3b"}}};
constexpr std::size_t first_dark = 7;

std::size_t level_of(double bits) {
  std::size_t level = 0;
  while (level + 1 < levels.size() && bits >= levels[level + 1].from) ++level;
  return level;
}

std::string number(double value, int digits) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string hex(std::uint32_t value, int digits) {
  char text[16];
  std::snprintf(text, sizeof text, "%0*x", digits, value);
  return text;
}

std::string escape_html(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&': escaped += "&amp;"; break;
      case '<': escaped += "&lt;"; break;
      case '>': escaped += "&gt;"; break;
      case '"': escaped += "&quot;"; break;
      case '\'': escaped += "&#39;"; break;
      default: escaped += c;
    }
  }
  return escaped;
}

std::uint32_t code_point(std::string_view c) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(c[i])); };
  if (c.size() == 1) return byte(0);
  std::uint32_t value = byte(0) & (0x7fu >> c.size());
  for (std::size_t i = 1; i < c.size(); ++i) value = value << 6 | (byte(i) & 0x3f);
  return value;
}

// Characters that show nothing, or change how others are shown.
bool is_invisible(std::uint32_t c) {
  const auto in = [c](std::uint32_t first, std::uint32_t last) { return c >= first && c <= last; };
  return in(0x80, 0x9f) || c == 0xad || c == 0x61c || c == 0x180e || in(0x200b, 0x200f) || in(0x2028, 0x202e) || in(0x2060, 0x206f) || in(0xfe00, 0xfe0f) ||
         c == 0xfeff || in(0xfff0, 0xfffb) || (c & 0xfffe) == 0xfffe || in(0xe0000, 0xe0fff);
}

std::string utf8(std::uint32_t c) {  // of a code point in [0x800, 0xffff]
  return {static_cast<char>(0xe0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 0x3f)), static_cast<char>(0x80 | (c & 0x3f))};
}

// Text has no zero bytes and few bytes that are neither characters nor common controls.
bool looks_binary(std::string_view bytes, bool is_all) {
  std::size_t strange = 0;
  for (std::size_t at = 0; at < bytes.size();) {
    const auto c = static_cast<unsigned char>(bytes[at]);
    const std::size_t size = utf8_character(bytes.substr(at));
    if (c == 0) return true;
    if (size == 0 && !is_all && at + 4 > bytes.size()) break;  // a character that the sample cuts
    if (size == 0 || (c < 0x20 && c != '\t' && c != '\n' && c != '\r' && c != '\f' && c != 0x1b)) ++strange;
    at += std::max<std::size_t>(size, 1);
  }
  return strange * 10 > bytes.size();
}

constexpr std::string_view style = R"(
:root{color-scheme:light}
body{margin:0 auto;max-width:75rem;padding:1rem 1.5rem 4rem;background:#fff;color:#1a1a1a;font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.3rem;margin:0}h2{font-size:1.1rem;margin:0;overflow-wrap:anywhere}
.legend{position:sticky;top:0;z-index:1;display:flex;flex-wrap:wrap;gap:.25rem;align-items:center;padding:.5rem 0;background:#fff;border-bottom:1px solid #ccc}
.legend b{font-weight:400;padding:0 .5em;border:1px solid #ddd;border-radius:3px}
section{display:flex;flex-direction:column;margin-top:1.5rem}
section header{order:-1;margin-bottom:.5rem}
section header p{margin:.1rem 0;color:#555}
svg{display:block;width:100%;height:5rem;background:#fafafa;border:1px solid #ddd}
.r{margin:0;padding-left:6.5rem;position:relative;font:14px/1.6 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere;content-visibility:auto;contain-intrinsic-size:auto 1.6em}
.r::before{content:attr(data-o);position:absolute;left:0;width:5.5rem;text-align:right;color:#999;user-select:none}
.r b{font-weight:400;unicode-bidi:isolate}
.r b:hover{outline:2px solid #1461c9}
.h{white-space:pre;overflow-x:auto}.h b{padding:0 .2em}.h i{font-style:normal;color:#555;padding-left:1em}
.x{font-size:11px;padding:0 2px;border:1px solid #bbb;border-radius:3px}
.w{color:#fff}
#s{position:fixed;bottom:0;left:0;right:0;padding:.4rem 1.5rem;background:#1a1a1a;color:#fff;font:14px ui-monospace,monospace;min-height:1.4em}
)";

// Shows the numbers of the byte under the pointer.
constexpr std::string_view script = R"(
document.addEventListener('mouseover',e=>{
const b=e.target.closest('.r b');if(!b)return;
const r=b.parentNode,n=+(b.dataset.n||1),all=r.dataset.b.split(' ');let at=0;
for(let p=b.previousElementSibling;p;p=p.previousElementSibling)at+=+(p.dataset.n||1);
const bits=all.slice(at,at+n).map(Number),sum=bits.reduce((a,c)=>a+c,0);
document.getElementById('s').textContent='offset '+(+r.dataset.o+at)+(n>1?' to '+(+r.dataset.o+at+n-1):'')+'   '+JSON.stringify(b.textContent)+'   '
+(n>1?bits.map(x=>x.toFixed(2)).join(' + ')+' = ':'')+sum.toFixed(2)+' bits   probability '+Math.pow(2,-sum).toPrecision(3)});
)";

std::string palette() {
  std::string css;
  for (std::size_t i = 0; i < levels.size(); ++i) css += concat_text(".c", i, "{background:", levels[i].colour, i >= first_dark ? ";color:#fff}" : "}");
  return css;
}

std::string legend() {
  std::string html = "<div class=legend>bits per byte:";
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const std::string from = concat_text(levels[i].from);
    html += concat_text(" <b class=c", i, ">", i + 1 == levels.size() ? from + " and more" : concat_text(from, "–", levels[i + 1].from), "</b>");
  }
  return html + "</div>\n";
}

// The means over the file as a curve.
std::string curve(const Profile& profile) {
  const std::vector<double> means = profile.means();
  if (means.size() < 8) return {};
  const double highest = std::max(1.0, *std::max_element(means.begin(), means.end()));
  std::string points;
  for (std::size_t i = 0; i < means.size(); ++i)
    points += concat_text(i == 0 ? "" : " ", number(1000.0 * static_cast<double>(i) / static_cast<double>(means.size() - 1), 1), ',', number(98 - 96 * means[i] / highest, 1));
  return concat_text("<svg viewBox='0 0 1000 100' preserveAspectRatio=none role=img aria-label='bits per byte over the file'><polyline fill=none stroke='#b5302a' stroke-width=1.5 vector-effect=non-scaling-stroke points='", points, "'/></svg><p>mean of ", profile.interval(), profile.interval() == 1 ? " byte" : " bytes", " at a time, from 0 to ", number(highest, 2), " bits</p>");
}

}  // namespace

void Profile::add(double value) {
  if (count_++ % interval_ == 0) {
    if (sums_.size() == most_intervals) {
      for (std::size_t i = 0; i < most_intervals / 2; ++i) sums_[i] = sums_[2 * i] + sums_[2 * i + 1];
      sums_.resize(most_intervals / 2);
      interval_ *= 2;
    }
    sums_.push_back(0);
  }
  sums_.back() += value;
}

std::vector<double> Profile::means() const {
  std::vector<double> means;
  for (std::size_t i = 0; i < sums_.size(); ++i) {
    const std::int64_t begin = static_cast<std::int64_t>(i) * interval_;
    means.push_back(sums_[i] / static_cast<double>(std::min(interval_, count_ - begin)));
  }
  return means;
}

std::size_t utf8_character(std::string_view bytes) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  if (bytes.empty()) return 0;
  const unsigned char first = at(0);
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4) return 0;
  const std::size_t size = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  if (bytes.size() < size) return 0;
  // Shorter forms, surrogates and numbers above 10ffff are malformed.
  const unsigned char low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80, high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  if (at(1) < low || at(1) > high) return 0;
  for (std::size_t i = 2; i < size; ++i)
    if (at(i) < 0x80 || at(i) > 0xbf) return 0;
  return size;
}

ScorePage::ScorePage(const std::filesystem::path& path, const std::string& model) : file_(path) {
  write(concat_text("<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'><title>Bits per byte: ",
                    escape_html(model), "</title>\n<style>", style, palette(), "</style></head>\n<body><h1>Bits per byte, ", escape_html(model), "</h1>\n", legend()));
}

void ScorePage::begin_file(const std::string& name) {
  name_ = name;
  decided_ = is_binary_ = false;
  row_offset_ = count_ = 0;
  total_bits_ = 0;
  profile_ = {};
  write("<section>\n");
}

void ScorePage::add(std::uint8_t byte, double bits) {
  bytes_ += static_cast<char>(byte);
  bits_.push_back(bits);
  ++count_;
  total_bits_ += bits;
  profile_.add(bits);
  if (bytes_.size() >= sample_bytes) write_ready(false);
}

void ScorePage::end_file(const std::string& remark) {
  write_ready(true);
  write(concat_text("<header><h2>", escape_html(name_), "</h2><p>", count_, " bytes", count_ > 0 ? ", " + number(total_bits_ / static_cast<double>(count_), 5) + " bits per byte" : "",
                    "</p>", remark.empty() ? "" : "<p>" + escape_html(remark) + "</p>", curve(profile_), "</header></section>\n"));
}

void ScorePage::commit() {
  write(concat_text("<div id=s>Point at a byte to see its numbers.</div>\n<script>", script, "</script></body></html>\n"));
  file_.write(buffer_.data(), buffer_.size());
  file_.commit();
}

// Moves the bytes that have come to the page, except for a character that may be cut.
void ScorePage::write_ready(bool at_end) {
  if (!decided_) is_binary_ = looks_binary(bytes_, at_end);
  decided_ = true;
  std::size_t done = 0;
  std::string all;
  std::vector<double> all_bits;
  all.swap(bytes_);
  all_bits.swap(bits_);
  const std::size_t wanted = at_end ? 1 : is_binary_ ? hex_row : 4;
  while (all.size() - done >= wanted) {
    const std::string_view rest = std::string_view(all).substr(done);
    const std::span<const double> bits = std::span<const double>(all_bits).subspan(done);
    const std::size_t count = is_binary_ ? std::min(hex_row, rest.size()) : std::max<std::size_t>(utf8_character(rest), 1);
    if (is_binary_) {
      write_hex_row(rest.substr(0, count), bits.first(count));
    } else {
      write_character(rest.substr(0, count), bits.first(count));
    }
    done += count;
  }
  if (at_end) close_row();
  bytes_ = all.substr(done);
  bits_.assign(all_bits.begin() + static_cast<std::ptrdiff_t>(done), all_bits.end());
}

void ScorePage::add_bits(std::span<const double> bits) {
  for (const double value : bits) row_bits_ += (row_bits_.empty() ? "" : " ") + number(value, 2);
  row_bytes_ += std::ssize(bits);
}

void ScorePage::write_hex_row(std::string_view bytes, std::span<const double> bits) {
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto byte = static_cast<unsigned char>(bytes[i]);
    cells_ += concat_text("<b class=c", level_of(bits[i]), ">", hex(byte, 2), "</b>");
    text += byte >= 0x20 && byte < 0x7f ? bytes[i] : '.';
  }
  cells_ += concat_text("<i>", std::string((hex_row - bytes.size()) * 2, ' '), escape_html(text), "</i>");
  add_bits(bits);
  close_row();
}

// One cell: a character, whose bytes share its width, or a byte that is none.
void ScorePage::write_character(std::string_view bytes, std::span<const double> bits) {
  const auto first = static_cast<unsigned char>(bytes[0]);
  const std::size_t level = level_of(bits[0]);
  if (bytes.size() == 1) {
    const bool is_picture = first < 0x20 || first == 0x7f;  // U+2400 and later show the names of controls
    const std::string text = first == '\n'   ? "↵"
                             : first == '\t' ? "→\t"
                             : is_picture    ? utf8(first == 0x7f ? 0x2421 : 0x2400u + first)
                             : first >= 0x80 ? hex(first, 2)
                                             : escape_html(bytes);
    cells_ += first >= 0x80 ? concat_text("<b class='c", level, " x'>", text, "</b>") : concat_text("<b class=c", level, ">", text, "</b>");
  } else {
    const std::uint32_t code = code_point(bytes);
    std::string stops;
    std::size_t dark = 0;
    for (std::size_t i = 0; i < bits.size(); ++i) {
      const std::size_t own = level_of(bits[i]);
      dark += own >= first_dark ? 1 : 0;
      stops += concat_text(",", levels[own].colour, " 0 ", 100 * (i + 1) / bits.size(), "%");
    }
    const bool hidden = is_invisible(code);
    cells_ += concat_text("<b data-n=", bits.size(), hidden || dark * 2 > bits.size() ? concat_text(" class='", hidden ? "x" : "", dark * 2 > bits.size() ? " w'" : "'") : "",
                          " style='background:linear-gradient(90deg", stops, ")'>", hidden ? "U+" + hex(code, 4) : std::string(bytes), "</b>");
  }
  add_bits(bits);
  if (first == '\n' || row_bytes_ >= longest_row) close_row();
}

void ScorePage::close_row() {
  if (row_bytes_ == 0) return;
  write(concat_text("<p class='r", is_binary_ ? " h" : "", "' data-o=", row_offset_, " data-b='", row_bits_, "'>", cells_, "</p>\n"));
  row_offset_ += row_bytes_;
  row_bytes_ = 0;
  cells_.clear();
  row_bits_.clear();
}

void ScorePage::write(std::string_view text) {
  buffer_ += text;
  if (buffer_.size() < write_bytes) return;
  file_.write(buffer_.data(), buffer_.size());
  buffer_.clear();
}

}  // namespace mblm
