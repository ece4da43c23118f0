// The rows of the tables of a run, by the names of their columns.
#pragma once

#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "tests/temporary_folder.h"

namespace mblm::testing {

using Row = std::map<std::string, std::string>;

inline std::vector<Row> rows_of(const std::filesystem::path& file) {
  std::vector<Row> rows;
  std::vector<std::string> names;
  std::istringstream lines(read_file(file));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::vector<std::string> values;
    for (std::string value; std::getline(fields, value, ',');) values.push_back(value);
    if (names.empty()) {
      names = values;
      continue;
    }
    Row row;
    for (std::size_t i = 0; i < names.size(); ++i) row[names[i]] = values.at(i);
    rows.push_back(row);
  }
  return rows;
}

// The rows with this value in the column `kind`.
inline std::vector<Row> rows_of(const std::filesystem::path& file, const std::string& kind) {
  std::vector<Row> rows = rows_of(file);
  std::erase_if(rows, [&](const Row& row) { return row.at("kind") != kind; });
  return rows;
}

}  // namespace mblm::testing
