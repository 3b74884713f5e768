// A bundle's graph in OpenVINO: images in, raw scores and maps out.
#pragma once

#include <memory>
#include <string>

#include "pixels.h"
#include "sidecar.h"

namespace vqi {

class Graph {
public:
    // Reads and checks the files of the bundle, and compiles. `threads` 0 = OpenVINO's choice.
    Graph(const std::string &folder, const Sidecar &sidecar, int threads);
    ~Graph();
    Graph(const Graph &) = delete;

    // Raw score and map of one image, [h, w, 3] of the input size; one thread at a time.
    std::pair<double, Map> run(const Rgb &image);

private:
    struct Loaded;
    std::unique_ptr<Loaded> loaded_;
};

std::string openvino_version();

}  // namespace vqi
