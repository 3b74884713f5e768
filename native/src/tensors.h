// The index of a bundle, from its safetensors file.
#pragma once

#include <map>
#include <openvino/runtime/tensor.hpp>
#include <string>
#include <vector>

#include "sidecar.h"

namespace vqi {

// The tensors of the file's bytes, by name. Throws BadInput where they are not those that the sidecar names.
std::map<std::string, ov::Tensor> read_tensors(const std::vector<uint8_t> &file,
                                               const std::vector<IndexTensor> &expected, const std::string &path);

}  // namespace vqi
