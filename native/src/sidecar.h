// bundle.json: what a prediction needs of it, read strictly (components/vqi/deployment/sidecar.py).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "decoding.h"
#include "geometry.h"
#include "statistics.h"

namespace vqi {

// The files that the formats of a bundle share.
constexpr const char *INDEX = "index.safetensors", *GOLDEN = "golden.safetensors";

struct FileEntry {
    std::string sha256;
    uint64_t bytes;
};

struct IndexTensor {
    std::string name, dtype;
    std::vector<size_t> shape;
};

struct Thresholds {
    double image;
    std::optional<double> pixel;
};

struct Sidecar {
    std::string name, method, guarantee;
    Decoding decoding;
    Geometry geometry;
    std::vector<IndexTensor> index;
    Thresholds thresholds;
    std::optional<double> box_fraction;
    Plausibility plausibility;
    // The format that runs: its backend, and its files by their names in the bundle.
    std::string backend;
    std::string model;
    // The largest deviation that its parity gate let pass.
    double tolerance = 0;
    // How the detector scored the golden photographs, in the precision of the format; empty where the bundle has none.
    std::vector<double> golden;
    std::map<std::string, FileEntry> files;
};

// Reads the sidecar of a bundle folder for a backend ("" = the first of openvino, openvino-fp16 and openvino-int8 that
// is inside) with the thresholds that hold for it. Throws BadInput where it is missing, malformed, or states what the
// native program does not do.
Sidecar read_sidecar(const std::string &folder, const std::string &backend);

// The bytes of a file of the bundle, held against its hash. Throws BadInput where it is missing or differs.
std::vector<uint8_t> read_bundle_file(const std::string &folder, const std::string &name, const FileEntry &entry);

}  // namespace vqi
