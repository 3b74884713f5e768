// A bundle, checked and loaded; photographs in, decisions out (components/vqi/deployment/predictor.py).
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "graph.h"
#include "sidecar.h"
#include "vqi.h"

namespace vqi {

struct Prediction {
    double score, threshold, level, seconds;
    vqi_decision decision;
    std::string implausible;
    Map map;
    std::vector<vqi_box> boxes;
};

// As in vqi_options.
struct Choices {
    std::string backend;
    int threads = 0;
    bool score_implausible = false, skip_golden = false;
};

class Predictor {
public:
    // Throws GateRefused where the golden photographs of the bundle are not scored as its sidecar says.
    Predictor(const std::string &folder, const Choices &choices);

    // Any number of threads at once.
    Prediction predict_file(const std::string &path);
    Prediction predict_bytes(const Bytes &bytes, const std::string &name);
    Prediction predict_frame(const vqi_frame &frame, const std::string &name);

    const Sidecar &sidecar() const { return sidecar_; }

private:
    Prediction predict(const Rgb &photograph, const std::string &name);

    Sidecar sidecar_;
    Graph graph_;
    Profiles profiles_;
    std::mutex graph_turn_;
    bool score_implausible_;
};

}  // namespace vqi
