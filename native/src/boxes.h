// Which regions of a map are marked, and the boxes around them (components/vqi/evaluation/box_rule.py, pictures.py).
#pragma once

#include <optional>
#include <vector>

#include "pixels.h"
#include "vqi.h"

namespace vqi {

// What marked regions lie above; infinite where nothing is to be marked. `fraction`: of the bundle's rule.
double marking_level(const Map &map, bool defect, std::optional<double> fraction,
                     std::optional<double> pixel_threshold);

// A box around each connected region (eight neighbours) above the level, the highest score first.
std::vector<vqi_box> find_boxes(const Map &map, double level);

}  // namespace vqi
