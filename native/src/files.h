// Files, read whole.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vqi {

// The bytes of a file. Throws BadInput where it is not a file, cannot be read, or has more than `most` bytes.
std::vector<uint8_t> read_file(const std::string &path, uint64_t most);

std::string sha256_of(const std::vector<uint8_t> &data);

}  // namespace vqi
