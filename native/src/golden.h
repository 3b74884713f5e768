// The golden photographs of a bundle: what the network saw of a few, and how the detector scored them
// (components/vqi/deployment/golden.py).
#pragma once

#include <string>

#include "graph.h"
#include "sidecar.h"

namespace vqi {

// Scores the golden photographs of a bundle folder and holds the scores against its sidecar; nothing where it has none.
// Throws BadInput where they are damaged, GateRefused where a score deviates by more than the tolerance of the format.
void check_golden(const std::string &folder, const Sidecar &sidecar, Graph &graph);

}  // namespace vqi
