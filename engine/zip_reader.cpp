#include "engine/zip_reader.h"

#include <minizip/unzip.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <type_traits>

#include "engine/error.h"

namespace mblm {
namespace {

// What minizip takes for a file: bytes and a place among them.
struct Cursor {
  std::span<const std::byte> bytes;
  std::size_t at = 0;
};

Cursor& cursor_of(void* stream) { return *static_cast<Cursor*>(stream); }

zlib_filefunc64_def memory_functions(Cursor& cursor) {
  zlib_filefunc64_def functions{};
  functions.opaque = &cursor;
  functions.zopen64_file = [](void* opaque, const void*, int) { return opaque; };
  functions.zread_file = [](void*, void* stream, void* out, uLong wanted) -> uLong {
    Cursor& in = cursor_of(stream);
    const std::size_t count = std::min<std::size_t>(wanted, in.bytes.size() - in.at);
    if (count > 0) std::memcpy(out, in.bytes.data() + in.at, count);
    in.at += count;
    return count;
  };
  functions.zwrite_file = [](void*, void*, const void*, uLong) -> uLong { return 0; };
  functions.ztell64_file = [](void*, void* stream) -> ZPOS64_T { return cursor_of(stream).at; };
  functions.zseek64_file = [](void*, void* stream, ZPOS64_T offset, int origin) -> long {
    Cursor& in = cursor_of(stream);
    const std::size_t base = origin == ZLIB_FILEFUNC_SEEK_SET ? 0 : origin == ZLIB_FILEFUNC_SEEK_CUR ? in.at : in.bytes.size();
    if (offset > in.bytes.size() - base) return -1;
    in.at = base + static_cast<std::size_t>(offset);
    return 0;
  };
  functions.zclose_file = [](void*, void*) { return 0; };
  functions.zerror_file = [](void*, void*) { return 0; };
  return functions;
}

struct Close {
  void operator()(void* zip) const { unzClose(zip); }
};
using Zip = std::unique_ptr<std::remove_pointer_t<unzFile>, Close>;

class Lister {
 public:
  Lister(const std::string& origin, std::span<const std::byte> file) : origin_(origin), cursor_{file} {
    zlib_filefunc64_def functions = memory_functions(cursor_);
    zip_.reset(unzOpen2_64("", &functions));
    require<FileError>(zip_ != nullptr, origin_, ": expected a whole zip file, as torch.save writes it, found no end of one in ", file.size(), " bytes");
  }

  std::map<std::string, ZipRecord> run() {
    unz_global_info64 all{};
    check(unzGetGlobalInfo64(zip_.get(), &all));
    int status = all.number_entry == 0 ? UNZ_END_OF_LIST_OF_FILE : unzGoToFirstFile(zip_.get());
    for (; status == UNZ_OK; status = unzGoToNextFile(zip_.get())) add_record();
    require<FileError>(status == UNZ_END_OF_LIST_OF_FILE && records_.size() == all.number_entry, origin_, ": expected ", all.number_entry,
                       " records of the zip file, found ", records_.size());
    return std::move(records_);
  }

 private:
  void check(int status) const {
    require<FileError>(status == UNZ_OK, origin_, ": expected a zip file in order, found damage after record ", records_.size());
  }

  void add_record() {
    unz_file_info64 info{};
    check(unzGetCurrentFileInfo64(zip_.get(), &info, nullptr, 0, nullptr, 0, nullptr, 0));
    std::string name(info.size_filename, '\0');
    check(unzGetCurrentFileInfo64(zip_.get(), &info, name.data(), name.size(), nullptr, 0, nullptr, 0));
    const auto [place, is_new] = records_.try_emplace(name);
    require<FileError>(is_new, origin_, ": expected each record of the zip file once, found ", shown_text(name), " twice");
    constexpr uLong encrypted = 1;
    if (info.compression_method != 0 || (info.flag & encrypted) != 0) return;
    check(unzOpenCurrentFile2(zip_.get(), nullptr, nullptr, 1));
    const ZPOS64_T begin = unzGetCurrentFileZStreamPos64(zip_.get());
    check(unzCloseCurrentFile(zip_.get()));
    const std::size_t size = cursor_.bytes.size();
    require<FileError>(info.compressed_size == info.uncompressed_size && begin <= size && info.uncompressed_size <= size - begin, origin_,
                       ": expected record ", shown_text(name), " within the ", size, " bytes of the file, found ", info.uncompressed_size,
                       " bytes at byte ", begin);
    place->second = {.stored = true, .begin = static_cast<std::size_t>(begin), .bytes = static_cast<std::size_t>(info.uncompressed_size)};
  }

  const std::string& origin_;
  Cursor cursor_;
  Zip zip_;
  std::map<std::string, ZipRecord> records_;
};

}  // namespace

std::map<std::string, ZipRecord> list_zip_records(const std::string& origin, std::span<const std::byte> file) { return Lister(origin, file).run(); }

}  // namespace mblm
