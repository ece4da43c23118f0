#include "mblm/compress.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <deque>
#include <limits>
#include <vector>

#include "engine/io/atomic_file.h"
#include "engine/io/byte_reader.h"
#include "engine/io/hash.h"
#include "mblm/byte_frequencies.h"
#include "mblm/compressed_header.h"
#include "mblm/generator.h"
#include "mblm/predict_stream.h"

namespace mblm {
namespace {

constexpr std::size_t block_bytes = 1 << 16;  // of a file that is read or written at once
constexpr std::int64_t progress_bytes = 256;  // content between two calls of on_progress

// The bytes of content of a stream: equal parts, with a fixed context of whole windows.
std::int64_t stream_bytes(const ModelConfig& config, std::int64_t content, std::int64_t streams, std::int64_t stream) {
  const std::int64_t window = config.fixed_context() ? config.context() : 1, windows = content / window + (content % window != 0);
  const std::int64_t part = (windows / streams + (windows % streams != 0)) * window;
  return std::clamp<std::int64_t>(content - stream * part, 0, part);
}

void add_digest(Hash& all, const Hash& stream) {
  const std::array<std::byte, 16> digest = stream.digest();
  all.add(digest.data(), digest.size());
}

std::uint64_t hash_of_content(std::span<const Hash> streams) {
  Hash all;
  for (const Hash& stream : streams) add_digest(all, stream);
  return all.short_digest();
}

// Codes the next `most` bytes of the input to the file. Returns the number of bytes of content and of the code.
struct CodedStream {
  std::int64_t content = 0, code = 0;
};
CodedStream code_stream(Scorer& scorer, ByteReader& input, std::int64_t most, AtomicFile& file, Hash& content_hash, Hash& code_hash,
                        const OnProgress& on_progress, std::optional<std::int64_t> total) {
  RangeEncoder encoder;
  ByteFrequencies frequencies;
  CodedStream coded;
  const auto flush = [&] {
    file.write(encoder.bytes().data(), encoder.bytes().size());
    code_hash.add(encoder.bytes().data(), encoder.bytes().size());
    coded.code += std::ssize(encoder.bytes());
    encoder.bytes().clear();
  };
  const auto add = [&](const PredictedChunk& chunk) {
    const std::size_t width = chunk.logits.size() / chunk.bytes.size();
    for (std::size_t i = 0; i < chunk.bytes.size(); ++i) encoder.encode(frequencies.of(chunk.logits.subspan(i * width, width)), chunk.bytes[i]);
    content_hash.add(chunk.bytes.data(), chunk.bytes.size());
    flush();
    if (on_progress) on_progress(input.offset(), total);
  };
  coded.content = predict_stream(scorer, input, add, most);
  encoder.finish();
  flush();
  return coded;
}

// A file for reading at any offset.
class CompressedFile {
 public:
  // O_NONBLOCK: a named pipe is refused without waiting for its writer.
  explicit CompressedFile(const std::string& name) : name_(name), file_(::open(name.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
    struct stat status {};
    if (!file_.is_open() || ::fstat(file_.number(), &status) != 0) throw_file_error(name, "cannot be read");
    require<FileError>(S_ISREG(status.st_mode), name, ": expected a file, found ", S_ISDIR(status.st_mode) ? "a folder" : "a device or pipe");
    size_ = static_cast<std::uint64_t>(status.st_size);
  }

  const std::string& name() const { return name_; }
  std::uint64_t size() const { return size_; }
  std::vector<std::uint8_t> read(std::uint64_t offset, std::uint64_t bytes) const {
    std::vector<std::uint8_t> block(bytes);
    const std::int64_t count = read_at(file_.number(), block.data(), block.size(), static_cast<std::int64_t>(offset));
    if (count < 0) throw_file_error(name_, "cannot be read");
    require<FileError>(count == std::ssize(block), name_, ": the file was cut while it was read");
    return block;
  }

 private:
  std::string name_;
  FileDescriptor file_;
  std::uint64_t size_ = 0;
};

CompressedHeader read_header(const CompressedFile& file) {
  const std::uint64_t start = std::min<std::uint64_t>(file.size(), CompressedHeader::largest_size);
  CompressedHeader header = CompressedHeader::read(file.read(0, start), file.size(), file.name());
  Hash codes;
  for (std::uint64_t at = header.size(); at < file.size(); at += block_bytes) {
    const std::vector<std::uint8_t> block = file.read(at, std::min<std::uint64_t>(block_bytes, file.size() - at));
    codes.add(block.data(), block.size());
  }
  require<FileError>(header.file_hash == header.hash_of_file(codes.short_digest()), file.name(), ": damaged: the file was cut or changed");
  return header;
}

// Decodes one stream. The generator's row predicts the next byte.
class DecodedStream {
 public:
  DecodedStream(const CompressedFile& file, std::uint64_t code_at, std::uint64_t code_bytes, std::int64_t content_at, std::int64_t content_bytes)
      : file_(file), code_at_(code_at), code_end_(code_at + code_bytes), content_at_(content_at), left_(content_bytes), decoder_([this] { return next_code_byte(); }) {}

  std::int64_t left() const { return left_; }
  const Hash& hash() const { return hash_; }
  std::size_t decode(Frequencies frequencies) {
    const std::size_t byte = decoder_.decode(frequencies);
    content_.push_back(static_cast<std::uint8_t>(byte));
    --left_;
    return byte;
  }
  // Writes the decoded bytes.
  void flush(AtomicFile& out) {
    out.write_at(static_cast<std::size_t>(content_at_), content_.data(), content_.size());
    hash_.add(content_.data(), content_.size());
    content_at_ += std::ssize(content_);
    content_.clear();
  }
  bool is_full() const { return content_.size() >= block_bytes; }

  Generator::Row row = 0;

 private:
  std::uint8_t next_code_byte() {
    if (next_ == block_.size() && code_at_ < code_end_) {
      block_ = file_.read(code_at_, std::min<std::uint64_t>(block_bytes, code_end_ - code_at_));
      code_at_ += block_.size();
      next_ = 0;
    }
    return next_ < block_.size() ? block_[next_++] : 0;
  }

  const CompressedFile& file_;
  std::uint64_t code_at_, code_end_;
  std::vector<std::uint8_t> block_;
  std::size_t next_ = 0;
  std::int64_t content_at_, left_;
  std::vector<std::uint8_t> content_;
  Hash hash_;
  RangeDecoder decoder_;  // last: it reads at once
};

// Decodes all streams, one byte of each at a time.
void decode(const Model& model, std::deque<DecodedStream>& streams, AtomicFile& out, std::int64_t total, const OnProgress& on_progress) {
  Generator generator(model);
  const std::int64_t window = model.config().fixed_context() ? model.config().context() : std::numeric_limits<std::int64_t>::max();
  ByteFrequencies frequencies;
  for (DecodedStream& stream : streams) stream.row = generator.join();
  std::vector<Generator::Row> rows;
  std::vector<std::int64_t> ids;
  for (std::int64_t done = 0, shown = 0; done < total;) {
    rows.clear();
    ids.clear();
    for (DecodedStream& stream : streams) {
      if (stream.left() == 0) continue;
      const auto id = static_cast<std::int64_t>(stream.decode(frequencies.of(generator.logits(stream.row))));
      ++done;
      if (stream.is_full()) stream.flush(out);
      if (stream.left() == 0) continue;
      if (generator.length(stream.row) + 1 == window) {
        generator.leave(stream.row);
        stream.row = generator.join();
      } else {
        rows.push_back(stream.row);
        ids.push_back(id);
      }
    }
    generator.step(rows, ids);
    if (on_progress && (done - shown >= progress_bytes || done == total)) on_progress(shown = done, total);
  }
  for (DecodedStream& stream : streams) stream.flush(out);
}

}  // namespace

CompressionResult compress_file(const Model& model, const std::string& from, const std::filesystem::path& to, const CompressOptions& options,
                                const OnProgress& on_progress) {
  require<ValueError>(options.streams >= 1 && options.streams <= CompressedHeader::most_streams, "compress: streams: expected 1 to ",
                      CompressedHeader::most_streams, ", got ", options.streams);
  ByteReader input(from);
  const std::optional<std::int64_t> total = input.size();
  require<ValueError>(total || options.streams == 1, input.name(), ": expected a file for several streams, found a pipe or device");
  Scorer scorer(model);
  CompressedHeader header;
  header.bits = PredictionBits::of(model);
  header.code_bytes.resize(static_cast<std::size_t>(options.streams));
  AtomicFile file(to);
  const std::vector<std::uint8_t> space(header.size());
  file.write(space.data(), space.size());
  std::vector<Hash> content(header.code_bytes.size());
  Hash codes;
  for (std::size_t i = 0; i < header.code_bytes.size(); ++i) {
    const std::int64_t most = options.streams == 1 ? std::numeric_limits<std::int64_t>::max()
                                                   : stream_bytes(model.config(), *total, options.streams, static_cast<std::int64_t>(i));
    const CodedStream coded = code_stream(scorer, input, most, file, content[i], codes, on_progress, total);
    require<FileError>(options.streams == 1 || coded.content == most, input.name(), ": the file was cut while it was read");
    header.code_bytes[i] = static_cast<std::uint64_t>(coded.code);
  }
  header.content_bytes = static_cast<std::uint64_t>(input.offset());
  header.content_hash = hash_of_content(content);
  header.file_hash = header.hash_of_file(codes.short_digest());
  const std::vector<std::uint8_t> start = header.bytes();
  file.write_at(0, start.data(), start.size());
  file.commit();
  CompressionResult result{input.offset(), static_cast<std::int64_t>(start.size())};
  for (const std::uint64_t bytes : header.code_bytes) result.file_bytes += static_cast<std::int64_t>(bytes);
  return result;
}

CompressionResult decompress_file(const Model& model, const std::string& from, const std::filesystem::path& to, const OnProgress& on_progress) {
  const CompressedFile file(from);
  const CompressedHeader header = read_header(file);
  header.check_bits(PredictionBits::of(model), from);
  AtomicFile out(to);
  const auto total = static_cast<std::int64_t>(header.content_bytes), count = std::ssize(header.code_bytes);
  std::deque<DecodedStream> streams;
  std::uint64_t code_at = header.size();
  std::int64_t content_at = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint64_t code_bytes = header.code_bytes[static_cast<std::size_t>(i)];
    const std::int64_t content_bytes = stream_bytes(model.config(), total, count, i);
    streams.emplace_back(file, code_at, code_bytes, content_at, content_bytes);
    code_at += code_bytes;
    content_at += content_bytes;
  }
  decode(model, streams, out, total, on_progress);
  Hash content;
  for (const DecodedStream& stream : streams) add_digest(content, stream.hash());
  require<FileError>(content.short_digest() == header.content_hash, from,
                     ": the decoded content differs from the original, although the file is intact: the predictions of the model have other bits here");
  out.commit();
  return {total, static_cast<std::int64_t>(file.size())};
}

}  // namespace mblm
